package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// A session stays on its endpoint while that serves its rule; its token says nothing
// to anybody else and holds for no other rule.
func TestSessions(t *testing.T) {
	const split = "    backendRefs: [{name: v1, port: 80}, {name: v2, port: 80}]\n"
	rules := func(weight string) string {
		return `  - name: cookie
    matches: [{path: {value: /cookie}}]
    sessionPersistence: {sessionName: sid, type: Cookie, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}
` + strings.Replace(split, "v1, port: 80", "v1, port: 80, weight: "+weight, 1) + `  - name: header
    matches: [{path: {value: /header}}]
    sessionPersistence: {sessionName: X-Sid, type: Header}
` + split + `  - name: other
    matches: [{path: {value: /other}}]
    sessionPersistence: {sessionName: sid, type: Cookie}
` + split
	}
	m := startMesh(t, nil)
	m.serveRules(rules("1"))

	cookie := func(a answer) string {
		for _, c := range a.Cookies() {
			if c.Name == "sid" {
				return c.Value
			}
		}
		return ""
	}
	header := func(a answer) string { return a.Header.Get("X-Sid") }
	for _, tt := range []struct {
		path  string
		token func(answer) string
		send  func(string) []string
	}{
		{"/cookie", cookie, func(v string) []string { return []string{"Cookie", "a=b; sid=" + v} }},
		{"/header", header, func(v string) []string { return []string{"X-Sid", v} }},
	} {
		// Sessions of both applications.
		tokens := map[string]string{}
		for n := 0; len(tokens) < 2 && n < 100; n++ {
			a := m.ask("clients", 1, "GET", tt.path)
			if tt.token(a) == "" {
				t.Fatalf("%s: no token in %v", tt.path, a.Header)
			}
			tokens[a.Header.Get("X-App")] = tt.token(a)
		}
		for app, token := range tokens {
			for _, s := range []string{podV1, podV2, "shop", "8080"} {
				if strings.Contains(token, s) {
					t.Errorf("the token %s names %s", token, s)
				}
			}
			for range 10 {
				a := m.ask("clients", 1, "GET", tt.path, tt.send(token)...)
				if a.Header.Get("X-App") != app || tt.token(a) != "" {
					t.Fatalf("%s: the session of %s went to %v", tt.path, app, a.Header)
				}
			}
			// One character of it changed, and another rule's: a new session each.
			bad := []byte(token)
			bad[len(bad)/2] ^= 1
			for name, h := range map[string][]string{"tampered": tt.send(string(bad)), "cut": tt.send(token[:len(token)-4]), "garbage": tt.send("10.0.0.1:8080")} {
				if a := m.ask("clients", 1, "GET", tt.path, h...); a.StatusCode != 200 || tt.token(a) == "" {
					t.Errorf("%s, %s: %d, no new token", tt.path, name, a.StatusCode)
				}
			}
			if a := m.ask("clients", 1, "GET", "/other", "Cookie", "sid="+token); cookie(a) == "" {
				t.Errorf("%s: its token is honoured by another rule", tt.path)
			}
		}
	}

	var old string
	for n := 0; old == "" && n < 100; n++ {
		if a := m.ask("clients", 1, "GET", "/cookie"); a.Header.Get("X-App") == "v1" {
			old = cookie(a)
			if c := a.Cookies()[0]; c.Path != "/cookie" || !c.HttpOnly || c.MaxAge != 3600 {
				t.Errorf("cookie %+v", c)
			}
		}
	}
	// No weight is left: the session stays, new ones go elsewhere.
	m.serveRules(rules("0"))
	for range 5 {
		if a := m.ask("clients", 1, "GET", "/cookie", "Cookie", "sid="+old); a.Header.Get("X-App") != "v1" {
			t.Errorf("the session left its endpoint for %s", a.Header.Get("X-App"))
		}
		if a := m.ask("clients", 1, "GET", "/cookie"); a.Header.Get("X-App") != "v2" {
			t.Errorf("a new session went to %s", a.Header.Get("X-App"))
		}
	}
	// The endpoint is gone: another one serves, and the client hears of it.
	m.v1.Kill()
	m.nodes[podV1].Close()
	a := m.ask("clients", 1, "GET", "/cookie", "Cookie", "sid="+old)
	if a.StatusCode == http.StatusOK {
		t.Errorf("a session of a dead endpoint: %s", a.Header.Get("X-App"))
	}
	m.serve(frame + pod(podV2) + service(1, "cart", "http", 8080, podV2) + service(2, "v1", "http", 8080) + service(3, "v2", "http", 8080, podV2) + `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules:
` + rules("1"))
	for range 20 {
		a := m.ask("clients", 1, "GET", "/cookie", "Cookie", "sid="+old)
		switch {
		case a.StatusCode == http.StatusOK && (a.Header.Get("X-App") != "v2" || cookie(a) == "" || cookie(a) == old):
			t.Fatalf("the vanished endpoint's session: %v", a.Header)
		case a.StatusCode != http.StatusOK && a.StatusCode != http.StatusServiceUnavailable: // v1 has its share
			t.Fatalf("%d", a.StatusCode)
		}
	}
}
