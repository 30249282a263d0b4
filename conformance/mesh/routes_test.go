package mesh

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// route is an HTTPRoute for Service "front" of a namespace; rules are YAML in flow style.
func route(ns, name, parent, rules string) string {
	return fmt.Sprintf(`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: %s, namespace: %s},
spec: {parentRefs: [{group: "", kind: Service, name: %s, port: 80}], rules: %s}}`, name, ns, parent, rules)
}

// TestRoutes looks at what the suite does not: the Location of redirects, paths after a
// rewrite, mirrored requests, CORS, timeouts and retries.
func TestRoutes(t *testing.T) {
	t.Parallel()
	const ns = "shop"
	apps(t, ns, meshed(), "client", "front", "back", "copy")
	c := newCaller(t, ns, "client")
	c.expect("GET", "http://front/", nil, status(http.StatusOK))

	t.Run("redirect", func(t *testing.T) { redirects(t, ns) })
	t.Run("rewrite", func(t *testing.T) { rewrites(t, ns) })
	t.Run("mirror", func(t *testing.T) { mirror(t, ns) })
	t.Run("cors", func(t *testing.T) { cors(t, ns) })
	t.Run("timeout", func(t *testing.T) { timeouts(t, ns) })
	t.Run("retry", func(t *testing.T) { retries(t, ns) })
}

func redirects(t *testing.T, ns string) {
	c := newCaller(t, ns, "client")
	for _, tc := range []struct{ filter, url, location string }{
		{`{hostname: other.example}`, "http://front/a/b?q=1", "http://other.example/a/b?q=1"},
		{`{scheme: https}`, "http://front/a", "https://front/a"},
		{`{scheme: https, port: 8443}`, "http://front/a", "https://front:8443/a"},
		{`{port: 8080}`, "http://front/a", "http://front:8080/a"},
		{`{path: {type: ReplaceFullPath, replaceFullPath: /new}, statusCode: 301}`, "http://front/a?q=1", "http://front/new?q=1"},
		{`{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}`, "http://front/a/b", "http://front/new/b"},
	} {
		t.Run(tc.location, func(t *testing.T) {
			c := &caller{t: t, Client: c.Client}
			apply(t, route(ns, "redirect", "front", `[{matches: [{path: {type: PathPrefix, value: /a}}], filters: [{type: RequestRedirect, requestRedirect: `+tc.filter+`}]}]`))
			c.expect("GET", tc.url, nil, func(a *answer) error {
				want := http.StatusFound
				if strings.Contains(tc.filter, "301") {
					want = http.StatusMovedPermanently
				}
				if a.status != want || a.header.Get("Location") != tc.location {
					return fmt.Errorf("%d to %q, want %d to %q", a.status, a.header.Get("Location"), want, tc.location)
				}
				return nil
			})
		})
	}
}

// rewrites is the table of the API's own documentation of ReplacePrefixMatch.
func rewrites(t *testing.T, ns string) {
	for _, tc := range []struct{ prefix, replacement, path, want string }{
		{"/foo", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz/", "/foo/bar", "/xyz/bar"},
		{"/foo/", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz", "/foo", "/xyz"},
		{"/foo", "/xyz", "/foo/", "/xyz/"},
		{"/foo", "", "/foo/bar", "/bar"},
		{"/foo", "", "/foo/", "/"},
		{"/foo", "", "/foo", "/"},
		{"/foo", "/", "/foo/bar", "/bar"},
		{"/foo", "/", "/foo", "/"},
	} {
		t.Run(tc.prefix+" to "+tc.replacement+" for "+tc.path, func(t *testing.T) {
			c := newCaller(t, ns, "client")
			apply(t, route(ns, "rewrite", "front", fmt.Sprintf(`[{matches: [{path: {type: PathPrefix, value: %q}}],
filters: [{type: URLRewrite, urlRewrite: {hostname: rewritten.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: %q}}}],
backendRefs: [{name: back, port: 80}]}]`, tc.prefix, tc.replacement)))
			c.expect("GET", "http://front"+tc.path+"?q=1", nil, func(a *answer) error {
				if got := a.first("URL"); got != tc.want+"?q=1" {
					return fmt.Errorf("the backend saw %q, want %q", got, tc.want+"?q=1")
				}
				if got := a.first("Host"); got != "rewritten.example" {
					return fmt.Errorf("the backend saw host %q", got)
				}
				return nil
			})
		})
	}
}

func mirror(t *testing.T, ns string) {
	c := newCaller(t, ns, "client")
	apply(t, route(ns, "mirror", "front", `[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}], backendRefs: [{name: back, port: 80}]}]`))
	c.expect("GET", "http://front/first", nil, func(a *answer) error {
		if !strings.HasPrefix(a.backend, "back-") {
			return fmt.Errorf("answered by %s", a.backend)
		}
		return nil
	})
	copied := podOf(t, ns, "copy")
	before := served(t, copied)
	const n = 20
	for range n {
		a, err := c.do("GET", "http://front/copied")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(a.backend, "back-") {
			t.Fatalf("answered by %s", a.backend)
		}
	}
	eventually(t, func() error {
		if got := served(t, copied) - before; got < n || got > n+1 { // the first one may come late
			return fmt.Errorf("%v of %d requests were mirrored", got, n)
		}
		return nil
	})
}

func cors(t *testing.T, ns string) {
	c := newCaller(t, ns, "client")
	apply(t, route(ns, "cors", "front", `[{filters: [{type: CORS, cors: {allowOrigins: ["https://*.shop.example"], allowMethods: [GET, PUT], allowHeaders: [X-One], allowCredentials: true, exposeHeaders: [X-Two], maxAge: 60}}], backendRefs: [{name: back, port: 80}]}]`))
	preflight := []string{"Origin", "https://www.shop.example", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "X-One"}
	c.expect("OPTIONS", "http://front/", preflight, func(a *answer) error {
		for k, want := range map[string]string{
			"Access-Control-Allow-Origin": "https://www.shop.example", "Access-Control-Allow-Credentials": "true",
			"Access-Control-Max-Age": "60",
		} {
			if got := a.header.Get(k); got != want {
				return fmt.Errorf("%s: %q, want %q", k, got, want)
			}
		}
		if a.backend != "" {
			return fmt.Errorf("the preflight reached %s", a.backend)
		}
		return nil
	})
	a := c.expect("GET", "http://front/", []string{"Origin", "https://www.shop.example"}, status(http.StatusOK))
	if got := a.header.Get("Access-Control-Allow-Origin"); got != "https://www.shop.example" {
		t.Errorf("Access-Control-Allow-Origin: %q", got)
	}
	if got := a.header.Get("Access-Control-Expose-Headers"); got != "X-Two" {
		t.Errorf("Access-Control-Expose-Headers: %q", got)
	}
	a = c.expect("GET", "http://front/", []string{"Origin", "https://evil.example"}, status(http.StatusOK))
	if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("a foreign origin got Access-Control-Allow-Origin: %q", got)
	}
}

func timeouts(t *testing.T, ns string) {
	c := newCaller(t, ns, "client")
	apply(t, route(ns, "timeout", "front", `[{timeouts: {request: 300ms}, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: timeout}]}}], backendRefs: [{name: back, port: 80}]}]`))
	// Before the route is in force a slow answer is waited for.
	c.expect("GET", "http://front/", nil, marked("timeout"))
	begin := time.Now()
	a, err := c.do("GET", "http://front/?delay=5s")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); a.status != http.StatusGatewayTimeout || took < 300*time.Millisecond || took > 4*time.Second {
		t.Errorf("status %d after %v", a.status, took)
	}
	c.expect("GET", "http://front/?delay=10ms", nil, status(http.StatusOK))
}

func retries(t *testing.T, ns string) {
	c := newCaller(t, ns, "client")
	apply(t, route(ns, "retry", "front", `[{retry: {codes: [503], attempts: 3, backoff: 10ms}, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: retry}]}}], backendRefs: [{name: back, port: 80}]}]`))
	c.expect("GET", "http://front/", nil, func(a *answer) error {
		if a.header.Get("X-Route") != "retry" {
			return fmt.Errorf("the route is not in force")
		}
		return nil
	})
	back := podOf(t, ns, "back")
	for _, tc := range []struct {
		code string
		want float64
	}{{"503", 4}, {"500", 1}, {"200", 1}} {
		before := served(t, back)
		a, err := c.do("GET", "http://front/?codes="+tc.code)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(a.status) != tc.code {
			t.Errorf("status %d, want %s", a.status, tc.code)
		}
		if got := served(t, back) - before; got != tc.want {
			t.Errorf("%s: the backend was asked %v times, want %v", tc.code, got, tc.want)
		}
	}
}
