package istiod

import (
	"strings"

	udpav1 "github.com/cncf/xds/go/udpa/type/v1"
	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	rbacpolicyv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	wasmcfgv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/proto"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
)

const httpFilters = "envoy.extensions.filters.http."

// harmlessFilters have nothing to do here: what they are for in Envoy is done
// elsewhere, or it is telemetry.
var harmlessFilters = map[string]bool{
	httpFilters + "grpc_stats.v3.FilterConfig":                  true,
	httpFilters + "cors.v3.Cors":                                true,
	httpFilters + "fault.v3.HTTPFault":                          true,
	httpFilters + "grpc_web.v3.GrpcWeb":                         true,
	httpFilters + "stateful_session.v3.StatefulSession":         true,
	"io.istio.http.peer_metadata.Config":                        true,
	"stats.PluginConfig":                                        true,
	"istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig": true,
}

// harmless reports whether a filter decides nothing about who gets through.
func harmless(filter string) bool { return harmlessFilters[filter] }

// resolve returns the configuration of a filter, unwrapped from extension
// discovery and from a TypedStruct, whose message name comes separately.
func (t *translator) resolve(f *hcmv3.HttpFilter) (cfg *anyMessage, name string, ok bool) {
	cfg = f.GetTypedConfig()
	if d := f.GetConfigDiscovery(); d != nil {
		t.used = append(t.used, f.GetName())
		if cfg, ok = t.ext(f.GetName()); !ok {
			cfg = d.GetDefaultConfig()
		}
		if cfg == nil {
			return nil, "", false
		}
	}
	return cfg, innerType(cfg), true
}

// innerType is the message name of an Any, or of what a TypedStruct in it stands for.
func innerType(cfg *anyMessage) string {
	name := typeName(cfg.GetTypeUrl())
	switch name {
	case "udpa.type.v1.TypedStruct":
		var s udpav1.TypedStruct
		if proto.Unmarshal(cfg.GetValue(), &s) == nil {
			name = typeName(s.GetTypeUrl())
		}
	case "xds.type.v3.TypedStruct":
		var s xdsv3.TypedStruct
		if proto.Unmarshal(cfg.GetValue(), &s) == nil {
			name = typeName(s.GetTypeUrl())
		}
	}
	return name
}

func (t *translator) filterType(f *hcmv3.HttpFilter) string {
	if f.GetConfigDiscovery() != nil {
		if cfg, ok := t.ext(f.GetName()); ok {
			return innerType(cfg)
		}
		return "extension configuration"
	}
	return innerType(f.GetTypedConfig())
}

// filters translates the HTTP filters in their order.
func (t *translator) filters(h *hcmv3.HttpConnectionManager) {
	router := false
	for _, f := range h.GetHttpFilters() {
		if router {
			t.fail("filter %s: stands behind the router", f.GetName())
			return
		}
		if f.GetDisabled() {
			t.missing("http_filters["+f.GetName()+"]", "a filter that routes may switch on")
			continue
		}
		cfg, name, ok := t.resolve(f)
		if !ok {
			t.fail("filter %s: its extension configuration was not sent", f.GetName())
			continue
		}
		router = name == httpFilters+"router.v3.Router"
		if err := t.filter(f.GetName(), name, cfg); err != nil {
			if err == errUnknownFilter && f.GetIsOptional() {
				t.note(config.Warning, ReasonNotImplemented, "http_filters["+f.GetName()+"]", name+" is marked optional and left out")
				continue
			}
			t.fail("filter %s (%s): %v", f.GetName(), shortType(name), err)
		}
	}
	if !router {
		t.fail("http_connection_manager: no router ends the filters")
	}
}

// filter translates one filter. An error makes the chain answer 503.
func (t *translator) filter(name, kind string, cfg *anyMessage) error {
	field := "http_filters[" + name + "]"
	switch kind {
	case httpFilters + "rbac.v3.RBAC":
		var c rbacv3.RBAC
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		if c.GetMatcher() != nil || c.GetShadowMatcher() != nil {
			return errString("matcher trees are not supported")
		}
		return t.httpRBAC(c.GetRules(), c.GetShadowRules(), c.GetShadowRulesStatPrefix())
	case httpFilters + "ext_authz.v3.ExtAuthz":
		var c extauthzv3.ExtAuthz
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		return t.extAuthz(&c, field)
	case httpFilters + "jwt_authn.v3.JwtAuthentication":
		var c jwtv3.JwtAuthentication
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		return t.jwt(&c, field)
	case httpFilters + "header_mutation.v3.HeaderMutation":
		var c mutationv3.HeaderMutation
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		return t.headerMutation(name, &c, field)
	case httpFilters + "local_ratelimit.v3.LocalRateLimit":
		var c localv3.LocalRateLimit
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		return t.localRateLimit(&c, field)
	case httpFilters + "fault.v3.HTTPFault":
		var c faultv3.HTTPFault
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		if c.GetDelay() != nil || c.GetAbort() != nil {
			t.missing(field, "a fault for all routes")
		}
		t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageFault})
		return nil
	case httpFilters + "cors.v3.Cors":
		t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageCORS})
		return nil
	case httpFilters + "grpc_web.v3.GrpcWeb":
		t.p.grpcWeb = true
		t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageGRPCWeb})
		return nil
	case httpFilters + "set_filter_state.v3.Config":
		var c statev3.Config
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		for _, v := range c.GetOnRequestHeaders() {
			if err := filterState(v.GetObjectKey()); err != nil {
				return err
			}
		}
		return nil
	case httpFilters + "dynamic_forward_proxy.v3.FilterConfig":
		return nil // its cluster names the endpoints
	case httpFilters + "wasm.v3.Wasm":
		var c wasmv3.Wasm
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		p := c.GetConfig()
		if p.GetFailOpen() || p.GetFailurePolicy() == wasmcfgv3.FailurePolicy_FAIL_OPEN {
			t.note(config.Warning, ReasonNotImplemented, field, "Wasm is not supported; the filter fails open and is left out")
			return nil
		}
		return errString("Wasm is not supported")
	case httpFilters + "ext_proc.v3.ExternalProcessor":
		var c extprocv3.ExternalProcessor
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		if c.GetFailureModeAllow() {
			t.note(config.Warning, ReasonNotImplemented, field, "external processing is not supported; the filter fails open and is left out")
			return nil
		}
		return errString("external processing is not supported")
	case httpFilters + "lua.v3.Lua":
		return errString("Lua is not supported")
	case "stats.PluginConfig":
		t.intern.stats(t, cfg)
		return nil
	case httpFilters + "router.v3.Router":
		var c routerv3.Router
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		return t.router(&c, field)
	}
	if harmless(kind) {
		return nil
	}
	return errUnknownFilter
}

// router reads the end of the filters. What it runs on requests to backends may
// guard them, but for the codec that Envoy itself puts there.
func (t *translator) router(c *routerv3.Router, field string) error {
	t.p.settings.Quiet = c.GetSuppressEnvoyHeaders()
	for _, f := range c.GetUpstreamHttpFilters() {
		if innerType(f.GetTypedConfig()) != httpFilters+"upstream_codec.v3.UpstreamCodec" {
			return errString("upstream_http_filters are not supported: " + f.GetName())
		}
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"upstream_log", len(c.GetUpstreamLog()) > 0},
		{"start_child_span", c.GetStartChildSpan()},
		{"respect_expected_rq_timeout", c.GetRespectExpectedRqTimeout()},
		{"strict_check_headers", len(c.GetStrictCheckHeaders()) > 0},
	} {
		if x.set {
			t.missing(field, x.name)
		}
	}
	return nil
}

// errString is an error without anything around it.
type errString string

func (e errString) Error() string { return string(e) }

const errUnknownFilter = errString("this filter is not known")

// httpRBAC translates an RBAC filter. Filters in the order AUDIT, DENY, ALLOW make
// one stage, as an engine asks in that order; anything else starts a new one, so
// that of two ALLOW filters both have to allow.
func (t *translator) httpRBAC(rules, shadow *rbacpolicyv3.RBAC, prefix string) error {
	ps, err := t.rbacPolicies(rules, shadow, prefix)
	if err != nil || len(ps) == 0 {
		return err
	}
	if n := len(t.p.stages); n > 0 && t.p.stages[n-1].Kind == config.StageAuthz && follows(t.p.stages[n-1].Policies, ps) {
		st := &t.p.stages[n-1]
		st.Policies = append(st.Policies, ps...)
		return nil
	}
	t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageAuthz, Policies: ps})
	return nil
}

// follows reports whether policies after those of a stage may join it.
func follows(before, after []authz.Policy) bool {
	highest := -1
	for i := range before {
		highest = max(highest, rank(before[i].Action))
	}
	for i := range after {
		if rank(after[i].Action) <= highest && !after[i].DryRun {
			return false
		}
	}
	return true
}

// rbacPolicies reads the rules and the shadow rules of an RBAC filter. Shadow
// rules are dry runs, or what a later filter is told by metadata.
func (t *translator) rbacPolicies(rules, shadow *rbacpolicyv3.RBAC, prefix string) ([]authz.Policy, error) {
	var out []authz.Policy
	if rules != nil {
		rs, err := t.rbac.rules(rules)
		if err != nil {
			return nil, err
		}
		out = policies(rules.GetAction(), rs, false)
	}
	if shadow != nil {
		rs, err := t.rbac.rules(shadow)
		if err != nil {
			return nil, err
		}
		if prefix == dryRunAllowPrefix || prefix == dryRunDenyPrefix {
			out = append(out, policies(shadow.GetAction(), rs, true)...)
		}
		if t.shadow == nil {
			t.shadow = make(map[string][]namedRule)
		}
		key := prefix + shadowPolicyID
		t.shadow[key] = append(t.shadow[key], rs...)
	}
	return out, nil
}

// filterState refuses a filter that sets who the caller is. All else that istiod
// sets carries what the tunnel says, which the data path knows without it; and no
// other key is read by anything that is supported.
func filterState(key string) error {
	if strings.HasSuffix(key, "_principal") || strings.Contains(key, "peer_principal") {
		return errString("sets " + key + ", which policies compare")
	}
	return nil
}
