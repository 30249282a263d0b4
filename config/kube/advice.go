package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
)

// advice says what a waypoint does with a field of an object that only istiod reads.
type advice struct {
	severity       config.Severity
	field, message string
}

// adviser collects advice on one object.
type adviser struct{ out []advice }

func (a *adviser) say(s config.Severity, field, format string, args ...any) {
	a.out = append(a.out, advice{s, field, fmt.Sprintf(format, args...)})
}

// advised makes the adviser of a kind: f looks at the spec, which may hold more than
// its type does.
func advised[T any](f func(a *adviser, spec *T)) func(raw []byte) []advice {
	return func(raw []byte) []advice {
		var doc struct {
			Spec T `json:"spec"`
		}
		a := &adviser{}
		if err := json.Unmarshal(raw, &doc); err != nil {
			a.say(config.Warning, "spec", "%s", plain(err))
			return a.out
		}
		f(a, &doc.Spec)
		return a.out
	}
}

// selection is how Istio's policies choose what they act on.
type selection struct {
	Selector         *struct{} `json:"selector"`
	WorkloadSelector *struct{} `json:"workloadSelector"`
	TargetRef        *struct{} `json:"targetRef"`
	TargetRefs       []any     `json:"targetRefs"`
}

// attaches reports whether the object reaches waypoints, and tells if it does not.
func (s *selection) attaches(a *adviser, kind string, needed bool) bool {
	field := "spec.selector"
	if s.WorkloadSelector != nil {
		field = "spec.workloadSelector"
	}
	switch refs := s.TargetRef != nil || len(s.TargetRefs) > 0; {
	case s.Selector != nil || s.WorkloadSelector != nil:
		a.say(config.Warning, field, "chooses pods, which never means a waypoint: use targetRefs with a Service, or with the waypoint's Gateway")
	case needed && !refs:
		a.say(config.Warning, "spec.targetRefs", "not set, so this %s reaches no waypoint: name the waypoint's Gateway", kind)
	default:
		return true
	}
	return false
}

type virtualService struct {
	Gateways []string `json:"gateways"`
	Hosts    []string `json:"hosts"`
	HTTP     []struct {
		Match []struct {
			SourceLabels    map[string]string `json:"sourceLabels"`
			SourceNamespace string            `json:"sourceNamespace"`
			Gateways        []string          `json:"gateways"`
		} `json:"match"`
		Fault   any `json:"fault"`
		Retries *struct {
			RetryOn string `json:"retryOn"`
		} `json:"retries"`
		Delegate any `json:"delegate"`
	} `json:"http"`
	TCP []l4Route `json:"tcp"`
	TLS []l4Route `json:"tls"`
}

type l4Route struct {
	Match []struct {
		SourceLabels map[string]string `json:"sourceLabels"`
		SNIHosts     []string          `json:"sniHosts"`
	} `json:"match"`
}

func adviseVirtualService(a *adviser, v *virtualService) {
	if len(v.Gateways) > 0 && !slices.Contains(v.Gateways, "mesh") {
		a.say(config.Info, "spec.gateways", "mesh is not among them, so a waypoint ignores it")
		return
	}
	for i, h := range v.HTTP {
		for j, m := range h.Match {
			at := fmt.Sprintf("spec.http[%d].match[%d]", i, j)
			if len(m.SourceLabels) > 0 {
				a.say(config.Warning, at+".sourceLabels", "istiod leaves this match out at waypoints, which serve every client alike: match a header, or write an HTTPRoute in the clients' namespace")
			}
			if m.SourceNamespace != "" {
				a.say(config.Warning, at+".sourceNamespace", "is compared with the waypoint's namespace, not the client's: write an HTTPRoute in the clients' namespace")
			}
		}
		if h.Fault != nil {
			a.say(config.Info, fmt.Sprintf("spec.http[%d].fault", i), "honoured; HTTPRoute has none, a WaypointPolicy has")
		}
		if h.Delegate != nil {
			a.say(config.Info, fmt.Sprintf("spec.http[%d].delegate", i), "honoured, as istiod resolves it")
		}
	}
	for i, r := range v.TCP {
		for j, m := range r.Match {
			if len(m.SourceLabels) > 0 {
				a.say(config.Warning, fmt.Sprintf("spec.tcp[%d].match[%d].sourceLabels", i, j), "istiod leaves this match out at waypoints")
			}
		}
	}
	for i, r := range v.TLS {
		for j, m := range r.Match {
			if slices.ContainsFunc(m.SNIHosts, func(h string) bool { return !slices.Contains(v.Hosts, h) }) {
				a.say(config.Warning, fmt.Sprintf("spec.tls[%d].match[%d].sniHosts", i, j), "only a service's own host is matched at waypoints")
			}
		}
	}
}

type envoyFilter struct {
	selection
	ConfigPatches []struct {
		ApplyTo string `json:"applyTo"`
		Match   struct {
			Context string `json:"context"`
		} `json:"match"`
		Patch struct {
			Operation string          `json:"operation"`
			Value     json.RawMessage `json:"value"`
		} `json:"patch"`
	} `json:"configPatches"`
}

// honouredFilters are what a patch may put into a chain.
var honouredFilters = []string{
	"rbac.v3.RBAC", "ext_authz.v3.ExtAuthz", "jwt_authn.v3.JwtAuthentication", "header_mutation.v3.HeaderMutation", "local_ratelimit.v3.LocalRateLimit",
	"fault.v3.HTTPFault", "cors.v3.Cors", "grpc_web.v3.GrpcWeb", "set_filter_state.v3.Config", "grpc_stats.v3.FilterConfig", "router.v3.Router",
}

func adviseEnvoyFilter(a *adviser, f *envoyFilter) {
	if !f.attaches(a, "EnvoyFilter", true) {
		return
	}
	for i, p := range f.ConfigPatches {
		at := fmt.Sprintf("spec.configPatches[%d]", i)
		switch c := p.Match.Context; {
		case c == "WAYPOINT", c == "GATEWAY":
			a.say(config.Warning, at+".match.context", "%s: istiod applies nothing of it to waypoints; SIDECAR_INBOUND and ANY reach their listeners, SIDECAR_OUTBOUND clusters", c)
			continue
		case c == "SIDECAR_OUTBOUND" && p.ApplyTo != "CLUSTER":
			a.say(config.Warning, at+".match.context", "SIDECAR_OUTBOUND reaches clusters of a waypoint, but no %s", p.ApplyTo)
			continue
		}
		switch p.ApplyTo {
		case "HTTP_FILTER", "NETWORK_FILTER":
			advisePatchedFilter(a, at+".patch.value", p.Patch.Operation, typeOf(p.Patch.Value))
		case "BOOTSTRAP":
			a.say(config.Warning, at+".applyTo", "BOOTSTRAP: there is no Envoy to start with it")
		default:
			a.say(config.Info, at+".applyTo", "%s: what istiod makes of it is honoured as if Istio had sent it; the log and the configuration dump name fields that are not implemented", p.ApplyTo)
		}
	}
}

// typeOf is the message name in a patch's value.
func typeOf(value json.RawMessage) string {
	var v struct {
		TypedConfig struct {
			Type    string `json:"@type"`
			TypeURL string `json:"type_url"`
		} `json:"typed_config"`
	}
	_ = json.Unmarshal(value, &v)
	t := v.TypedConfig.Type
	if v.TypedConfig.TypeURL != "" {
		t = v.TypedConfig.TypeURL
	}
	return t[strings.LastIndexByte(t, '/')+1:]
}

func advisePatchedFilter(a *adviser, field, operation, kind string) {
	short := strings.TrimPrefix(strings.TrimPrefix(kind, "envoy.extensions.filters.http."), "envoy.extensions.filters.network.")
	switch {
	case operation == "REMOVE":
		a.say(config.Info, field, "the filter is removed, as with Envoy")
	case slices.Contains(honouredFilters, short):
		a.say(config.Info, field, "%s: honoured", short)
	case kind == "":
		a.say(config.Warning, field, "has no typed_config that tells what it is: a filter that is not known makes its services answer 503")
	case short == "ratelimit.v3.RateLimit":
		a.say(config.Warning, field, "a rate limit service is not asked: its services answer 503 and name the filter. Use a local rate limit, or a WaypointPolicy")
	case short == "lua.v3.Lua", short == "wasm.v3.Wasm", short == "ext_proc.v3.ExternalProcessor":
		a.say(config.Warning, field, "%s: there is none here: its services answer 503 and name the filter unless it fails open. For headers use an HTTPRoute, for decisions external authorization", short)
	default:
		a.say(config.Warning, field, "%s is not known: its services answer 503 and name it", short)
	}
}

type wasmPlugin struct {
	selection
	FailStrategy string `json:"failStrategy"`
	Wasm         *struct {
		FailStrategy string `json:"failStrategy"`
	} `json:"wasm"`
}

func adviseWasm(a *adviser, w *wasmPlugin) {
	if !w.attaches(a, "extension", false) {
		return
	}
	strategy, field := w.FailStrategy, "spec.failStrategy"
	if w.Wasm != nil {
		strategy, field = w.Wasm.FailStrategy, "spec.wasm.failStrategy"
	}
	if strategy == "FAIL_OPEN" {
		a.say(config.Warning, field, "FAIL_OPEN: the plugin is left out, as if it had failed")
		return
	}
	a.say(config.Warning, field, "not FAIL_OPEN: what it acts on answers 503. Remove it, or use external authorization or an HTTPRoute's filters")
}

type telemetrySpec struct {
	selection
	Tracing []struct {
		Providers []struct {
			Name string `json:"name"`
		} `json:"providers"`
	} `json:"tracing"`
	AccessLogging []struct {
		Filter *struct {
			Expression string `json:"expression"`
		} `json:"filter"`
	} `json:"accessLogging"`
}

func adviseTelemetry(a *adviser, t *telemetrySpec) {
	if !t.attaches(a, "Telemetry", false) {
		return
	}
	for i, x := range t.Tracing {
		for _, p := range x.Providers {
			a.say(config.Info, fmt.Sprintf("spec.tracing[%d].providers", i), "%s: honoured if meshConfig says that it speaks OpenTelemetry, over gRPC or HTTP; spans of other kinds are not sent", p.Name)
		}
	}
	for i, x := range t.AccessLogging {
		if x.Filter != nil {
			a.say(config.Info, fmt.Sprintf("spec.accessLogging[%d].filter", i), "honoured; an expression that is not understood logs everything, and the log says so")
		}
	}
}

type proxyConfigSpec struct {
	selection
	Concurrency          *int              `json:"concurrency"`
	EnvironmentVariables map[string]string `json:"environmentVariables"`
	Image                any               `json:"image"`
}

func adviseProxyConfig(a *adviser, p *proxyConfigSpec) {
	if p.Concurrency != nil {
		a.say(config.Info, "spec.concurrency", "honoured: as many threads run; unset, they follow the CPU limit")
	}
	if len(p.EnvironmentVariables) > 0 {
		a.say(config.Info, "spec.environmentVariables", "honoured where docs/istio.md names the variable; ISTIO_META_* are passed on to istiod")
	}
	if p.Image != nil {
		a.say(config.Warning, "spec.image", "no variant of Envoy's image is meant by sidecar.istio.io/proxyImage; ignored")
	}
}
