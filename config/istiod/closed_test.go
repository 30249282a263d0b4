package istiod

import (
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
)

const ext = "type.googleapis.com/envoy.extensions.filters."

func httpFilter(name, typ, body string) string {
	if body != "" {
		body = "," + body
	}
	return `{"name":"` + name + `","typed_config":{"@type":"` + ext + "http." + typ + `"` + body + `}}`
}

// extAuthzWith is a filter that asks over gRPC.
func extAuthzWith(body string) string {
	return httpFilter("f", "ext_authz.v3.ExtAuthz", `"grpc_service":{"envoy_grpc":{"cluster_name":"x"}},`+body)
}

// httpAuthzWith is one that asks over HTTP; body is of its service.
func httpAuthzWith(body string) string {
	return httpFilter("f", "ext_authz.v3.ExtAuthz", `"http_service":{"server_uri":{"uri":"http://x/","cluster":"x","timeout":"1s"},`+body+`}`)
}

// gateOf is the condition under which such a filter asks.
func gateOf(filter, path, value string) string {
	return `"filter_enabled_metadata":{"filter":"` + filter + `","path":[` + path + `],"value":` + value + `}`
}

// one makes the model of a mesh of one service.
func one(t *testing.T, m *mesh) (*config.Model, *config.Chain) {
	t.Helper()
	m.services = 1
	w := NewWorld(testOptions())
	apply(t, w, m.resources(t))
	model := w.Model()
	s, _ := config.Compile(model, nil, config.Env{Stage: anyStage})
	return model, chainOf(t, s, m.host(0)+":80")
}

// TestFiltersThatAreNotUnderstoodClose checks that a chain with a filter that may
// decide about security answers 503 and names the filter.
func TestFiltersThatAreNotUnderstoodClose(t *testing.T) {
	rbac := func(policy string) string {
		return httpFilter("f", "rbac.v3.RBAC", `"rules":{"policies":{"ns[a]-policy[b]-rule[0]":`+policy+`}}`)
	}
	any := `"principals":[{"any":true}]`
	for name, filter := range map[string]string{
		"lua":                           httpFilter("f", "lua.v3.Lua", ""),
		"wasm":                          httpFilter("f", "wasm.v3.Wasm", `"config":{"name":"x"}`),
		"ext_proc":                      httpFilter("f", "ext_proc.v3.ExternalProcessor", ""),
		"unknown":                       httpFilter("f", "basic_auth.v3.BasicAuth", ""),
		"rbac condition":                rbac(`{"permissions":[{"any":true}],` + any + `,"condition":{"const_expr":{"bool_value":true}}}`),
		"rbac permission":               rbac(`{"permissions":[{"matcher":{"name":"x"}}],` + any + `}`),
		"rbac nothing":                  rbac(`{"permissions":[{}],` + any + `}`),
		"rbac filter state":             rbac(`{"permissions":[{"any":true}],"principals":[{"filter_state":{"key":"other","string_match":{"exact":"x"}}}]}`),
		"rbac metadata":                 rbac(`{"permissions":[{"metadata":{"filter":"envoy.filters.network.mysql_proxy","path":[{"key":"a"}],"value":{"present_match":true}}}],` + any + `}`),
		"rbac regex":                    rbac(`{"permissions":[{"url_path":{"path":{"safe_regex":{"regex":"("}}}}],` + any + `}`),
		"rbac template":                 rbac(`{"permissions":[{"uri_template":{"name":"t","typed_config":{"@type":"type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig","path_template":"/{a=b}"}}}],` + any + `}`),
		"rbac matcher":                  httpFilter("f", "rbac.v3.RBAC", `"matcher":{}`),
		"ext_authz ungated":             httpFilter("f", "ext_authz.v3.ExtAuthz", `"grpc_service":{"google_grpc":{"target_uri":"x","stat_prefix":"y"}}`),
		"ext_authz gate":                httpFilter("f", "ext_authz.v3.ExtAuthz", `"grpc_service":{"envoy_grpc":{"cluster_name":"x"}},"filter_enabled_metadata":{"filter":"envoy.filters.http.rbac","path":[{"key":"k"}],"value":{"string_match":{"prefix":"p"}}}`),
		"ext_authz shadow":              httpFilter("f", "ext_authz.v3.ExtAuthz", `"grpc_service":{"envoy_grpc":{"cluster_name":"x"}},"shadow_mode":true`),
		"jwt subjects":                  httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"providers":{"p":{"issuer":"i","subjects":{"exact":"x"},"local_jwks":{"inline_string":"{}"}}}`),
		"jwt part":                      httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/a"}}]`),
		"jwt extract only":              httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/"},"requires":{"extract_only_without_validation":{}}}]`),
		"principal state":               httpFilter("f", "set_filter_state.v3.Config", `"on_request_headers":[{"object_key":"io.istio.peer_principal"}]`),
		"mutation operator":             httpFilter("f", "header_mutation.v3.HeaderMutation", `"mutations":{"request_mutations":[{"append":{"header":{"key":"a","value":"%DYNAMIC_METADATA(b)%"}}}]}`),
		"ext_authz no service":          httpFilter("f", "ext_authz.v3.ExtAuthz", ""),
		"ext_authz metadata":            httpFilter("f", "ext_authz.v3.ExtAuthz", `"grpc_service":{"envoy_grpc":{"cluster_name":"x"},"initial_metadata":[{"key":"a","value":"b"}]}`),
		"ext_authz share":               extAuthzWith(`"filter_enabled":{"default_value":{"numerator":50}}`),
		"ext_authz disabled":            extAuthzWith(`"deny_at_disable":{"default_value":true,"runtime_key":"x"}`),
		"ext_authz headers":             extAuthzWith(`"allowed_headers":{"patterns":[{"safe_regex":{"regex":"a.*"}}]}`),
		"ext_authz no form":             extAuthzWith(`"allowed_headers":{"patterns":[{}]}`),
		"ext_authz disallowed":          extAuthzWith(`"disallowed_headers":{"patterns":[{"exact":"a"}]}`),
		"ext_authz mutations":           extAuthzWith(`"decoder_header_mutation_rules":{}`),
		"ext_authz path":                httpAuthzWith(`"path_override":"/x"`),
		"ext_authz retry":               httpAuthzWith(`"retry_policy":{}`),
		"ext_authz answers to metadata": httpAuthzWith(`"authorization_response":{"dynamic_metadata_from_headers":{"patterns":[{"exact":"a"}]}}`),
		"ext_authz request headers":     httpAuthzWith(`"authorization_request":{"allowed_headers":{"patterns":[{"safe_regex":{"regex":"a"}}]}}`),
		"ext_authz upstream headers":    httpAuthzWith(`"authorization_response":{"allowed_upstream_headers":{"patterns":[{"safe_regex":{"regex":"a"}}]}}`),
		"ext_authz denial headers":      httpAuthzWith(`"authorization_response":{"allowed_client_headers":{"patterns":[{}]}}`),
		"jwt state rules":               httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"filter_state_rules":{"name":"x"}`),
		"jwt no keys":                   httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"providers":{"p":{"issuer":"i"}}`),
		"jwt expiry":                    httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"providers":{"p":{"issuer":"i","require_expiration":true,"local_jwks":{"inline_string":"{}"}}}`),
		"jwt lifetime":                  httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"providers":{"p":{"issuer":"i","max_lifetime":"1s","local_jwks":{"inline_string":"{}"}}}`),
		"jwt two rules":                 httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/"}},{"match":{"prefix":"/"}}]`),
		"jwt some methods":              httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/","headers":[{"name":":method","string_match":{"exact":"GET"}}]}}]`),
		"jwt some headers":              httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/","headers":[{"name":"a","string_match":{"exact":"b"}}]}}]`),
		"jwt some queries":              httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/","query_parameters":[{"name":"a","string_match":{"exact":"b"}}]}}]`),
		"jwt CONNECT":                   httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"connect_matcher":{}}}]`),
		"jwt unknown requirement":       httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/"},"requirement_name":"x"}]`),
		"jwt empty requirement":         httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/"},"requires":{"requires_any":{"requirements":[{},{"allow_missing":{}}]}}}]`),
		"jwt bad requirement in a list": httpFilter("f", "jwt_authn.v3.JwtAuthentication", `"rules":[{"match":{"prefix":"/"},"requires":{"requires_all":{"requirements":[{"extract_only_without_validation":{}}]}}}]`),
		"rbac shadow matcher":           httpFilter("f", "rbac.v3.RBAC", `"shadow_matcher":{}`),
		"rbac shadow rules":             httpFilter("f", "rbac.v3.RBAC", `"shadow_rules":{"policies":{"p":{"permissions":[{}],"principals":[{"any":true}]}}}`),
		"another principal state":       httpFilter("f", "set_filter_state.v3.Config", `"on_request_headers":[{"object_key":"io.istio.source_principal"}]`),
		"disabled wasm":                 httpFilter("f", "wasm.v3.Wasm", `"config":{"failure_policy":"FAIL_CLOSED"}`),
		"rate limit share":              httpFilter("f", "local_ratelimit.v3.LocalRateLimit", `"stat_prefix":"x","token_bucket":{"max_tokens":1,"fill_interval":"1s"},"filter_enabled":{"default_value":{"numerator":50}},"filter_enforced":{"default_value":{"numerator":100}}`),
		"not sent":                      `{"name":"f","config_discovery":{"config_source":{"ads":{}},"type_urls":["x"]}}`,
		"router in front":               httpFilter("f", "router.v3.Router", ""),
	} {
		t.Run(name, func(t *testing.T) {
			model, c := one(t, &mesh{filters: map[int]string{0: filter}})
			if c.Broken == "" {
				t.Fatalf("the chain is open: %+v", c.Spec.Stages)
			}
			if name != "router in front" && !strings.Contains(c.Broken, "filter f") {
				t.Errorf("%q does not name the filter", c.Broken)
			}
			found := false
			for _, p := range model.Problems {
				found = found || p.Severity == config.Error && strings.Contains(p.Message, c.Broken)
			}
			if !found {
				t.Error("no problem tells of it")
			}
		})
	}
}

// TestFiltersThatMayBeLeftOut checks what is taken without the filter.
func TestFiltersThatMayBeLeftOut(t *testing.T) {
	for name, filter := range map[string]string{
		"wasm that fails open":     httpFilter("f", "wasm.v3.Wasm", `"config":{"fail_open":true}`),
		"ext_proc that fails open": httpFilter("f", "ext_proc.v3.ExternalProcessor", `"failure_mode_allow":true`),
		"optional":                 `{"name":"f","is_optional":true,"typed_config":{"@type":"` + ext + `http.basic_auth.v3.BasicAuth"}}`,
		"rate limit off":           httpFilter("f", "local_ratelimit.v3.LocalRateLimit", `"stat_prefix":"x"`),
		"state":                    httpFilter("f", "set_filter_state.v3.Config", `"on_request_headers":[{"object_key":"io.istio.source"}]`),
	} {
		t.Run(name, func(t *testing.T) {
			if _, c := one(t, &mesh{filters: map[int]string{0: filter}}); c.Broken != "" || len(c.Stages) != 0 {
				t.Errorf("%q with %d stages", c.Broken, len(c.Stages))
			}
		})
	}
}

// TestRoutesThatCannotBeExpressed checks that a rule answers 500 alone, to what it
// matches, and says why.
func TestRoutesThatCannotBeExpressed(t *testing.T) {
	for name, route := range map[string]string{
		"cookies":        `{"match":{"prefix":"/x","cookies":[{"name":"a","string_match":{"exact":"b"}}]},"direct_response":{"status":200}}`,
		"invert":         `{"match":{"prefix":"/x","headers":[{"name":"a","string_match":{"exact":"b"},"invert_match":true}]},"direct_response":{"status":200}}`,
		"operator":       `{"match":{"prefix":"/x"},"direct_response":{"status":200},"request_headers_to_add":[{"header":{"key":"a","value":"%UPSTREAM_HOST%"}}]}`,
		"if absent":      `{"match":{"prefix":"/x"},"direct_response":{"status":200},"request_headers_to_add":[{"header":{"key":"a","value":"b"},"append_action":"ADD_IF_ABSENT"}]}`,
		"cluster header": `{"match":{"prefix":"/x"},"route":{"cluster_header":"x"}}`,
		"auto host":      `{"match":{"prefix":"/x"},"route":{"cluster":"c","auto_host_rewrite":true}}`,
		"metadata":       `{"match":{"prefix":"/x"},"route":{"cluster":"c","metadata_match":{}}}`,
		"strip query":    `{"match":{"prefix":"/x"},"redirect":{"strip_query":true}}`,
		"no action":      `{"match":{"prefix":"/x"}}`,
		"fraction":       `{"match":{"prefix":"/x","runtime_fraction":{"default_value":{"numerator":5}}},"direct_response":{"status":200}}`,
		"claim":          `{"match":{"prefix":"/x","dynamic_metadata":[{"filter":"other","path":[{"key":"a"}],"value":{"present_match":true}}]},"direct_response":{"status":200}}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := &mesh{routes: map[int]string{0: route + `,{"match":{"prefix":"/"},"direct_response":{"status":200,"body":{"inline_string":"next"}}}`}}
			_, c := one(t, m)
			if c.Broken != "" {
				t.Fatal(c.Broken)
			}
			if got := chosen(c, ask{path: "/x/y", headers: []string{"a", "other"}}); !strings.HasPrefix(got, "500 ") {
				t.Errorf("/x/y: %s", got)
			}
			if got := chosen(c, ask{path: "/y"}); got != "direct next" {
				t.Errorf("/y: %s", got)
			}
		})
	}
}

// TestExtensionConfigurations checks that a chain follows what extension discovery
// says of its filters.
func TestExtensionConfigurations(t *testing.T) {
	m := &mesh{services: 2, filters: map[int]string{1: `{"name":"ext","config_discovery":{"config_source":{"ads":{}},"type_urls":["x"]}}`}}
	w := NewWorld(testOptions())
	apply(t, w, m.resources(t))
	before := w.Model()
	if b := before.Destinations[1].Broken; !strings.Contains(b, "filter ext") {
		t.Fatalf("without its configuration: %q", b)
	}
	send := func(body string) *config.Model {
		if errs := w.Apply(ExtensionType, []Resource{{"ext", "1", wire(t, extensionConfig(t, body))}}, nil); errs != nil {
			t.Fatal(errs[0])
		}
		return w.Model()
	}
	open := send(`"config":{"fail_open":true}`)
	if d := open.Destinations[1]; d.Broken != "" || open.Destinations[0] != before.Destinations[0] {
		t.Fatalf("open: %q", d.Broken)
	}
	if d := send(`"config":{"fail_open":false}`).Destinations[1]; !strings.Contains(d.Broken, "Wasm") {
		t.Fatalf("closed: %q", d.Broken)
	}
	w.Apply(ExtensionType, nil, []string{"ext"})
	if d := w.Model().Destinations[1]; !strings.Contains(d.Broken, "was not sent") {
		t.Fatalf("removed: %q", d.Broken)
	}
}

// TestMissingChainIsClosed checks that what the matcher names and nobody sent is not
// served by anything else.
func TestMissingChainIsClosed(t *testing.T) {
	m := &mesh{services: 2}
	w := NewWorld(testOptions())
	apply(t, w, m.resources(t))
	delete(w.main.chains, m.name(1))
	w.stale.chains = true
	if d := w.Model().Destinations[1]; !strings.Contains(d.Broken, "was not sent") || d.Protocol != config.ProtocolHTTP {
		t.Errorf("%+v", d)
	}
}
