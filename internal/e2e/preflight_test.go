package e2e

import (
	"strings"
	"testing"
)

const corsRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cors, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules:
  - name: cors
    filters: [{type: CORS, cors: {allowOrigins: ["https://ok.example"], allowMethods: [PUT], allowCredentials: true}}]
    backendRefs: [{name: cart, port: 80}]
---
`

// tokens verifies the tokens of one issuer; none of these tests has its key.
const tokens = `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  ` + onCart + `
  jwtRules:
  - issuer: https://issuer.example
    jwks: '{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "x": "gJsJ_CKhhq5evHm9H5Lpg_2q1BIR5QpIcL57PvaZwAw", "y": "GIuyH31vE-koE3Ov2lFx-0mzOLfzc7jrPI3L1Nz3MMg"}]}'
---
`

// Policies come before CORS: a preflight passes each of them before the waypoint
// answers it, and a denial tells a page nothing. Tokens are not read in it, as
// browsers send none.
func TestPreflightPassesPolicies(t *testing.T) {
	m := startMesh(t, nil)
	rpc, _ := m.providers()
	const origin = "https://ok.example"
	needsToken := policy("shop", "p", "{"+onCart+`, rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]}`)
	ask := meshConfig("extensionProviders:", provider("grpc", ", timeout: 10s")) + customPolicy("ask", "grpc")
	for _, tt := range []struct {
		name     string
		policies string
		path     string
		token    string
		code     int
		by       string // the policy that the log names
		reason   string
		checks   int // by the authorization server
	}{
		{name: "no policy", code: 200},
		{name: "DENY of OPTIONS", policies: policy("shop", "p", "{"+onCart+", action: DENY, rules: [{to: [{operation: {methods: [OPTIONS]}}]}]}"), code: 403, by: "shop/p", reason: "deny_matched"},
		{name: "DENY of PUT", policies: policy("shop", "p", "{"+onCart+", action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}"), code: 200},
		{name: "DENY of the caller", policies: policy("shop", "p", "{"+onCart+", action: DENY, "+fromOthers+"}"), code: 403, by: "shop/p", reason: "deny_matched"},
		{name: "DENY of the origin", policies: policy("shop", "p", "{"+onCart+`, action: DENY, rules: [{when: [{key: "request.headers[origin]", values: ["`+origin+`"]}]}]}`), code: 403, by: "shop/p", reason: "deny_matched"},
		{name: "DENY of another origin", policies: policy("shop", "p", "{"+onCart+`, action: DENY, rules: [{when: [{key: "request.headers[origin]", notValues: ["`+origin+`"]}]}]}`), code: 200},
		{name: "DENY of the path", policies: policy("shop", "p", "{"+onCart+`, action: DENY, rules: [{to: [{operation: {paths: ["/{*}/b"]}}]}]}`), path: "/a/b", code: 403, by: "shop/p", reason: "deny_matched"},
		{name: "ALLOW of PUT", policies: policy("shop", "p", "{"+onCart+", rules: [{to: [{operation: {methods: [PUT]}}]}]}"), code: 403, reason: "no_allow_match"},
		{name: "ALLOW of OPTIONS", policies: policy("shop", "p", "{"+onCart+", rules: [{to: [{operation: {methods: [OPTIONS]}}]}]}"), code: 200, by: "shop/p", reason: "allow_matched"},
		{name: "dry run", policies: dryRun("p", "{"+onCart+", action: DENY, rules: [{}]}"), code: 200},
		{name: "broken token", policies: tokens, token: "what", code: 200},
		{name: "token wanted", policies: tokens + needsToken, code: 403, reason: "no_allow_match"},
		{name: "token wanted, broken one", policies: tokens + needsToken, token: "what", code: 403, reason: "no_allow_match"},
		{name: "token wanted, but of OPTIONS", policies: tokens + needsToken + policy("shop", "q", "{"+onCart+", rules: [{to: [{operation: {methods: [OPTIONS]}}]}]}"), code: 200, by: "shop/q", reason: "allow_matched"},
		{name: "CUSTOM allows", policies: ask, path: "/ok", code: 200, by: "shop/ask", reason: "custom_matched", checks: 1},
		{name: "CUSTOM denies", policies: ask, path: "/deny", code: 418, by: "shop/ask", reason: "custom_matched", checks: 1},
		{name: "CUSTOM of another path", policies: ask, path: "/free", code: 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			m.guard(corsRoute, tt.policies)
			if tt.path == "" {
				tt.path = "/a"
			}
			headers := []string{"Origin", origin, "Access-Control-Request-Method", "PUT"}
			if tt.token != "" {
				headers = append(headers, "Authorization", "Bearer "+tt.token)
			}
			before := rpc.Count()
			a := m.askAt("others", cartVIP, "OPTIONS", tt.path, headers...)
			if a.StatusCode != tt.code || a.rec.Policy != tt.by || tt.reason != "" && a.rec.Reason != tt.reason || a.rec.Denied != (tt.code != 200) {
				t.Errorf("%d %q, logged %v by %q %q", a.StatusCode, a.body, a.rec.Denied, a.rec.Policy, a.rec.Reason)
			}
			if tt.code == 403 && a.body != "RBAC: access denied" {
				t.Errorf("body %q", a.body)
			}
			if got := a.Header.Get("Access-Control-Allow-Origin"); tt.code == 200 && got != origin {
				t.Errorf("allowed, but answered for origin %q", got)
			}
			for name := range a.Header {
				if tt.code != 200 && strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("denied, and the page is told %s: %s", name, a.Header.Get(name))
				}
			}
			if len(m.v1.Find(a.id)) != 0 {
				t.Error("the application saw the preflight")
			}
			if n := rpc.Count() - before; n != tt.checks {
				t.Errorf("%d checks, want %d", n, tt.checks)
			}
		})
	}
	// The request that follows an allowed preflight is judged by itself.
	m.t = t
	m.guard(corsRoute, policy("shop", "p", "{"+onCart+", action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}"))
	a := m.askAt("others", cartVIP, "PUT", "/a", "Origin", origin)
	if a.StatusCode != 403 || a.rec.Policy != "shop/p" || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("actual request: %d by %q, %v", a.StatusCode, a.rec.Policy, a.Header)
	}
	m.guard(corsRoute, tokens)
	if a = m.askAt("others", cartVIP, "PUT", "/a", "Origin", origin, "Authorization", "Bearer what"); a.StatusCode != 401 || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("actual request with a broken token: %d %v", a.StatusCode, a.Header)
	}
}
