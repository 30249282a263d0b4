package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "google.golang.org/grpc/interop/grpc_testing"

	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/proxy"
)

// draws is how often a rule with two even shares is asked: one of them is missed once
// in 10^17 runs.
const draws = 60

// A filter of a backend acts on that backend's share and on no other.
func TestBackendFilters(t *testing.T) {
	m := startMesh(t, nil)
	m.serveRules(`  - name: rewrite
    matches: [{path: {value: /rewrite}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: rule.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /rule}}}]
    backendRefs:
    - {name: v1, port: 80}
    - {name: v2, port: 80, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /own}}}]}
  - name: full
    matches: [{path: {value: /full}}]
    backendRefs:
    - {name: v1, port: 80}
    - {name: v2, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: own.example, path: {type: ReplaceFullPath, replaceFullPath: /one}}}]}
  - name: headers
    matches: [{path: {value: /headers}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Rule, value: "1"}]}}]
    backendRefs:
    - {name: v1, port: 80}
    - name: v2
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Own, value: "2"}]}}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X-Own-Out, value: "3"}]}}
`)
	for _, tt := range []struct{ path, v1, v2, host1, host2 string }{
		{"/rewrite/x?q=1", "/rule/x?q=1", "/own/x?q=1", "rule.example", "rule.example"},
		{"/full/x?q=1", "/full/x?q=1", "/one?q=1", "cart.shop", "own.example"},
		{"/headers/x", "/headers/x", "/headers/x", "cart.shop", "cart.shop"},
	} {
		drawn := map[string]int{}
		for range draws {
			a := m.ask("clients", 1, "GET", tt.path)
			app := a.Header.Get("X-App")
			drawn[app]++
			seen, path, host := m.v1, tt.v1, tt.host1
			if app == "v2" {
				seen, path, host = m.v2, tt.v2, tt.host2
			}
			s := a.one(t, seen)
			if s.Path != path || s.Host != host {
				t.Fatalf("%s at %s is %s%s, want %s%s", tt.path, app, s.Host, s.Path, host, path)
			}
			if tt.path == "/headers/x" {
				own := app == "v2"
				if s.Headers["X-Rule"] != "1" || (s.Headers["X-Own"] == "2") != own || (a.Header.Get("X-Own-Out") == "3") != own {
					t.Fatalf("%s saw %v and answered %v", app, s.Headers, a.Header)
				}
			}
		}
		if len(drawn) != 2 {
			t.Fatalf("%s: drawn %v", tt.path, drawn)
		}
	}
}

// A backend with RequestRedirect answers its share with it, whatever its endpoints do.
func TestBackendRedirect(t *testing.T) {
	m := startMesh(t, nil)
	m.serveRules(`  - name: moved
    matches: [{path: {value: /moved}}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Rule, value: "1"}]}}]
    backendRefs:
    - {name: v1, port: 80}
    - name: empty
      port: 80
      filters:
      - {type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.example, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /to}}}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Own, value: "2"}]}}
  - name: nowhere
    matches: [{path: {value: /nowhere}}]
    backendRefs: [{name: nobody, port: 80, filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example}}]}]
`)
	drawn := map[int]int{}
	for range draws {
		a := m.ask("clients", 1, "GET", "/moved/x?y=z")
		drawn[a.StatusCode]++
		switch {
		case a.StatusCode == 301:
			if got := a.Header.Get("Location"); got != "https://new.example/to/x?y=z" || a.Header.Get("X-Rule") != "1" || a.Header.Get("X-Own") != "2" || a.rec.Attempts != 0 {
				t.Fatalf("%q %v after %d attempts", got, a.Header, a.rec.Attempts)
			}
		case a.StatusCode != 200 || a.Header.Get("X-Own") != "":
			t.Fatalf("%d %v", a.StatusCode, a.Header)
		}
	}
	if len(drawn) != 2 {
		t.Errorf("drawn %v", drawn)
	}
	if a := m.ask("clients", 1, "GET", "/nowhere"); a.StatusCode != 500 {
		t.Errorf("a backend that does not exist redirects: %d %v", a.StatusCode, a.Header)
	}
	e, err := proxy.Explain(m.w.Store, proxy.Question{URL: "http://cart.shop/moved/x?y=z"})
	if err != nil {
		t.Fatal(err)
	}
	if e.Action != "forward" || len(e.Backends) != 2 || e.Backends[1].Status != 301 || e.Backends[1].Location != "https://new.example/to/x?y=z" ||
		!slices.Equal(e.Backends[1].Filters, []string{"ResponseHeaderModifier", "RequestRedirect"}) || e.Backends[0].Status != 0 {
		t.Errorf("explained as %s, backends %+v", e.Action, e.Backends)
	}
}

// A backend's mirrors copy its share; those of the rule copy everything.
func TestBackendMirror(t *testing.T) {
	m := startMesh(t, nil)
	m.serveRules(`  - name: own
    matches: [{path: {value: /own}}]
    backendRefs:
    - {name: v1, port: 80, filters: [
        {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}},
        {type: RequestMirror, requestMirror: {backendRef: {name: dead, port: 80}}},
        {type: RequestMirror, requestMirror: {backendRef: {name: nobody, port: 80}}},
        {type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}, percent: 0}},
        {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]}
    - {name: empty, port: 80}
`)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	drawn := map[int]int{}
	for range draws {
		a := m.ask("clients", 1, "GET", "/own/x")
		drawn[a.StatusCode]++
		if a.StatusCode != 200 {
			continue
		}
		a.one(t, m.v1)
		if seen := m.v2.Await(ctx, a.id); len(seen) == 0 || seen[0].Path != "/new/x" {
			t.Fatalf("the mirror saw %+v", seen)
		}
	}
	if drawn[200]+drawn[503] != draws || len(drawn) != 2 {
		t.Errorf("drawn %v", drawn)
	}
	if n := m.v2.Count(); n != drawn[200] {
		t.Errorf("%d copies of %d requests", n, drawn[200])
	}
}

// A backend's CORS policy answers the preflights of its share, and takes the place of
// the rule's.
func TestBackendCORS(t *testing.T) {
	m := startMesh(t, nil)
	const rule, own = "https://rule.example", "https://own.example"
	cors := func(origin string) string {
		return fmt.Sprintf("{type: CORS, cors: {allowOrigins: [%q], allowMethods: [PUT]}}", origin)
	}
	m.serveRules(`  - name: own
    matches: [{path: {value: /own}}]
    backendRefs:
    - {name: v1, port: 80, filters: [` + cors(own) + `]}
  - name: both
    matches: [{path: {value: /both}}]
    filters: [` + cors(rule) + `]
    backendRefs:
    - {name: v1, port: 80, filters: [` + cors(own) + `]}
    - {name: v2, port: 80, weight: 0}
  - name: other
    matches: [{path: {value: /other}}]
    filters: [` + cors(rule) + `]
    backendRefs:
    - {name: v1, port: 80, weight: 0, filters: [` + cors(own) + `]}
    - {name: v2, port: 80}
  - name: half
    matches: [{path: {value: /half}}]
    backendRefs:
    - {name: v1, port: 80, filters: [` + cors(own) + `]}
    - {name: v2, port: 80}
`)
	for _, tt := range []struct {
		path, origin string
		allowed      bool
		app          *testmesh.App
	}{
		{"/own", own, true, m.v1},
		{"/own", rule, false, m.v1},
		{"/both", own, true, m.v1},
		{"/both", rule, false, m.v1},
		{"/other", own, false, m.v2},
		{"/other", rule, true, m.v2},
	} {
		want := ""
		if tt.allowed {
			want = tt.origin
		}
		a := m.ask("clients", 1, "OPTIONS", tt.path, "Origin", tt.origin, "Access-Control-Request-Method", "PUT")
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != want || a.StatusCode != 200 || a.rec.Details != "cors_response" || a.rec.Attempts != 0 {
			t.Errorf("preflight of %s for %s: %d %s, allowed %q", tt.path, tt.origin, a.StatusCode, a.rec.Details, got)
		}
		a = m.ask("clients", 1, "PUT", tt.path, "Origin", tt.origin)
		a.one(t, tt.app)
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != want || a.StatusCode != 200 {
			t.Errorf("%s for %s: %d, allowed %q", tt.path, tt.origin, a.StatusCode, got)
		}
	}
	// The share without a policy gets its preflights forwarded.
	drawn := map[string]int{}
	for range draws {
		a := m.ask("clients", 1, "OPTIONS", "/half", "Origin", own, "Access-Control-Request-Method", "PUT")
		drawn[a.rec.Details]++
		if (a.rec.Details == "cors_response") != (a.Header.Get("Access-Control-Allow-Origin") == own) {
			t.Fatalf("%s with %v", a.rec.Details, a.Header)
		}
	}
	if drawn["cors_response"] == 0 || drawn["via_upstream"] == 0 || len(drawn) != 2 {
		t.Errorf("drawn %v", drawn)
	}
}

// A retry stays with its backend, and what was edited for that stays as it is: no
// attempt carries the edits of another backend, or its own twice.
func TestBackendFiltersAndRetries(t *testing.T) {
	m := startMesh(t, nil)
	m.serveRules(`  - name: again
    matches: [{path: {value: /again}}]
    retry: {attempts: 2, codes: [503], backoff: 1ms}
    backendRefs:
    - {name: v1, port: 80, filters: [
        {type: URLRewrite, urlRewrite: {hostname: one.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}},
        {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-To, value: one}]}}]}
    - {name: v2, port: 80, filters: [
        {type: URLRewrite, urlRewrite: {hostname: two.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /two}}},
        {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: X-To, value: two}]}}]}
`)
	drawn := map[string]int{}
	for range draws {
		a := m.ask("clients", 1, "GET", "/again?status=503")
		one, two := m.v1.Find(a.id), m.v2.Find(a.id)
		if a.StatusCode != 503 || len(one)*len(two) != 0 || len(one)+len(two) != 3 {
			t.Fatalf("%d: v1 saw %d, v2 %d", a.StatusCode, len(one), len(two))
		}
		name := "one"
		if len(two) > 0 {
			name = "two"
		}
		drawn[name]++
		for _, s := range append(one, two...) {
			if s.Path != "/"+name+"?status=503" || s.Host != name+".example" || s.Headers["X-To"] != name {
				t.Fatalf("%s saw %s%s %v", name, s.Host, s.Path, s.Headers)
			}
		}
	}
	if len(drawn) != 2 {
		t.Errorf("drawn %v", drawn)
	}
}

// The backends of a GRPCRoute have mirrors too: calls are copied with their messages.
func TestBackendMirrorOfCalls(t *testing.T) {
	m := startRPC(t)
	m.serve(rpcServices("grpc") + service(4, "shadow", "grpc", 8080, podV2) + `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: rpc, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: rpc, port: 80}]
  rules:
  - name: copied
    backendRefs:
    - {name: v1, port: 80, filters: [
        {type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}},
        {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Own, value: "1"}]}}]}
`)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := pb.NewTestServiceClient(m.rpcClient("clients", 1)).UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 3}); err != nil {
		t.Fatal(err)
	}
	seen := m.v2.Await(ctx, t.Name()+"-1-0") // the id of the client's first call
	if len(seen) != 1 || seen[0].Path != "/grpc.testing.TestService/UnaryCall" || seen[0].Headers["X-Own"] != "1" || seen[0].Proto != "HTTP/2.0" {
		t.Errorf("the copy: %+v", seen)
	}
}
