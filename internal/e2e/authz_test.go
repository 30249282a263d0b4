package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/telemetry"
)

// guarded is what the policies of these tests guard: two services, a service of a
// ServiceEntry, and the pods themselves.
const guarded = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: all}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: shop}
spec: {hosts: [partner.example], addresses: [10.96.7.3], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], resolution: STATIC, endpoints: [{address: 127.60.0.2}]}
---
`

// meshConfig is the mesh configuration, in lines.
func meshConfig(lines ...string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " +
		strings.Join(lines, "\n    ") + "\n---\n"
}

// policy is an AuthorizationPolicy; spec is in one line.
func policy(ns, name, spec string) string {
	return fmt.Sprintf("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: %s, namespace: %s}\nspec: %s\n---\n", name, ns, spec)
}

// dryRun is a policy that only reports.
func dryRun(name, spec string) string {
	return strings.Replace(policy("shop", name, spec), "namespace: shop", "namespace: shop, annotations: {istio.io/dry-run: \"true\"}", 1)
}

const (
	onCart  = `targetRefs: [{kind: Service, group: "", name: cart}]`
	onV1    = `targetRefs: [{kind: Service, group: "", name: v1}]`
	onEntry = `targetRefs: [{kind: ServiceEntry, group: networking.istio.io, name: partner}]`
	onGate  = `targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]`
	onClass = `targetRefs: [{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}]`

	fromOthers = `rules: [{from: [{source: {namespaces: [others]}}]}]`
)

// guard makes the guarded services serve under policies, and returns the model.
func (m *mesh) guard(policies ...string) *config.Model {
	m.t.Helper()
	yaml := guarded + pod(podV1) + pod(podV2) + service(1, "cart", "http", 8080, podV1) + service(2, "v1", "http", 8080, podV2) +
		service(4, "raw", "tcp", 7070, podV1) + service(5, "live", "http", 7080, podV1) + service(6, "live-h2", "grpc", 9090, podV1) +
		service(8, "authz-grpc", "grpc", 9101, podV1) + service(9, "authz-http", "http", 9102, podV1)
	objs := kube.NewObjects()
	list, err := kube.Parse("mesh.yaml", []byte(yaml+strings.Join(policies, "")))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, o := range list {
		objs.Put(o)
	}
	model := kube.NewBuilder(kube.Options{}).Build(objs)
	m.w.Serve(model)
	return model
}

const (
	cartVIP = "10.96.7.1:80"
	v1VIP   = "10.96.7.2:80"
	entry   = "10.96.7.3:80"
	cartPod = podV1 + ":8080"
)

// Each policy acts on its targets and on nothing else, and the log names what
// decided, in the words of explain.
func TestPolicyTargetsAndActions(t *testing.T) {
	m := newMesh(t)
	all := []string{cartVIP, v1VIP, entry, cartPod}
	for _, tt := range []struct {
		name     string
		policies []string
		denied   string // indices of all at which a client of others is denied
		by       string // the policy that the log names there
		reason   string
	}{
		{"no policy", nil, "", "", ""},
		{"Service", []string{policy("shop", "p", "{"+onCart+", action: DENY, "+fromOthers+"}")}, "0", "shop/p", "deny_matched"},
		{"ServiceEntry", []string{policy("shop", "p", "{"+onEntry+", action: DENY, "+fromOthers+"}")}, "2", "shop/p", "deny_matched"},
		{"several targets", []string{policy("shop", "p", strings.Replace("{"+onCart+", action: DENY, "+fromOthers+"}", "name: cart}]", `name: cart}, {kind: Service, group: "", name: v1}]`, 1))}, "01", "shop/p", "deny_matched"},
		{"Gateway", []string{policy("shop", "p", "{"+onGate+", action: DENY, "+fromOthers+"}")}, "0123", "shop/p", "deny_matched"},
		{"GatewayClass in the root namespace", []string{policy("istio-system", "p", "{"+onClass+", action: DENY, "+fromOthers+"}")}, "0123", "istio-system/p", "deny_matched"},
		{"GatewayClass elsewhere", []string{policy("shop", "p", "{"+onClass+", action: DENY, "+fromOthers+"}")}, "", "", ""},
		{"Service of another namespace", []string{policy("others", "p", "{"+onCart+", action: DENY, "+fromOthers+"}")}, "", "", ""},
		{"selector", []string{policy("shop", "p", "{selector: {matchLabels: {app: cart}}, action: DENY, "+fromOthers+"}")}, "", "", ""},
		{"no target", []string{policy("shop", "p", "{action: DENY, "+fromOthers+"}")}, "", "", ""},
		{"no target in the root namespace", []string{policy("istio-system", "p", "{}")}, "", "", ""},
		{"spec of a target only", []string{policy("shop", "p", "{"+onCart+"}")}, "0", "", "no_allow_match"},
		{"rule without conditions", []string{policy("shop", "p", "{"+onCart+", action: DENY, rules: [{}]}")}, "0", "shop/p", "deny_matched"},
		{"allowed by another rule", []string{policy("shop", "p", "{"+onCart+"}"), policy("shop", "q", "{"+onCart+", rules: [{}]}")}, "", "", ""},
		{"DENY before ALLOW", []string{policy("shop", "p", "{"+onCart+", action: DENY, rules: [{}]}"), policy("shop", "q", "{"+onCart+", rules: [{}]}")}, "0", "shop/p", "deny_matched"},
		{"union of Service and Gateway", []string{policy("shop", "p", "{"+onGate+"}"), policy("shop", "q", "{"+onCart+", rules: [{}]}")}, "123", "", "no_allow_match"},
		{"service port", []string{policy("shop", "p", "{"+onGate+`, action: DENY, rules: [{to: [{operation: {ports: ["80"]}}]}]}`)}, "012", "shop/p", "deny_matched"},
		{"pod port", []string{policy("shop", "p", "{"+onGate+`, action: DENY, rules: [{to: [{operation: {ports: ["8080"]}}]}]}`)}, "3", "shop/p", "deny_matched"},
		{"client address", []string{policy("shop", "p", "{"+onCart+`, action: DENY, rules: [{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]}`)}, "0", "shop/p", "deny_matched"},
		{"trust domain alias", []string{meshConfig("trustDomainAliases: [old.local]"), policy("shop", "p", "{"+onCart+", action: DENY, rules: [{from: [{source: {principals: [old.local/ns/others/sa/curl]}}]}]}")}, "0", "shop/p", "deny_matched"},
		{"another trust domain", []string{policy("shop", "p", "{"+onCart+", action: DENY, rules: [{from: [{source: {principals: [old.local/ns/others/sa/curl]}}]}]}")}, "", "", ""},
		{"AUDIT", []string{policy("shop", "p", "{"+onCart+", action: AUDIT, rules: [{}]}")}, "", "", ""},
		{"dry run of DENY", []string{dryRun("p", "{"+onCart+", action: DENY, rules: [{}]}")}, "", "", ""},
		{"dry run of ALLOW does not close", []string{dryRun("p", "{"+onCart+"}")}, "", "", ""},
		{"unreadable policy", []string{policy("shop", "p", "{"+onCart+", rules: [{to: [{operation: {path: [/x]}}]}]}")}, "0", "shop/p", "policy_invalid"},
		{"unreadable template", []string{policy("shop", "p", "{"+onCart+`, action: DENY, rules: [{to: [{operation: {paths: ["/a/{x}"]}}]}]}`)}, "0", "shop/p", "policy_invalid"},
		{"unreadable target", []string{policy("shop", "p", "{targetRefs: [{nane: cart}], action: DENY, "+fromOthers+"}")}, "0123", "shop/p", "policy_invalid"},
		{"CUSTOM without its provider", []string{policy("shop", "p", "{"+onCart+", action: CUSTOM, provider: {name: nosuch}, rules: [{to: [{operation: {paths: [/a]}}]}]}")}, "0", "shop/p", "deny_matched"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			m.guard(tt.policies...)
			for i, to := range all {
				a := m.askAt("others", to, "GET", "/a")
				if strings.Contains(tt.denied, fmt.Sprint(i)) {
					if a.StatusCode != 403 || a.body != "RBAC: access denied" || !a.rec.Denied || a.rec.Policy != tt.by || a.rec.Reason != tt.reason {
						t.Errorf("%s: %d %q, logged %v %q %q", to, a.StatusCode, a.body, a.rec.Denied, a.rec.Policy, a.rec.Reason)
					}
				} else if a.StatusCode != 200 {
					t.Errorf("%s: %d %q by %q", to, a.StatusCode, a.body, a.rec.Policy)
				}
			}
			a := m.askAt("others", cartVIP, "GET", "/a")
			switch tt.name {
			case "AUDIT":
				if a.rec.Audit != "shop/p" {
					t.Errorf("audit %q", a.rec.Audit)
				}
			case "dry run of DENY", "dry run of ALLOW does not close":
				if a.rec.DryRun != "denied" {
					t.Errorf("dry run %q by %q", a.rec.DryRun, a.rec.DryRunPolicy)
				}
			}
		})
	}
}

// providers starts both kinds of authorizers in the pod of cart.
func (m *mesh) providers() (rpc, web *testmesh.Authorizer) {
	m.t.Helper()
	start := func(port string, http1 bool) *testmesh.Authorizer {
		ln, err := net.Listen("tcp", podV1+":"+port)
		if err != nil {
			m.t.Fatal(err)
		}
		a := testmesh.NewAuthorizer(ln, http1)
		m.t.Cleanup(a.Close)
		return a
	}
	return start("9101", false), start("9102", true)
}

// provider is one line of extensionProviders.
func provider(name, options string) string {
	kind, service := "envoyExtAuthzGrpc", "authz-grpc"
	if strings.HasPrefix(name, "http") {
		kind, service = "envoyExtAuthzHttp", "authz-http"
		options += ", pathPrefix: /check"
	}
	return fmt.Sprintf("- {name: %s, %s: {service: %s.shop.svc.cluster.local, port: 80%s}}", name, kind, service, options)
}

func customPolicy(name, provider string) string {
	return policy("shop", name, "{"+onCart+", action: CUSTOM, provider: {name: "+provider+"}, rules: [{to: [{operation: {notPaths: [/free]}}]}]}")
}

// External authorizers of the mesh configuration are asked through the mesh, and
// whatever goes wrong with them opens nothing that does not ask to be open.
func TestCustomFromManifests(t *testing.T) {
	m := newMesh(t)
	rpc, web := m.providers()
	serve := func(option, use string, more ...string) {
		m.guard(append([]string{meshConfig("extensionProviders:", provider("grpc", option), provider("http", option)), customPolicy("ask", use)}, more...)...)
	}
	expect := func(what string, a answer, code int, body, reason string) {
		m.t.Helper()
		if a.StatusCode != code || body != "*" && a.body != body || reason != "" && a.rec.Reason != reason {
			m.t.Errorf("%s: %d %q, logged %q by %q", what, a.StatusCode, a.body, a.rec.Reason, a.rec.Policy)
		}
		if a.StatusCode >= 400 && (!a.rec.Denied || len(m.v1.Find(a.id)) > 0) {
			m.t.Errorf("%s: the application was reached, or the log does not say denied", what)
		}
	}
	for _, kind := range []string{"grpc", "http"} {
		t.Run(kind, func(t *testing.T) {
			m.t = t
			asked := func() int { return rpc.Count() + web.Count() }
			serve(", timeout: 10s, headersToUpstreamOnAllow: [x-user], headersToDownstreamOnAllow: [x-checked], headersToDownstreamOnDeny: [x-why], includeRequestHeadersInCheck: [x-user, x-a]", kind)
			if kind == "grpc" { // what is chosen by these options comes with the answer
				serve(", timeout: 10s", kind)
			}

			before := asked()
			a := m.ask("clients", 1, "GET", "/ok", "X-User", "root", "X-A", "1")
			expect("allowed", a, 200, "*", "")
			if h := a.one(t, m.v1).Headers; h["X-User"] != "bob" || a.Header.Get("X-Checked") != "yes" || asked() != before+1 {
				t.Errorf("application saw %v, the client %v, %d checks", h, a.Header, asked()-before)
			}
			if kind == "http" {
				if r := web.Asked(); r.URL.Path != "/check/ok" || r.Header.Get("X-User") != "root" || r.Header.Get("X-A") != "1" || r.Header.Get("User-Agent") != "" {
					t.Errorf("the check was %s %v", r.URL, r.Header)
				}
			} else if at := rpc.Last().GetAttributes(); at.GetSource().GetPrincipal() != "spiffe://cluster.local/ns/clients/sa/curl" ||
				at.GetDestination().GetPrincipal() != "spiffe://cluster.local/ns/shop/sa/waypoint" || at.GetRequest().GetHttp().GetHeaders()["x-user"] != "root" {
				t.Errorf("the check was %v", at)
			}
			if p := m.nodes[podV1].Peers(); p["spiffe://cluster.local/ns/shop/sa/waypoint"] == 0 || len(p) != 1 {
				t.Errorf("the pod was called by %v", p)
			}
			a = m.ask("clients", 1, "GET", "/deny")
			expect("denied", a, 418, "no", "custom_matched")
			if a.Header.Get("X-Why") != "because" || a.rec.Flags&telemetry.FlagUAEX == 0 || a.rec.Policy != "shop/ask" {
				t.Errorf("%v, logged %v by %q", a.Header, a.rec.Flags, a.rec.Policy)
			}
			serve(", timeout: 200ms", kind)
			expect("slow", m.ask("clients", 1, "GET", "/slow"), 403, "", "")
			serve("", kind)
			expect("garbage", m.ask("clients", 1, "GET", "/garbage"), 403, "", "")
			before = asked()
			expect("not asked", m.ask("clients", 1, "GET", "/free"), 200, "*", "")
			if asked() != before {
				t.Error("a request that no CUSTOM policy matches was put to the provider")
			}

			// The other actions still count behind a yes.
			serve(", timeout: 10s", kind, policy("shop", "never", "{"+onCart+"}"))
			expect("allowed by the provider only", m.ask("clients", 1, "GET", "/ok"), 403, "RBAC: access denied", "no_allow_match")

			serve(`, timeout: 200ms, statusOnError: "503"`, kind)
			expect("statusOnError", m.ask("clients", 1, "GET", "/slow"), 503, "", "")
			serve(`, timeout: 200ms, failOpen: true`, kind)
			expect("failOpen, slow", m.ask("clients", 1, "GET", "/slow"), 200, "*", "custom_failed_open")
			serve(`, timeout: 10s, failOpen: true`, kind)
			expect("failOpen, denied", m.ask("clients", 1, "GET", "/deny"), 418, "no", "")

			// Two providers on one destination: nobody is asked, and nothing passes.
			serve(", timeout: 10s", kind, customPolicy("second", map[string]string{"grpc": "http", "http": "grpc"}[kind]))
			before = asked()
			expect("two providers", m.ask("clients", 1, "GET", "/ok"), 403, "RBAC: access denied", "custom_provider_conflict")
			expect("two providers, no match", m.ask("clients", 1, "GET", "/free"), 200, "*", "")
			if asked() != before {
				t.Error("a provider in conflict was asked")
			}
		})
	}
	t.Run("down", func(t *testing.T) {
		m.t = t
		for _, kind := range []string{"grpc", "http"} {
			serve(", timeout: 10s", kind)
			expect("up", m.ask("clients", 1, "GET", "/ok"), 200, "*", "")
		}
		rpc.Close()
		web.Close()
		for _, kind := range []string{"grpc", "http"} {
			serve(", timeout: 10s", kind)
			for range 8 { // past the breaker
				expect("down", m.ask("clients", 1, "GET", "/ok"), 403, "", "")
			}
			serve(`, timeout: 10s, statusOnError: "500"`, kind)
			expect("down, statusOnError", m.ask("clients", 1, "GET", "/ok"), 500, "", "")
			serve(`, timeout: 10s, failOpen: true, statusOnError: "500"`, kind)
			expect("down, failOpen", m.ask("clients", 1, "GET", "/ok"), 200, "*", "custom_failed_open")
		}
	})
}

// A body goes to the authorizer as far as the provider's settings say, and all of
// it to the application.
func TestCustomBody(t *testing.T) {
	m := newMesh(t)
	rpc, web := m.providers()
	for kind, a := range map[string]*testmesh.Authorizer{"grpc": rpc, "http": web} {
		for _, tt := range []struct {
			option  string
			size    int
			code    int
			checked int
		}{
			{"", 10, 200, 0},
			{", includeRequestBodyInCheck: {maxRequestBytes: 100}", 100, 200, 100},
			{", includeRequestBodyInCheck: {maxRequestBytes: 100}", 101, 413, 0},
			{", includeRequestBodyInCheck: {maxRequestBytes: 100, allowPartialMessage: true}", 101, 200, 100},
			{", includeRequestBodyInCheck: {maxRequestBytes: 100, packAsBytes: true}", 7, 200, 7},
		} {
			m.guard(meshConfig("extensionProviders:", provider(kind, tt.option)), customPolicy("ask", kind))
			before := a.Count()
			resp, err := http.Post("http://"+m.front("clients", 1)+"/ok", "text/plain", strings.NewReader(strings.Repeat("x", tt.size)))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.code || (a.Count() > before) != (tt.code == 200) || tt.code == 200 && len(a.Body()) != tt.checked {
				t.Errorf("%s %+v: %d, %d checks, of %d bytes", kind, tt, resp.StatusCode, a.Count()-before, len(a.Body()))
			}
		}
	}
}
