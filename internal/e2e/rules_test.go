package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/telemetry"
)

// serveRules serves one route of cart (10.96.7.1) with these rules; v1, v2, empty
// (no endpoints), dead (its pod is gone) and half (dead or v1) are its backends.
func (m *mesh) serveRules(rules string) {
	m.t.Helper()
	m.serve(frame + pod(podV1) + pod(podV2) + pod(dead) +
		service(1, "cart", "http", 8080, podV1, podV2) + service(2, "v1", "http", 8080, podV1) + service(3, "v2", "http", 8080, podV2) +
		service(4, "empty", "http", 8080) + service(5, "dead", "http", 8080, dead) + service(6, "half", "http", 8080, dead, podV1) + `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules:
` + rules)
}

// Every code with every part of the Location that a rule may name.
func TestRedirects(t *testing.T) {
	m := startMesh(t, nil)
	parts := []struct{ name, spec, location string }{
		{"nothing", "", "http://cart.shop/r%d/nothing/x?y=z"},
		{"scheme", "scheme: https, ", "https://cart.shop/r%d/scheme/x?y=z"},
		{"host", "hostname: other.example, ", "http://other.example/r%d/host/x?y=z"},
		{"port", "port: 8080, ", "http://cart.shop:8080/r%d/port/x?y=z"},
		{"own-port", "port: 80, ", "http://cart.shop/r%d/own-port/x?y=z"},
		{"https-port", "scheme: https, port: 443, ", "https://cart.shop/r%d/https-port/x?y=z"},
		{"https-other", "scheme: https, port: 80, ", "https://cart.shop:80/r%d/https-other/x?y=z"},
		{"full", "path: {type: ReplaceFullPath, replaceFullPath: /new}, ", "http://cart.shop/new?y=z"},
		{"prefix", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /p}, ", "http://cart.shop/p/x?y=z"},
		{"all", "scheme: https, hostname: other.example, port: 8443, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}, ", "https://other.example:8443/x?y=z"},
	}
	// A route has at most 16 rules: one code at a time.
	for _, code := range []int{0, 301, 302, 303, 307, 308} {
		rules := ""
		for _, p := range parts {
			status := ""
			if code != 0 {
				status = fmt.Sprintf("statusCode: %d", code)
			}
			rules += fmt.Sprintf("  - name: %s\n    matches: [{path: {value: /r%d/%s}}]\n    filters: [{type: RequestRedirect, requestRedirect: {%s%s}}]\n", p.name, code, p.name, p.spec, status)
		}
		m.serveRules(rules)
		for _, p := range parts {
			a := m.ask("clients", 1, "GET", fmt.Sprintf("/r%d/%s/x?y=z", code, p.name))
			want, status := p.location, code
			if strings.Contains(want, "%d") {
				want = fmt.Sprintf(want, code)
			}
			if status == 0 {
				status = 302
			}
			if got := a.Header.Get("Location"); got != want || a.StatusCode != status || a.rec.Route != "shop/cart/"+p.name {
				t.Errorf("%d %s: %d %q by %s, want %q", code, p.name, a.StatusCode, got, a.rec.Route, want)
			}
		}
	}
}

// The table of prefix rewrites, as the application sees them.
func TestPrefixRewrites(t *testing.T) {
	m := startMesh(t, nil)
	for _, prefix := range []string{"/foo", "/foo/"} {
		rules := ""
		values := []struct{ name, value string }{{"xyz", "/xyz"}, {"xyz-slash", "/xyz/"}, {"empty", `""`}, {"root", "/"}}
		for _, v := range values {
			rules += fmt.Sprintf("  - name: %s\n    matches: [{path: {value: %s}, headers: [{name: x-to, value: %s}]}]\n    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: %s}}}]\n    backendRefs: [{name: v1, port: 80}]\n", v.name, prefix, v.name, v.value)
		}
		m.serveRules(rules)
		for _, tt := range []struct{ to, request, want string }{
			{"xyz", "/foo/bar", "/xyz/bar"}, {"xyz", "/foo", "/xyz"}, {"xyz", "/foo/", "/xyz/"}, {"xyz", "/foo?a=b", "/xyz?a=b"},
			{"xyz-slash", "/foo/bar", "/xyz/bar"}, {"xyz-slash", "/foo/", "/xyz/"},
			{"empty", "/foo/bar", "/bar"}, {"empty", "/foo/", "/"}, {"empty", "/foo", "/"},
			{"root", "/foo/bar", "/bar"}, {"root", "/foo/", "/"}, {"root", "/foo", "/"}, {"root", "/foo?a=b", "/?a=b"},
		} {
			a := m.ask("clients", 1, "GET", tt.request, "X-To", tt.to)
			if s := a.one(t, m.v1); s.Path != tt.want || a.rec.Route != "shop/cart/"+tt.to {
				t.Errorf("prefix %s to %s: %s became %s, want %s", prefix, tt.to, tt.request, s.Path, tt.want)
			}
		}
	}
}

func TestCORS(t *testing.T) {
	m := startMesh(t, nil)
	m.serveRules(`  - name: named
    matches: [{path: {value: /named}}]
    filters: [{type: CORS, cors: {allowOrigins: ["https://ok.example", "https://*.wild.example"], allowMethods: [GET, PUT], allowHeaders: [x-a], exposeHeaders: [x-out], allowCredentials: true, maxAge: 60}}]
    backendRefs: [{name: v1, port: 80}]
  - name: any
    matches: [{path: {value: /any}}]
    filters: [{type: CORS, cors: {allowOrigins: ["*"], allowMethods: ["*"], allowHeaders: ["*"]}}]
    backendRefs: [{name: v1, port: 80}]
`)
	for _, tt := range []struct {
		path, origin, method                           string
		allow, methods, headers, expose, creds, maxAge string
	}{
		{"/named", "https://ok.example", "PUT", "https://ok.example", "GET,PUT", "x-a", "", "true", "60"},
		{"/named", "https://a.b.wild.example", "PUT", "https://a.b.wild.example", "GET,PUT", "x-a", "", "true", "60"},
		{"/named", "https://wild.example", "PUT", "", "", "", "", "", ""},
		{"/named", "http://ok.example", "PUT", "", "", "", "", "", ""},
		{"/named", "https://ok.example.evil", "PUT", "", "", "", "", "", ""},
		{"/any", "https://who.example", "DELETE", "https://who.example", "*", "*", "", "", "5"},
		{"/named", "https://ok.example", "", "https://ok.example", "", "", "x-out", "true", ""},
		{"/named", "https://evil.example", "", "", "", "", "", "", ""},
		{"/any", "https://who.example", "", "https://who.example", "", "", "", "", ""},
	} {
		h := []string{"Origin", tt.origin}
		method := "GET"
		if tt.method != "" {
			method, h = "OPTIONS", append(h, "Access-Control-Request-Method", tt.method, "Access-Control-Request-Headers", "x-a")
		}
		a := m.ask("clients", 1, method, tt.path, h...)
		get := func(n string) string { return strings.ReplaceAll(a.Header.Get("Access-Control-"+n), " ", "") }
		got := []string{get("Allow-Origin"), get("Allow-Methods"), get("Allow-Headers"), get("Expose-Headers"), get("Allow-Credentials"), get("Max-Age")}
		want := []string{tt.allow, tt.methods, tt.headers, tt.expose, tt.creds, tt.maxAge}
		if fmt.Sprint(got) != fmt.Sprint(want) || a.StatusCode != 200 {
			t.Errorf("%s %s of %s: %d %q, want %q", method, tt.path, tt.origin, a.StatusCode, got, want)
		}
		if seen := len(m.v1.Find(a.id)); seen != 0 != (tt.method == "") {
			t.Errorf("%s %s of %s: the application saw %d", method, tt.path, tt.origin, seen)
		}
	}
}

func TestBackendFailures(t *testing.T) {
	m := startMesh(t, nil)
	m.serveRules(`  - name: share
    matches: [{path: {value: /share}}]
    backendRefs: [{name: v1, port: 80, weight: 1}, {name: nobody, port: 80, weight: 1}]
  - name: dry
    matches: [{path: {value: /dry}}]
    backendRefs: [{name: v1, port: 80, weight: 1}, {name: empty, port: 80, weight: 1}]
  - name: half
    matches: [{path: {value: /half}}]
    backendRefs: [{name: half, port: 80}]
  - name: dead
    matches: [{path: {value: /dead}}]
    backendRefs: [{name: dead, port: 80}]
  - name: none
    matches: [{path: {value: /none}}]
  - name: again
    matches: [{path: {value: /again}}]
    retry: {attempts: 3, codes: [503], backoff: 1ms}
    backendRefs: [{name: v1, port: 80}, {name: v2, port: 80}]
  - name: broken
    matches: [{path: {value: /broken}}]
    filters: [{type: ExtensionRef, extensionRef: {group: a.example, kind: Thing, name: x}}]
    backendRefs: [{name: v1, port: 80}]
  - name: rest
    backendRefs: [{name: v2, port: 80}]
`)
	// Even shares of 200: outside of [55, 145] once in more than 10^9 runs.
	for path, bad := range map[string]struct {
		code  int
		flags telemetry.Flags
	}{"/share": {500, telemetry.FlagNC}, "/dry": {503, telemetry.FlagUH}} {
		n := 0
		for range 200 {
			switch a := m.ask("clients", 1, "GET", path); {
			case a.StatusCode == bad.code && a.rec.Flags == bad.flags:
				n++
			case a.StatusCode != 200:
				t.Fatalf("%s: %d %v", path, a.StatusCode, a.rec.Flags)
			}
		}
		if n < 55 || n > 145 {
			t.Errorf("%s: %d of 200 failed, want about half", path, n)
		}
	}
	retried := false
	for range 20 { // nothing was sent to the dead one: POST goes elsewhere as well
		a := m.ask("clients", 1, "POST", "/half")
		a.one(t, m.v1)
		retried = retried || a.rec.Attempts == 2
		if a.StatusCode != 200 || a.rec.Attempts > 2 {
			t.Errorf("%d after %d attempts", a.StatusCode, a.rec.Attempts)
		}
	}
	if !retried {
		t.Error("the dead endpoint was never tried")
	}
	if a := m.ask("clients", 1, "GET", "/dead"); a.StatusCode != 503 || !strings.Contains(a.rec.Flags.String(), "UF") {
		t.Errorf("dead: %d %v", a.StatusCode, a.rec.Flags)
	}
	// Retries stay with the backend that was drawn: a bad version does not leak its share.
	drawn := map[int]int{}
	for range 40 {
		a := m.ask("clients", 1, "GET", "/again?status=503")
		n1, n2 := len(m.v1.Find(a.id)), len(m.v2.Find(a.id))
		if a.StatusCode != 503 || n1*n2 != 0 || n1+n2 != 4 {
			t.Fatalf("%d, v1 saw %d and v2 %d", a.StatusCode, n1, n2)
		}
		drawn[n1]++
	}
	if len(drawn) != 2 { // the same backend 40 times: once in more than 10^11 runs
		t.Errorf("drawn: %v", drawn)
	}
	if a := m.ask("clients", 1, "GET", "/none"); a.StatusCode != 500 {
		t.Errorf("no backends: %d", a.StatusCode)
	}
	// A rule that cannot be applied fails for its own matches, whatever stands behind it.
	if a := m.ask("clients", 1, "GET", "/broken/x"); a.StatusCode != 500 || a.rec.Reason != "rule_broken" || len(m.v1.Find(a.id))+len(m.v2.Find(a.id)) > 0 {
		t.Errorf("broken: %d %s", a.StatusCode, a.rec.Reason)
	}
	if a := m.ask("clients", 1, "GET", "/brokenness"); a.one(t, m.v2).Path != "/brokenness" {
		t.Errorf("beside the broken rule: %d", a.StatusCode)
	}
}

// A mirror that hangs, fails or falls behind is nothing to the request.
func TestSlowMirrors(t *testing.T) {
	m := startMesh(t, nil)
	m.serveRules(`  - name: mirrored
    matches: [{path: {value: /m}}]
    filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: dead, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: empty, port: 80}}}
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}
    backendRefs: [{name: v1, port: 80}]
  - name: never
    matches: [{path: {value: /never}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 0}}]
    backendRefs: [{name: v1, port: 80}]
`)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	hung := make(chan struct{})
	m.v2.Hold(hung)
	defer close(hung)
	start := time.Now()
	for range 20 {
		a := m.ask("clients", 1, "GET", "/m/x")
		if a.StatusCode != 200 || a.one(t, m.v1).Path != "/new/x" {
			t.Errorf("%d", a.StatusCode)
		}
		seen := m.v2.Await(ctx, a.id)
		if len(seen) == 0 || seen[0].Path != "/new/x" || seen[0].Host != "cart.shop" {
			t.Fatalf("the mirror saw %+v", seen)
		}
	}
	// A body of more than a mirror may fall behind by.
	body := strings.Repeat("b", 4<<20)
	resp, err := http.Post("http://"+m.front("clients", 1)+"/m/big", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || m.v1.Count() != 21 {
		t.Errorf("%d, the application saw %d", resp.StatusCode, m.v1.Count())
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("the mirrors held everything up: %v", d)
	}
	http.DefaultClient.CloseIdleConnections()
	if a := m.ask("clients", 1, "GET", "/never"); a.one(t, m.v1).Path != "/never" || len(m.v2.Find(a.id)) > 0 {
		t.Error("a mirror of 0 percent was made")
	}
}

// request bounds the whole, backendRequest each try where there is a retry, and the
// whole in place of request where there is none.
func TestTimeoutPrecedence(t *testing.T) {
	m := startMesh(t, nil)
	rule := func(name, rest string) string {
		return fmt.Sprintf("  - name: %[1]s\n    matches: [{path: {value: /%[1]s}}]\n    backendRefs: [{name: v1, port: 80}]\n%[2]s", name, rest)
	}
	m.serveRules(rule("none", "") + rule("zero", "    timeouts: {request: 0s}\n") + rule("request", "    timeouts: {request: 60ms}\n") +
		rule("backend", "    timeouts: {request: 9s, backendRequest: 60ms}\n") +
		rule("tries", "    timeouts: {request: 9s, backendRequest: 60ms}\n    retry: {attempts: 1, codes: [504], backoff: 1ms}\n") +
		rule("whole", "    timeouts: {request: 150ms, backendRequest: 100ms}\n    retry: {attempts: 5, codes: [504], backoff: 1ms}\n"))
	for _, tt := range []struct {
		rule, delay string
		code        int
		details     string
	}{
		{"none", "100ms", 200, "via_upstream"},
		{"zero", "100ms", 200, "via_upstream"},
		{"request", "5s", 504, "upstream_response_timeout"},
		{"backend", "5s", 504, "upstream_response_timeout"},
		{"tries", "5s", 504, "upstream_per_try_timeout"},
		{"whole", "5s", 504, "upstream_"},
	} {
		start := time.Now()
		a := m.ask("clients", 1, "GET", "/"+tt.rule+"?delay="+tt.delay)
		if a.StatusCode != tt.code || !strings.HasPrefix(a.rec.Details, tt.details) || time.Since(start) > 4*time.Second {
			t.Errorf("%s: %d %s after %v", tt.rule, a.StatusCode, a.rec.Details, time.Since(start))
		}
		if tt.code == 504 && a.body != "upstream request timeout" {
			t.Errorf("%s: %q", tt.rule, a.body)
		}
	}
}
