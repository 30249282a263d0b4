package kube

import (
	"fmt"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
)

func TestStrict(t *testing.T) {
	policy := func(spec string) string {
		return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: " + spec
	}
	route := func(rule string) string {
		return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [" + rule + "]}"
	}
	many := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	for _, tc := range []struct{ name, manifest, want string }{
		{"good policy", policy("{}"), ""},
		{"unknown field", policy("{rules: [{from: [{source: {principal: [a]}}]}]}"), "spec.rules[0].from[0].source.principal: unknown field"},
		{"wrong type", policy("{rules: [{to: [{operation: {ports: [80]}}]}]}"), "spec.rules[0].to[0].operation.ports[0]: is a number, want a string"},
		{"not a list", policy("{rules: {}}"), "spec.rules: is an object, want a list"},
		{"top level", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspecs: {}", "specs: unknown field"},
		{"duplicate key", policy("{action: ALLOW, action: DENY, rules: [{}]}"), "already set"},
		{"action", policy("{action: allow}"), `spec.action: "allow" is none of`},
		{"deny without rules", policy("{action: DENY}"), "spec.rules: required"},
		{"custom without provider", policy("{action: CUSTOM, rules: [{}]}"), "spec.provider.name"},
		{"empty from", policy("{rules: [{from: []}]}"), "spec.rules[0].from"},
		{"empty source", policy("{rules: [{from: [{source: {}}]}]}"), "spec.rules[0].from[0].source: must not be empty"},
		{"empty string", policy("{rules: [{to: [{operation: {paths: ['']}}]}]}"), "paths[0]: must not be empty"},
		{"bad port", policy("{rules: [{to: [{operation: {ports: ['65536']}}]}]}"), `"65536" is no port`},
		{"bad CIDR", policy("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]}"), "ipBlocks[0]"},
		{"bad remote CIDR", policy("{rules: [{from: [{source: {notRemoteIpBlocks: [x]}}]}]}"), "notRemoteIpBlocks[0]"},
		{"serviceAccounts with principals", policy("{rules: [{from: [{source: {serviceAccounts: [a], principals: [b]}}]}]}"), "cannot be combined"},
		{"when without values", policy("{rules: [{when: [{key: source.ip}]}]}"), "values or notValues"},
		{"cross namespace", policy("{targetRefs: [{kind: Service, name: a, namespace: b}]}"), "cross namespace"},
		{"a port of a target", policy("{targetRefs: [{kind: Service, name: a, sectionName: http}]}"), "spec.targetRefs[0].sectionName: unknown field: a policy acts on all ports"},
		{"kind of a target", policy("{targetRefs: [{group: apps, kind: Deployment, name: a}]}"), "spec.targetRefs[0].kind: apps/Deployment cannot be a target, only"},
		{"selector and target", policy("{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}]}"), "only one of targetRefs or selector"},
		{"17 targets", policy("{targetRefs: [" + strings.TrimSuffix(strings.Repeat("{kind: Service, name: a},", 17), ",") + "]}"), "at most 16"},
		{"version", "apiVersion: security.istio.io/v2\nkind: AuthorizationPolicy\nmetadata: {name: p}", "not a served version"},

		{"keys that are no JSON", "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\nspec: {jwtRules: [{issuer: a, jwks: '{\"keys'}]}", "spec.jwtRules[0].jwks: is no JSON"},
		{"JSON without keys", "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\nspec: {jwtRules: [{issuer: a, jwks: '{}'}]}", "spec.jwtRules[0].jwks: is no JSON Web Key Set"},
		{"no keys", "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\nspec: {jwtRules: [{issuer: a, jwks: '{\"keys\":[]}'}]}", ""},

		{"good route", route("{backendRefs: [{name: s, port: 80}]}"), ""},
		{"status and extra metadata are fine", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, managedFields: [{a: 1}]}\nspec: {}\nstatus: {parents: [{x: [1, {y: 2}]}]}", ""},
		{"null is absent", route("{matches: null, backendRefs: [{name: s, port: 80, weight: null}]}"), ""},
		{"no port", route("{backendRefs: [{name: s}]}"), "spec.rules[0].backendRefs[0].port: Must have port"},
		{"relative path", route("{matches: [{path: {value: a}}]}"), "must start with '/'"},
		{"dot segments", route("{matches: [{path: {value: /a/../b}}]}"), "/../"},
		{"regex", route("{matches: [{path: {type: RegularExpression, value: '('}}]}"), "missing closing"},
		{"method", route("{matches: [{method: get}]}"), "spec.rules[0].matches[0].method"},
		{"header twice", route("{matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]}"), "listed twice"},
		{"header name", route("{matches: [{headers: [{name: 'a b', value: b}]}]}"), "no valid name"},
		{"weight", route("{backendRefs: [{name: s, port: 80, weight: 1000001}]}"), "weight: 1000001"},
		{"weight fraction", route("{backendRefs: [{name: s, port: 80, weight: 1.5}]}"), "weight: 1.5 is no integer"},
		{"filter type", route("{filters: [{type: Gzip}]}"), "spec.rules[0].filters[0].type"},
		{"filter union", route("{filters: [{type: CORS, urlRewrite: {hostname: a}}]}"), "cors: must be specified"},
		{"repeated rewrite", route("{filters: [{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: b}}]}"), "cannot be repeated"},
		{"redirect with backend", route("{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: s, port: 80}]}"), "must not be used together"},
		{"redirect and rewrite", route("{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}"), "not both"},
		{"prefix replacement needs a prefix", route("{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}"), "requires exactly one match"},
		{"status", route("{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}"), "statusCode: 304"},
		{"CRLF in a header", route(`{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: "b\r\nc: d"}]}}]}`), "characters that a header value"},
		{"mirror both", route("{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}, percent: 1, fraction: {numerator: 1}}}]}"), "Only one of percent or fraction"},
		{"duration", route("{timeouts: {request: 1d}}"), "timeouts.request"},
		{"backend longer than request", route("{timeouts: {request: 1s, backendRequest: 2s}}"), "cannot be longer"},
		{"origins", route("{filters: [{type: CORS, cors: {allowOrigins: ['*', 'https://a']}}]}"), "cannot contain '*'"},
		{"17 rules", route(strings.TrimSuffix(strings.Repeat("{},", 17), ",")), "has 17 rules"},
		{"64 matches", route("{matches: " + many(64, "{}") + "}"), ""},
		{"65 matches", route("{matches: " + many(65, "{}") + "}"), "spec.rules[0].matches: has 65 entries"},
		{"129 matches together", route("{matches: " + many(64, "{}") + "}, {matches: " + many(64, "{}") + "}, {}"), "have 129 matches together"},
		{"17 filters", route("{filters: " + many(17, "{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}}}") + "}"), "spec.rules[0].filters: has 17 entries"},
		{"17 backends", route("{backendRefs: " + many(17, "{name: s, port: 80}") + "}"), "spec.rules[0].backendRefs: has 17 entries"},
		{"17 header matches", route("{matches: [{headers: " + many(17, "{name: a, value: b}") + "}]}"), "headers: has 17 entries"},
		{"retry code", route("{retry: {codes: [399]}}"), "spec.rules[0].retry.codes[0]: 399"},
		{"permanent session", route("{sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}}"), "AbsoluteTimeout must be specified"},
		{"session type", route("{sessionPersistence: {type: Query}}"), "sessionPersistence.type"},
		{"mirror of more than all", route("{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}, percent: 101}}]}"), "percent: 101"},
		{"URLRewrite on a GRPCRoute", "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: s}\nspec: {rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: a}}]}]}", "filters[0].type"},
		{"redirect on a GRPCRoute", "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: s}\nspec: {rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}]}]}", "filters[0].type"},
		{"CORS age", route("{filters: [{type: CORS, cors: {maxAge: 0}}]}"), "maxAge: must be at least 1"},
		{"CORS methods", route("{filters: [{type: CORS, cors: {allowMethods: ['*', GET]}}]}"), "AllowMethods cannot contain '*'"},
		{"TCPRoute without rules", "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: s}\nspec: {}", "spec.rules: has 0 rules"},
		{"TCPRoute without backends", "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: s}\nspec: {rules: [{}]}", "backendRefs: has 0 entries"},
		{"service port", "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 0}]}", "spec.ports[0].port"},
		{"grpc method", "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: s}\nspec: {rules: [{matches: [{method: {}}]}]}", "one or both"},
		{"wildcard DNS", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s}\nspec: {hosts: ['*.a.com'], resolution: DNS}", "cannot be resolved"},
		{"hash keys", "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: s}\nspec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {}}}}", "exactly one hash key"},
		{"deep nesting", policy("{rules: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objs, err := Parse("f.yaml", []byte(tc.manifest))
			if err != nil || len(objs) != 1 {
				t.Fatal(err, len(objs))
			}
			got := errString(objs[0].Err)
			if tc.name == "deep nesting" {
				if got == "" {
					t.Error("accepted")
				}
				return
			}
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("error %q, want %q", got, tc.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	objs, err := Parse("f", []byte(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r"},"spec":{"parentRefs":[{"name":"g"}],
		"rules":[{"backendRefs":[{"name":"s","port":80}],"filters":[{"type":"RequestRedirect","requestRedirect":{}}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	h := objs[0].Body.(*HTTPRoute)
	r := h.Rules[0]
	got := fmt.Sprintf("%s %s/%s %d %s %s %d %s %d", objs[0].Namespace, *h.ParentRefs[0].Group, *h.ParentRefs[0].Kind, len(r.Matches),
		*r.Matches[0].Path.Type, *r.Matches[0].Path.Value, *r.BackendRefs[0].Weight, *r.BackendRefs[0].Kind, *r.Filters[0].RequestRedirect.StatusCode)
	if want := "default " + groupGateway + "/Gateway 1 PathPrefix / 1 Service 302"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDocuments(t *testing.T) {
	text := "# head\n\n--- # first\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\n# nothing\n---\n\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: b\n  annotations:\n    x: |\n      ----\n"
	objs, err := Parse("f", []byte(text))
	if err != nil || len(objs) != 2 || objs[0].Source != "f:4" || objs[1].Source != "f:12" {
		t.Fatalf("%v %d %+v", err, len(objs), objs)
	}
	for _, bad := range []string{"a: [", "kind: X", "apiVersion: v1\nkind: Pod", "- a", "apiVersion: v1\nkind: List\nitems: [{}]"} {
		if _, err := Parse("f", []byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestProtocol(t *testing.T) {
	for _, tc := range []struct {
		app, name string
		want      config.Protocol
	}{
		{"", "http", config.ProtocolHTTP}, {"", "http-web", config.ProtocolHTTP}, {"", "httpx", config.ProtocolAuto},
		{"", "http2-x", config.ProtocolHTTP2}, {"", "grpc", config.ProtocolGRPC}, {"", "grpc-web", config.ProtocolGRPCWeb},
		{"", "grpc-web-a", config.ProtocolGRPCWeb}, {"", "tcp-pg", config.ProtocolTCP}, {"", "https", config.ProtocolTLS},
		{"", "", config.ProtocolAuto}, {"kubernetes.io/h2c", "tcp", config.ProtocolHTTP2}, {"http", "tcp", config.ProtocolHTTP},
		{"redis", "", config.ProtocolTCP}, {"tls", "", config.ProtocolTLS}, {"strange", "http", config.ProtocolAuto},
	} {
		if got := protocolOf(tc.app, tc.name); got != tc.want {
			t.Errorf("protocolOf(%q, %q) = %d, want %d", tc.app, tc.name, got, tc.want)
		}
	}
}

// Decoding, checking and building never panic, whatever a file holds.
func FuzzParse(f *testing.F) {
	f.Add([]byte("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{matches: [{}], filters: [{type: CORS}]}]}"))
	f.Add([]byte("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {targetRefs: [{kind: Service, name: cart}], rules: [{from: [{}], to: [{}], when: [{}]}]}"))
	f.Add([]byte("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s, namespace: shop}\nspec: {hosts: [a.b], ports: [{number: 80, name: http}], endpoints: [{}]}"))
	f.Add([]byte("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: s, namespace: shop}\nspec: {host: cart, trafficPolicy: {portLevelSettings: [{}]}}"))
	f.Add([]byte("apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{matches: [{method: {}}]}]}"))
	base := manifest(f, "testdata/base.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, err := Parse("f", data)
		if err != nil {
			return
		}
		s := store(t, base)
		for _, o := range objs {
			s.Put(o)
		}
		b := NewBuilder(Options{})
		m := b.Build(s)
		config.Compile(m, nil, config.Env{})
		// Building again gives the same pointers: the builder is deterministic.
		n := b.Build(s)
		for i := range m.Destinations {
			if n.Destinations[i] != m.Destinations[i] {
				t.Errorf("%s was built differently the second time", m.Destinations[i].Key)
			}
		}
	})
}
