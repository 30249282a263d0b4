package e2e

import (
	"testing"
)

const policySessions = `---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: sessions, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: cart}, {group: "", kind: Service, name: v1}]
  sessionPersistence: {sessionName: sid}
`

func sid(a answer) string {
	for _, c := range a.Cookies() {
		if c.Name == "sid" {
			return c.Value
		}
	}
	return ""
}

// sessions starts sessions by path until there is one on each application, and holds
// each to its application.
func (m *mesh) sessions(path string) map[string]string {
	m.t.Helper()
	tokens := map[string]string{}
	for n := 0; len(tokens) < 2 && n < draws; n++ {
		a := m.ask("clients", 1, "GET", path)
		if sid(a) == "" {
			m.t.Fatalf("%s: no token in %v", path, a.Header)
		}
		tokens[a.Header.Get("X-App")] = sid(a)
	}
	if len(tokens) != 2 {
		m.t.Fatalf("%s: sessions on %v", path, tokens)
	}
	for app, token := range tokens {
		for range 10 {
			a := m.ask("clients", 1, "GET", path, "Cookie", "sid="+token)
			if a.Header.Get("X-App") != app || sid(a) != "" {
				m.t.Fatalf("%s: the session of %s went to %v", path, app, a.Header)
			}
		}
	}
	return tokens
}

// A policy of a service keeps the sessions of whatever sends requests to it: the
// service's own address, and rules that have no sessions of their own. No two of them
// share a session.
func TestPolicySessions(t *testing.T) {
	m := startMesh(t, nil)
	services := frame + pod(podV1) + pod(podV2) +
		service(1, "cart", "http", 8080, podV1, podV2) + service(2, "v1", "http", 8080, podV1) + service(3, "v2", "http", 8080, podV2)
	m.serve(services + policySessions)
	m.sessions("/any")

	m.serve(services + `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules:
  - name: a
    matches: [{path: {value: /a}}]
    backendRefs: [{name: cart, port: 80}]
  - name: b
    matches: [{path: {value: /b}}]
    backendRefs: [{name: cart, port: 80}]
  - name: split
    matches: [{path: {value: /split}}]
    backendRefs: [{name: v1, port: 80}, {name: v2, port: 80}]
  - name: own
    matches: [{path: {value: /own}}]
    sessionPersistence: {sessionName: x-own, type: Header}
    backendRefs: [{name: cart, port: 80}]
  - name: none
    matches: [{path: {value: /none}}]
    backendRefs: [{name: v2, port: 80}]
` + policySessions)
	a := m.sessions("/a")
	m.sessions("/b")
	m.sessions("/split") // the backend without a policy keeps its clients as well
	for app, token := range a {
		if r := m.ask("clients", 1, "GET", "/b", "Cookie", "sid="+token); sid(r) == "" {
			t.Errorf("the session of %s by one rule is honoured by another", app)
		}
	}
	if r := m.ask("clients", 1, "GET", "/own"); sid(r) != "" || r.Header.Get("X-Own") == "" {
		t.Errorf("the rule's own sessions do not take precedence: %v", r.Header)
	}
	if r := m.ask("clients", 1, "GET", "/none"); sid(r) != "" {
		t.Errorf("a service without a policy keeps sessions: %v", r.Header)
	}
}
