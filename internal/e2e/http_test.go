package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// more are the rules of the table that stand in the second route.
var more = map[string]bool{"zero": true, "all-zero": true, "missing": true, "empty": true, "timeout": true, "try-timeout": true}

func TestHTTPRoutes(t *testing.T) {
	m := newMesh(t)
	for _, tt := range []struct {
		name, method, target string
		headers              []string
		status               int
		rule, app, path      string // what the application saw
		location, flags      string
	}{
		{name: "prefix", target: "/m/a?x=1", rule: "prefix", app: "v1", path: "/m/a?x=1"},
		{name: "prefix itself", target: "/m", rule: "prefix", app: "v1", path: "/m"},
		{name: "segments", target: "/mm", status: 404, flags: "NR"},
		{name: "exact before prefix", target: "/m/exact", rule: "exact", app: "v2", path: "/m/exact"},
		{name: "exact is exact", target: "/m/exact/", rule: "prefix", app: "v1", path: "/m/exact/"},
		{name: "regex", target: "/r/12", rule: "regex", app: "v2", path: "/r/12"},
		{name: "regex is whole", target: "/r/12a", status: 404, flags: "NR"},
		{name: "method", method: "PUT", target: "/m/a", rule: "method", app: "v2", path: "/m/a"},
		{name: "method before header", method: "PUT", target: "/m/a", headers: []string{"x-canary", "true"}, rule: "method", app: "v2", path: "/m/a"},
		{name: "header", target: "/m/a", headers: []string{"X-CANARY", "true"}, rule: "header", app: "v2", path: "/m/a"},
		{name: "other value", target: "/m/a", headers: []string{"x-canary", "True"}, rule: "prefix", app: "v1", path: "/m/a"},
		{name: "query", target: "/m/a?q=1", rule: "query", app: "v2", path: "/m/a?q=1"},
		{name: "first of two", target: "/m/a?q=2&q=1", rule: "prefix", app: "v1", path: "/m/a?q=2&q=1"},
		{name: "header before query", target: "/m/a?q=1", headers: []string{"x-canary", "true"}, rule: "header", app: "v2", path: "/m/a?q=1"},

		{name: "scheme", target: "/go/https/a?b=c", status: 301, rule: "to-https", location: "https://cart.shop/go/https/a?b=c"},
		{name: "host and port", target: "/go/host", status: 302, rule: "to-host", location: "http://other.example:8443/go/host"},
		{name: "full path", target: "/go/path/x?y=z", status: 303, rule: "to-path", location: "http://cart.shop/new?y=z"},
		{name: "prefix redirect", target: "/go/prefix/x", status: 308, rule: "to-prefix", location: "http://cart.shop/p/x"},
		{name: "307", method: "POST", target: "/go/307", status: 307, rule: "see-307", location: "http://other.example/go/307"},

		{name: "rewrite", target: "/foo/bar?x=1", rule: "rewrite-prefix", app: "v1", path: "/xyz/bar?x=1"},
		{name: "rewrite bare", target: "/foo", rule: "rewrite-prefix", app: "v1", path: "/xyz"},
		{name: "rewrite slash", target: "/foo/", rule: "rewrite-prefix", app: "v1", path: "/xyz/"},
		{name: "strip", target: "/strip/a", rule: "rewrite-root", app: "v1", path: "/a"},
		{name: "strip all", target: "/strip", rule: "rewrite-root", app: "v1", path: "/"},
		{name: "strip all and slash", target: "/strip/", rule: "rewrite-root", app: "v1", path: "/"},
		{name: "rewrite full", target: "/full/a?b=c", rule: "rewrite-full", app: "v1", path: "/one?b=c"},

		{name: "zero weight", target: "/zero", rule: "zero", app: "v2", path: "/zero"},
		{name: "all weights zero", target: "/all-zero", status: 500, rule: "all-zero"},
		{name: "missing backend", target: "/missing", status: 500, rule: "missing"},
		{name: "no endpoints", target: "/empty", status: 503, rule: "empty", flags: "UH"},
		{name: "request timeout", target: "/slow?delay=5s", status: 504, rule: "timeout", flags: "UT"},
		{name: "backend timeout", target: "/try?delay=5s", status: 504, rule: "try-timeout", flags: "UT"},
		{name: "normalized", target: "/x/%2e%2e/m/a", rule: "prefix", app: "v1", path: "/m/a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			if tt.method == "" {
				tt.method = "GET"
			}
			if tt.status == 0 {
				tt.status = 200
			}
			a := m.ask("clients", 1, tt.method, tt.target, tt.headers...)
			route := "default"
			if tt.rule != "" {
				route = "shop/cart/" + tt.rule
				if more[tt.rule] {
					route = "shop/more/" + tt.rule
				}
			}
			if a.StatusCode != tt.status || a.rec.Route != route {
				t.Errorf("%d by %s, want %d by %s: %s", a.StatusCode, a.rec.Route, tt.status, route, a.body)
			}
			if got := a.Header.Get("Location"); got != tt.location {
				t.Errorf("Location %q, want %q", got, tt.location)
			}
			if got := strings.Trim(a.rec.Flags.String(), "-"); got != tt.flags && !(tt.flags == "" && tt.status == 500) {
				t.Errorf("flags %q, want %q", got, tt.flags)
			}
			if tt.app == "" {
				return
			}
			app := m.v1
			if tt.app == "v2" {
				app = m.v2
			}
			if s := a.one(t, app); s.Path != tt.path {
				t.Errorf("the application saw %s, want %s", s.Path, tt.path)
			}
			if tt.name == "rewrite full" && a.one(t, app).Host != "inner.example" {
				t.Errorf("the application saw host %s", a.one(t, app).Host)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	m := newMesh(t)
	a := m.ask("clients", 1, "GET", "/head", "X-Drop", "1", "X-Set", "client", "X-Add", "client")
	h := a.one(t, m.v1).Headers
	if h["X-Set"] != "rule" || h["X-Drop"] != "" || h["X-Backend"] != "v1" || h["X-Add"] != "client" && h["X-Add"] != "client,rule" {
		t.Errorf("the application saw %v", h)
	}
	if a.Header.Get("X-Out") != "rule" || a.Header.Get("X-App") != "" {
		t.Errorf("the client saw %v", a.Header)
	}

	// One of the mirrors is dead, which delays nothing.
	start := time.Now()
	a = m.ask("clients", 1, "GET", "/mirror?x=1")
	a.one(t, m.v1)
	if a.StatusCode != 200 || time.Since(start) > 2*time.Second {
		t.Errorf("%d after %v", a.StatusCode, time.Since(start))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if m.v2.Await(ctx, a.id) == nil {
		t.Fatal("the mirror saw nothing")
	}

	const origin = "https://ok.example"
	pre := m.ask("clients", 1, "OPTIONS", "/cors", "Origin", origin, "Access-Control-Request-Method", "PUT")
	if g := pre.Header.Get; g("Access-Control-Allow-Origin") != origin || !strings.Contains(g("Access-Control-Allow-Methods"), "PUT") ||
		g("Access-Control-Max-Age") != "60" || g("Access-Control-Allow-Credentials") != "true" || pre.StatusCode != 200 {
		t.Errorf("preflight: %d %v", pre.StatusCode, pre.Header)
	}
	if len(m.v1.Find(pre.id)) != 0 {
		t.Error("the application saw the preflight")
	}
	if act := m.ask("clients", 1, "GET", "/cors", "Origin", origin); act.Header.Get("Access-Control-Allow-Origin") != origin {
		t.Errorf("actual: %v", act.Header)
	}
	bad := m.ask("clients", 1, "OPTIONS", "/cors", "Origin", "https://evil.example", "Access-Control-Request-Method", "PUT")
	if bad.StatusCode != 200 || bad.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("refused: %d %v", bad.StatusCode, bad.Header)
	}

	a = m.ask("clients", 1, "GET", "/retry?status=503")
	if n := len(m.v1.Find(a.id)); n != 3 || a.rec.Attempts != 3 || !strings.Contains(a.rec.Flags.String(), "URX") {
		t.Errorf("retried: the application saw %d, %d attempts, %v", n, a.rec.Attempts, a.rec.Flags)
	}
}

func TestSplit(t *testing.T) {
	m := newMesh(t)
	// 3:1 of 400: outside of [230, 370] once in more than 10^12 runs.
	v1 := 0
	for range 400 {
		if m.ask("clients", 1, "GET", "/split").Header.Get("X-App") == "v1" {
			v1++
		}
	}
	if v1 < 230 || v1 > 370 {
		t.Errorf("%d of 400 went to the backend of weight 3 in 4", v1)
	}
}

func TestSession(t *testing.T) {
	m := newMesh(t)
	first := m.ask("clients", 1, "GET", "/session")
	var token *http.Cookie
	for _, c := range first.Cookies() {
		if c.Name == "sid" {
			token = c
		}
	}
	if token == nil {
		t.Fatalf("no cookie: %v", first.Header)
	}
	for range 20 {
		a := m.ask("clients", 1, "GET", "/session", "Cookie", "sid="+token.Value)
		if a.Header.Get("X-App") != first.Header.Get("X-App") || len(a.Cookies()) != 0 {
			t.Fatalf("the session went to %v", a.Header)
		}
	}
}

func TestParentsAndConsumers(t *testing.T) {
	m := newMesh(t)
	if a := m.ask("clients", 6, "GET", "/only/x"); a.StatusCode != 200 || a.rec.Route != "shop/any-port/only" {
		t.Errorf("%d by %s", a.StatusCode, a.rec.Route)
	}
	if a := m.ask("clients", 6, "GET", "/x"); a.StatusCode != 404 {
		t.Errorf("no rule: %d", a.StatusCode)
	}
	if a := m.ask("visitors", 6, "GET", "/x"); a.StatusCode != 200 || a.Header.Get("X-Consumer") != "yes" || a.rec.Route != "visitors/ours/consumer" {
		t.Errorf("consumer: %d by %s %v", a.StatusCode, a.rec.Route, a.Header)
	}
	// Without a route the service itself answers.
	if a := m.ask("clients", 2, "GET", "/x"); a.StatusCode != 200 || a.rec.Route != "default" {
		t.Errorf("no routes: %d by %s", a.StatusCode, a.rec.Route)
	}
}
