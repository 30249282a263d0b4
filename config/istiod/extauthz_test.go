package istiod

import (
	"slices"
	"testing"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
)

// shadowRules are what istiod puts before a filter that asks: rules of two providers,
// whose names the filters tell apart.
var shadowRules = httpFilter("shadow", "rbac.v3.RBAC", `"shadow_rules_stat_prefix":"istio_ext_authz_","shadow_rules":{"action":"DENY","policies":{
	"istio-ext-authz-one-ns[a]-policy[b]-rule[0]":{"permissions":[{"url_path":{"path":{"exact":"/one"}}}],"principals":[{"any":true}]},
	"istio-ext-authz-two-ns[a]-policy[c]-rule[0]":{"permissions":[{"url_path":{"path":{"exact":"/two"}}}],"principals":[{"any":true}]}}}`)

const shadowKey = `{"key":"istio_ext_authz_shadow_effective_policy_id"}`

// A filter asks about the requests of its own shadow rules, and about no others.
func TestGateTakesItsOwnRules(t *testing.T) {
	for name, tt := range map[string]struct {
		gate     string
		provider string
		paths    []string // of /one, /two and /other; nil: closed
	}{
		"prefix":            {gateOf(rbacMetadata, shadowKey, `{"string_match":{"prefix":"istio-ext-authz-one-"}}`), "one", []string{"/one"}},
		"exact":             {gateOf(rbacMetadata, shadowKey, `{"string_match":{"exact":"istio-ext-authz-two-ns[a]-policy[c]-rule[0]"}}`), "two-ns[a]-policy[c]-rule[0]", []string{"/two"}},
		"both":              {gateOf(rbacMetadata, shadowKey, `{"string_match":{"prefix":"istio-ext-authz-"}}`), "", []string{"/one", "/two"}},
		"no gate":           {`"failure_mode_allow":false`, "x", []string{"/one", "/two", "/other"}},
		"of nobody":         {gateOf(rbacMetadata, shadowKey, `{"string_match":{"prefix":"istio-ext-authz-three-"}}`), "", nil},
		"exact of a prefix": {gateOf(rbacMetadata, shadowKey, `{"string_match":{"exact":"istio-ext-authz-one-"}}`), "", nil},
		"another key":       {gateOf(rbacMetadata, `{"key":"other"}`, `{"string_match":{"prefix":"istio-ext-authz-one-"}}`), "", nil},
		"two keys":          {gateOf(rbacMetadata, shadowKey+`,{"key":"x"}`, `{"string_match":{"prefix":"istio-ext-authz-one-"}}`), "", nil},
		"another filter":    {gateOf("other", shadowKey, `{"string_match":{"prefix":"istio-ext-authz-one-"}}`), "", nil},
		"in any case":       {gateOf(rbacMetadata, shadowKey, `{"string_match":{"prefix":"istio-ext-authz-one-","ignore_case":true}}`), "", nil},
		"suffix":            {gateOf(rbacMetadata, shadowKey, `{"string_match":{"suffix":"rule[0]"}}`), "", nil},
		"no string":         {gateOf(rbacMetadata, shadowKey, `{"present_match":true}`), "", nil},
		"inverted": {`"filter_enabled_metadata":{"filter":"envoy.filters.http.rbac","path":[` + shadowKey + `],
			"value":{"string_match":{"prefix":"istio-ext-authz-one-"}},"invert":true}`, "", nil},
	} {
		_, c := one(t, &mesh{filters: map[int]string{0: shadowRules + "," + extAuthzWith(tt.gate)}})
		if (c.Broken == "") != (tt.paths != nil) {
			t.Errorf("%s: broken %q", name, c.Broken)
		}
		if c.Broken != "" {
			continue
		}
		at := slices.IndexFunc(c.Stages, func(s config.CompiledStage) bool { return s.Kind == config.StageCustom })
		if at < 0 || len(c.Stages) != 1 {
			t.Fatalf("%s: %d stages", name, len(c.Stages))
		}
		for _, path := range []string{"/one", "/two", "/other"} {
			provider, d, asked := c.Stages[at].Authz.Custom(ask{path: path}.request())
			if asked != slices.Contains(tt.paths, path) || asked && provider != tt.provider || d.Allowed {
				t.Errorf("%s: %s: asked %v, provider %q, %+v", name, path, asked, provider, d)
			}
		}
	}
}

// TestExtAuthzSettings reads each field of both services.
func TestExtAuthzSettings(t *testing.T) {
	read := func(filter string) *extauthz.Config {
		t.Helper()
		model, c := one(t, &mesh{filters: map[int]string{0: filter}})
		if c.Broken != "" {
			t.Fatal(c.Broken)
		}
		for _, s := range model.Destinations[0].Stages {
			if cfg, ok := s.Spec.(*extauthz.Config); ok {
				if len(s.Policies) != 1 || s.Policies[0].Action != authz.Custom || s.Policies[0].Provider != cfg.Name {
					t.Errorf("policies %+v", s.Policies)
				}
				return cfg
			}
		}
		t.Fatal("no stage")
		return nil
	}
	g := read(httpFilter("f", "ext_authz.v3.ExtAuthz", `"grpc_service":{"envoy_grpc":{"cluster_name":"x","authority":"a.example"},"timeout":"3s"},
		"failure_mode_allow":true,"status_on_error":{"code":503},"clear_route_cache":true,"include_tls_session":true,
		"allowed_headers":{"patterns":[{"exact":"X-A"},{"prefix":"b-"},{"suffix":"-c"},{"contains":"d"}]},
		"with_request_body":{"max_request_bytes":7,"allow_partial_message":true,"pack_as_bytes":true}`))
	if !g.FailOpen || g.StatusOnError != 503 || !g.ClearRouteCache || g.Timeout != 3*time.Second || g.Backend != "x" || g.Name != "x" || g.HTTP != nil ||
		*g.Body != (extauthz.Body{MaxBytes: 7, Partial: true, AsBytes: true}) || g.GRPC.Authority != "a.example" || !g.GRPC.IncludeSNI ||
		!slices.Equal(g.GRPC.IncludeHeaders, []extauthz.Pattern{{Kind: extauthz.Exact, Value: "x-a"}, {Kind: extauthz.Prefix, Value: "b-"}, {Kind: extauthz.Suffix, Value: "-c"}, {Kind: extauthz.Contains, Value: "d"}}) {
		t.Errorf("%+v %+v %+v", g, g.GRPC, g.Body)
	}
	if g = read(extAuthzWith(`"failure_mode_allow":false`)); g.FailOpen || g.StatusOnError != 0 || g.ClearRouteCache || g.Body != nil || g.GRPC.IncludeSNI || g.GRPC.IncludeHeaders != nil || g.Timeout != 0 {
		t.Errorf("%+v %+v", g, g.GRPC)
	}
	if g = read(extAuthzWith(`"with_request_body":{"max_request_bytes":7}`)); *g.Body != (extauthz.Body{MaxBytes: 7}) {
		t.Errorf("%+v", g.Body)
	}
	h := read(httpFilter("f", "ext_authz.v3.ExtAuthz", `"allowed_headers":{"patterns":[{"exact":"new"}]},"http_service":{"server_uri":{"uri":"http://authz.example:80/base","cluster":"x","timeout":"2s"},"path_prefix":"/check",
		"authorization_request":{"headers_to_add":[{"key":"X-Add","value":"V"}]},
		"authorization_response":{"allowed_upstream_headers":{"patterns":[{"exact":"u"}]},"allowed_upstream_headers_to_append":{"patterns":[{"exact":"ua"}]},
			"allowed_client_headers_on_success":{"patterns":[{"exact":"s"}]},"allowed_client_headers":{"patterns":[{"exact":"d"}]}}}`))
	exact := func(v string) []extauthz.Pattern { return []extauthz.Pattern{{Value: v}} }
	if h.GRPC != nil || h.Timeout != 2*time.Second || h.Backend != "x" || h.HTTP.Authority != "authz.example:80" || h.HTTP.PathPrefix != "/check" ||
		!slices.Equal(h.HTTP.AdditionalHeaders, []extauthz.Header{{Name: "x-add", Value: "V"}}) || !slices.Equal(h.HTTP.IncludeHeaders, exact("new")) ||
		!slices.Equal(h.HTTP.UpstreamOnAllow, exact("u")) || !slices.Equal(h.HTTP.UpstreamAppendOnAllow, exact("ua")) ||
		!slices.Equal(h.HTTP.DownstreamOnAllow, exact("s")) || !slices.Equal(h.HTTP.DownstreamOnDeny, exact("d")) {
		t.Errorf("%+v %+v", h, h.HTTP)
	}
	if h = read(httpAuthzWith(`"authorization_request":{"allowed_headers":{"patterns":[{"exact":"old"}]}}`)); !slices.Equal(h.HTTP.IncludeHeaders, exact("old")) {
		t.Errorf("%+v", h.HTTP)
	}
}

// TestNetworkExtAuthz reads the filter that asks about connections. The provider's
// cluster has to be among those that the chain refers to, and who does not say so
// lets nobody pass while the provider is away.
func TestNetworkExtAuthz(t *testing.T) {
	const service = `"grpc_service":{"envoy_grpc":{"cluster_name":"x"}}`
	for body, want := range map[string][2]bool{ // whether it fails open, and tells the SNI
		service:                                 {false, false},
		service + `,"failure_mode_allow":true`:  {true, false},
		service + `,"include_tls_session":true`: {false, true},
	} {
		p := tcpProgram(t, netFilter("ext_authz.v3.ExtAuthz", body), tcpEnd)
		if p.broken != "" || len(p.custom) != 1 || len(p.conn) != 1 || p.conn[0].Action != authz.Custom {
			t.Fatalf("%s: broken %q, %d providers, policies %+v", body, p.broken, len(p.custom), p.conn)
		}
		cfg := p.custom[0].Spec.(*extauthz.Config)
		if cfg.FailOpen != want[0] || cfg.GRPC.IncludeSNI != want[1] || !slices.Contains(p.refs, "x") {
			t.Errorf("%s: %+v, clusters %q", body, cfg, p.refs)
		}
	}
}
