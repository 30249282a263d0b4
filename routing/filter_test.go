package routing

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// TestRewrite has every row of the API's table of prefix replacements, and the other forms.
func TestRewrite(t *testing.T) {
	seg := func(s string) Rewrite { return Rewrite{PrefixReplace: &s} }
	raw := func(s string) Rewrite { return Rewrite{PrefixReplace: &s, RawPrefix: true} }
	pfx := func(s string) PathMatch { return PathMatch{Kind: PathPrefix, Value: s} }
	rawp := func(s string) PathMatch { return PathMatch{Kind: PathRawPrefix, Value: s} }
	for _, tt := range []struct {
		target string
		path   PathMatch
		w      Rewrite
		want   string
	}{
		{"/foo/bar", pfx("/foo"), seg("/xyz"), "/xyz/bar"},
		{"/foo/bar", pfx("/foo"), seg("/xyz/"), "/xyz/bar"},
		{"/foo/bar", pfx("/foo/"), seg("/xyz"), "/xyz/bar"},
		{"/foo/bar", pfx("/foo/"), seg("/xyz/"), "/xyz/bar"},
		{"/foo", pfx("/foo"), seg("/xyz"), "/xyz"},
		{"/foo/", pfx("/foo"), seg("/xyz"), "/xyz/"},
		{"/foo/bar", pfx("/foo"), seg(""), "/bar"},
		{"/foo/", pfx("/foo"), seg(""), "/"},
		{"/foo", pfx("/foo"), seg(""), "/"},
		{"/foo/", pfx("/foo"), seg("/"), "/"},
		{"/foo", pfx("/foo"), seg("/"), "/"},
		{"/foo/bar", pfx("/foo"), seg("/"), "/bar"},
		{"/foo", pfx("/"), seg("/xyz"), "/xyz/foo"},
		{"/foo/bar?a=1&b=%20", pfx("/foo"), seg("/xyz"), "/xyz/bar?a=1&b=%20"},
		{"/foo?", pfx("/foo"), seg("/xyz"), "/xyz?"},
		{"/foo/bar?q=1", pfx("/foo"), Rewrite{FullPath: ptr("/one")}, "/one?q=1"},
		{"/foo/bar", pfx("/foo"), Rewrite{FullPath: ptr("")}, "/"},
		{"/foobar", rawp("/foo"), raw("/x"), "/xbar"},
		{"/foo/bar", rawp("/foo/"), raw("/"), "/bar"},
		{"/foo/bar", rawp("/"), raw("/x"), "/xfoo/bar"},
		{"/r12", PathMatch{Kind: PathRegex, Value: "/r[0-9]+"}, raw("/rewritten"), "/rewritten"},
		{"/teapot", PathMatch{Kind: PathExact, Value: "/teapot"}, raw("/pot"), "/pot"},
		{"/foo/bar", rawp("/foo/"), raw("x/"), "/x/bar"},
		{"/svc/a/b/c?q", rawp("/svc/"), Rewrite{Regex: "^/svc/([^/]+)/(.*)$", RegexReplace: `/\2/of/\1`}, "/b/c/of/a?q"},
		{"/a/a", rawp("/"), Rewrite{Regex: "a", RegexReplace: `[\0\\]`}, `/[a\]/[a\]`},
		{"/x", rawp("/"), Rewrite{Regex: "(y)?x", RegexReplace: `\1z`}, "/z"},
		{"/none", rawp("/"), Rewrite{Regex: "zzz", RegexReplace: "q"}, "/none"},
		{"/v2/x", pfx("/v2"), Rewrite{Regex: "^/v2(/?)(.*)", RegexReplace: `/\2`}, "/x"},
		{"/v2", pfx("/v2"), Rewrite{Regex: "^/v2(/?)(.*)", RegexReplace: `/\2`}, "/"},
		{"/v2//x", pfx("/v2"), Rewrite{Regex: "^/v2(/?)(.*)", RegexReplace: `/\2`}, "//x"},
		{"/a.b/x", pfx("/a.b"), Rewrite{Regex: "^/a.b(/?)(.*)", RegexReplace: `/\2`}, "/x"},
		{"/a", pfx("/"), Rewrite{Host: "h"}, "/a"},
	} {
		rules := []Rule{{Matches: []Match{{Path: tt.path}}, Filters: Filters{Rewrite: &tt.w}}}
		r := req("GET", tt.target)
		got, ok := mustCompile(t, rules, AsListed).Match(r)
		if !ok {
			t.Fatalf("%s: no match", tt.target)
		}
		if s := string(got.Rule.Rewrite.AppendTarget([]byte("GET "), r, got.Prefix)); s != "GET "+tt.want {
			t.Errorf("%s by %+v: got %q, want %q", tt.target, tt.path, s, tt.want)
		}
	}
	for _, w := range []Rewrite{
		{Regex: "("}, {Regex: "a", RegexReplace: `\1`}, {Regex: "a", RegexReplace: `\`}, {Regex: "a", RegexReplace: `\x`},
		{FullPath: ptr("/a b")}, {FullPath: ptr("/a\r\n")}, {FullPath: ptr("/"), Regex: "a"}, {Host: "a b"}, {Host: "a/b"}, {PrefixReplace: ptr("/#")},
	} {
		if _, err := NewRewriter(&w); err == nil {
			t.Errorf("%+v compiles", w)
		}
	}
	var none *Rewriter
	if none.ChangesPath() || string(none.AppendPath(nil, "/a", 0)) != "/a" {
		t.Error("a nil rewriter acts")
	}
}

func TestRedirect(t *testing.T) {
	type in struct {
		d    Redirect
		auth string
		sch  string
		port uint16
	}
	for _, tt := range []struct {
		name string
		in   in
		want string
	}{
		{"nothing", in{Redirect{}, "h", "http", 80}, "http://h/foo/bar?q=1"},
		{"listener port", in{Redirect{}, "h:8080", "http", 8080}, "http://h:8080/foo/bar?q=1"},
		{"listener port of another host", in{Redirect{Host: "o"}, "h:8080", "http", 8080}, "http://o:8080/foo/bar?q=1"},
		{"scheme", in{Redirect{Scheme: "https"}, "h:8080", "http", 8080}, "https://h/foo/bar?q=1"},
		{"scheme http", in{Redirect{Scheme: "http"}, "h:8443", "https", 8443}, "http://h/foo/bar?q=1"},
		{"port", in{Redirect{Port: 8443}, "h", "http", 80}, "http://h:8443/foo/bar?q=1"},
		{"80 on http", in{Redirect{Port: 80}, "h:1", "http", 8080}, "http://h/foo/bar?q=1"},
		{"443 on https", in{Redirect{Scheme: "https", Port: 443}, "h", "http", 80}, "https://h/foo/bar?q=1"},
		{"443 on http", in{Redirect{Port: 443}, "h", "http", 80}, "http://h:443/foo/bar?q=1"},
		{"80 on https", in{Redirect{Scheme: "https", Port: 80}, "h", "http", 80}, "https://h:80/foo/bar?q=1"},
		{"v6", in{Redirect{Port: 81}, "[::1]:80", "http", 80}, "http://[::1]:81/foo/bar?q=1"},
		{"v6 bare", in{Redirect{Port: 81}, "[::1]", "http", 80}, "http://[::1]:81/foo/bar?q=1"},
		{"full path", in{Redirect{FullPath: ptr("/new")}, "h", "http", 80}, "http://h/new?q=1"},
		{"full path with query", in{Redirect{FullPath: ptr("/new?x=1")}, "h", "http", 80}, "http://h/new?x=1"},
		{"prefix", in{Redirect{PrefixReplace: ptr("/xyz/")}, "h", "http", 80}, "http://h/xyz/bar?q=1"},
		{"prefix to root", in{Redirect{PrefixReplace: ptr("/")}, "h", "http", 80}, "http://h/bar?q=1"},
		{"raw prefix", in{Redirect{PrefixReplace: ptr("/x/"), RawPrefix: true}, "h", "http", 80}, "http://h/x//bar?q=1"},
		{"authority port kept", in{Redirect{AuthorityPort: true}, "h:8080", "http", 80}, "http://h:8080/foo/bar?q=1"},
		{"authority host", in{Redirect{AuthorityPort: true, Host: "other.example", FullPath: ptr("/from")}, "h:8080", "http", 8080}, "http://other.example/from?q=1"},
		{"authority default port on scheme change", in{Redirect{AuthorityPort: true, Scheme: "https"}, "h:80", "http", 80}, "https://h/foo/bar?q=1"},
		{"authority other port on scheme change", in{Redirect{AuthorityPort: true, Scheme: "https"}, "h:81", "http", 80}, "https://h:81/foo/bar?q=1"},
		{"authority explicit port", in{Redirect{AuthorityPort: true, Scheme: "https", Port: 443}, "h:81", "http", 80}, "https://h:443/foo/bar?q=1"},
		{"sample", in{Redirect{Scheme: "https", Host: "shop.example.com", FullPath: ptr("/new"), Status: 301}, "cart", "http", 80}, "https://shop.example.com/new?q=1"},
	} {
		d := tt.in.d
		rules := []Rule{{Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/foo"}}}, Redirect: &d}}
		r := req("GET", "/foo/bar?q=1")
		r.Authority, r.Scheme = tt.in.auth, tt.in.sch
		got, _ := mustCompile(t, rules, AsListed).Match(r)
		if s := string(got.Rule.Redirect.AppendLocation(nil, r, got.Prefix, tt.in.port)); s != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, s, tt.want)
		}
	}
	for _, code := range []int{0, 301, 302, 303, 307, 308} {
		d := Redirect{Status: code}
		if err := d.check(); err != nil || code != 0 && d.Code() != code || code == 0 && d.Code() != 302 {
			t.Errorf("status %d: %v", code, err)
		}
	}
	for _, d := range []Redirect{{Status: 200}, {Status: 304}, {Scheme: "1x"}, {Host: "a b"}, {Port: -1}, {Port: 65536}, {FullPath: ptr("/\n")}, {FullPath: ptr("/"), PrefixReplace: ptr("/")}} {
		if _, errs := Compile([]Rule{{Redirect: &d}}, AsListed); len(errs) != 1 || !errs[0].Broken {
			t.Errorf("%+v compiles", d)
		}
	}
}

func TestHeaderOps(t *testing.T) {
	ops := &HeaderOps{
		Remove: []string{"X-Secret", "x-absent"},
		Set:    []HeaderValue{{Name: "x-set", Value: "1"}, {Name: "X-SET", Value: "2"}, {Name: "x-new", Value: "3"}, {Name: "Host", Value: "other"}, {Name: ":authority", Value: "third"}},
		Add:    []HeaderValue{{Name: "x-add", Value: "4"}, {Name: "x-set", Value: "5"}, {Name: "x-secret", Value: "6"}},
	}
	rules := []Rule{{Filters: Filters{Request: ops}, Backends: []Backend{{Weight: 1, Filters: Filters{
		Request:  &HeaderOps{Set: []HeaderValue{{Name: "x-set", Value: "backend"}, {Name: "x-b", Value: "1"}}},
		Response: &HeaderOps{Add: []HeaderValue{{Name: "x-tag", Value: "a"}}},
	}}}}}
	c := mustCompile(t, rules, AsListed).Rules()[0]
	h := []attrs.Field{{Name: "x-secret", Value: "a"}, {Name: "x-set", Value: "old"}, {Name: "k", Value: "v"}, {Name: "x-secret", Value: "b"}, {Name: "x-set", Value: "older"}, {Name: "x-add", Value: "0"}}
	h, auth := c.RequestHeaders(c.Pick(0), h, "cart", nil)
	if got, want := fmt.Sprint(h), "[{x-set 1} {k v} {x-add 0} {x-b 1} {x-new 3} {x-add 4} {x-set 5} {x-secret 6}]"; got != want || auth != "other" {
		t.Errorf("got %s authority %s\nwant %s", got, auth, want)
	}
	if got := fmt.Sprint(c.ReplyHeaders(c.Pick(0), []attrs.Field{{Name: "x-tag", Value: "0"}}, nil)); got != "[{x-tag 0} {x-tag a}]" {
		t.Errorf("response: %s", got)
	}
	for name, bad := range map[string]Filters{
		"add host":        {Request: &HeaderOps{Add: []HeaderValue{{Name: "host", Value: "x"}}}},
		"remove host":     {Request: &HeaderOps{Remove: []string{"Host"}}},
		"response host":   {Response: &HeaderOps{Set: []HeaderValue{{Name: "host", Value: "x"}}}},
		"pseudo":          {Request: &HeaderOps{Set: []HeaderValue{{Name: ":path", Value: "/"}}}},
		"name":            {Request: &HeaderOps{Set: []HeaderValue{{Name: "a b", Value: "x"}}}},
		"value":           {Request: &HeaderOps{Set: []HeaderValue{{Name: "a", Value: "x\r\ny: z"}}}},
		"authority value": {Request: &HeaderOps{Set: []HeaderValue{{Name: "host", Value: "a/b"}}}},
		"cors":            {CORS: &CORS{AllowOrigins: []ValueMatch{{Value: "https://a*b"}}}},
		"cors regex":      {CORS: &CORS{AllowOrigins: []ValueMatch{{Kind: ValueRegex, Value: "("}}}},
		"cors method":     {CORS: &CORS{AllowMethods: []string{"G T"}}},
	} {
		tab, errs := Compile([]Rule{{Filters: bad, Backends: []Backend{{Weight: 1}}}}, AsListed)
		if len(errs) != 1 || !errs[0].Broken || tab.Rules()[0].Broken == "" {
			t.Errorf("%s: %v", name, errs)
		}
	}
	tab, errs := Compile([]Rule{{Filters: Filters{Request: &HeaderOps{Set: []HeaderValue{{Name: "Content-Length", Value: "5"}}, Remove: []string{"transfer-encoding"}}}}}, AsListed)
	if len(errs) != 2 || errs[0].Broken || tab.Rules()[0].Broken != "" || tab.Rules()[0].Request != nil {
		t.Errorf("framing headers: %v", errs)
	}
}

func TestCORS(t *testing.T) {
	rules := []Rule{{Filters: Filters{CORS: &CORS{
		AllowOrigins: []ValueMatch{{Value: "https://app.example.com"}, {Value: "https://*.example.org"}, {Kind: ValueRegex, Value: "http://r[0-9]+"}},
		AllowMethods: []string{"GET", "PUT"}, AllowHeaders: []string{"x-a", "x-b"}, ExposeHeaders: []string{"x-c"}, AllowCredentials: true, MaxAge: 10 * time.Minute,
	}}}}
	p := mustCompile(t, rules, AsListed).Rules()[0].CORS
	for _, tt := range []struct {
		r    *attrs.Request
		want CORSKind
	}{
		{req("GET", "/"), CORSNone},
		{req("GET", "/", "origin: "), CORSNone},
		{req("GET", "/", "origin: https://app.example.com"), CORSActual},
		{req("GET", "/", "origin: https://app.example.com:8443"), CORSNone},
		{req("GET", "/", "origin: https://a.b.example.org"), CORSActual},
		{req("GET", "/", "origin: https://.example.org"), CORSNone},
		{req("GET", "/", "origin: https://example.org"), CORSNone},
		{req("GET", "/", "origin: http://a.example.org"), CORSNone},
		{req("GET", "/", "origin: https://evil.com/.example.org"), CORSNone},
		{req("GET", "/", "origin: https://evil.com:80.example.org"), CORSNone},
		{req("GET", "/", "origin: http://r12"), CORSActual},
		{req("OPTIONS", "/", "origin: http://r12"), CORSActual},
		{req("OPTIONS", "/", "origin: http://r12", "access-control-request-method: PUT"), CORSPreflight},
		{req("OPTIONS", "/", "origin: http://x", "access-control-request-method: PUT"), CORSRefused},
		{req("OPTIONS", "/", "access-control-request-method: PUT"), CORSNone},
	} {
		if got := p.Check(tt.r); got != tt.want {
			t.Errorf("%s %v: %d, want %d", tt.r.Method, tt.r.Headers, got, tt.want)
		}
	}
	r := req("OPTIONS", "/", "origin: http://r1", "access-control-request-method: PATCH", "access-control-request-headers: x-z")
	if got, want := fmt.Sprint(p.AppendPreflight(nil, r)), "[{access-control-allow-origin http://r1} {access-control-allow-credentials true} {access-control-allow-methods GET,PUT} {access-control-allow-headers x-a,x-b} {access-control-max-age 600}]"; got != want {
		t.Errorf("preflight: %s", got)
	}
	h := []attrs.Field{{Name: "access-control-allow-origin", Value: "*"}, {Name: "a", Value: "b"}, {Name: "access-control-allow-origin", Value: "x"}}
	if got, want := fmt.Sprint(p.ApplyResponse(h, r)), "[{access-control-allow-origin http://r1} {a b} {access-control-allow-credentials true} {access-control-expose-headers x-c}]"; got != want {
		t.Errorf("response: %s", got)
	}

	// A star, the default age, no credentials.
	p, err := NewCORSPolicy(&CORS{AllowOrigins: []ValueMatch{{Kind: ValuePresent}}, AllowMethods: []string{"*"}, ForwardUnmatched: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(p.AppendPreflight(nil, r)), "[{access-control-allow-origin http://r1} {access-control-allow-methods *} {access-control-max-age 5}]"; got != want {
		t.Errorf("star: %s", got)
	}
	if got := fmt.Sprint(p.ApplyResponse([]attrs.Field{{Name: "access-control-allow-credentials", Value: "true"}}, r)); got != "[{access-control-allow-origin http://r1}]" {
		t.Errorf("credentials of the backend stay: %s", got)
	}
	// Stars with credentials: what was asked for; no age; other preflights pass.
	p, _ = NewCORSPolicy(&CORS{AllowOrigins: []ValueMatch{{Value: "http://r1"}}, AllowMethods: []string{"*"}, AllowHeaders: []string{"*"}, AllowCredentials: true, MaxAge: -1, ForwardUnmatched: true})
	if got, want := fmt.Sprint(p.AppendPreflight(nil, r)), "[{access-control-allow-origin http://r1} {access-control-allow-credentials true} {access-control-allow-methods PATCH} {access-control-allow-headers x-z}]"; got != want {
		t.Errorf("stars with credentials: %s", got)
	}
	if got := p.Check(req("OPTIONS", "/", "origin: http://x", "access-control-request-method: PUT")); got != CORSNone {
		t.Errorf("unmatched preflight is %d, want forwarded", got)
	}
}

func TestPick(t *testing.T) {
	for name, tt := range map[string]struct {
		weights []uint32
		want    string
	}{
		"none":         {nil, ""},
		"all zero":     {[]uint32{0, 0}, ""},
		"one":          {[]uint32{1}, "0000"},
		"zero skipped": {[]uint32{0, 2, 0, 2}, "1133"},
		"share":        {[]uint32{3, 1}, "0001"},
	} {
		r := Rule{}
		for i, w := range tt.weights {
			r.Backends = append(r.Backends, Backend{Ref: i, Weight: w})
		}
		c := mustCompile(t, []Rule{r}, AsListed).Rules()[0]
		got := ""
		for i := range uint64(4) {
			if b := c.Pick(i); b != nil {
				got += fmt.Sprint(b.Ref)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	// Many backends, one invalid: it keeps its share.
	var r Rule
	for i := range 20 {
		r.Backends = append(r.Backends, Backend{Ref: i, Weight: uint32(i)})
	}
	r.Backends[7] = Backend{Ref: -1, Weight: 7, Invalid: "service shop/nosuch not found"}
	r.Backends[9].Filters.Rewrite = &Rewrite{Host: "no host"}
	tab, errs := Compile([]Rule{r}, AsListed)
	if len(errs) != 1 || tab.Rules()[0].Broken != "" {
		t.Fatalf("a backend's filter: %v", errs)
	}
	c := tab.Rules()[0]
	counts := map[int]int{}
	for i := range uint64(190) {
		b := c.Pick(i)
		at := int(b.Weight)
		counts[at]++
		if (b.Invalid != "") != (at == 7 || at == 9) || b.Invalid != "" && b.Status != 500 {
			t.Fatalf("backend %d: %+v", at, b)
		}
	}
	for i := range 20 {
		if counts[i] != i {
			t.Errorf("backend of weight %d has %d of 190", i, counts[i])
		}
	}
	if c := mustCompile(t, []Rule{{Backends: []Backend{{Weight: 1, Invalid: "x", Status: 503}}}}, AsListed).Rules()[0]; c.Pick(9).Status != 503 {
		t.Error("status of the source is lost")
	}
}

func TestMirrors(t *testing.T) {
	rules := []Rule{{Backends: []Backend{{Weight: 1}}, Filters: Filters{Mirrors: []Mirror{
		{Ref: 0}, {Ref: 1, Numerator: 10, Denominator: 100}, {Ref: 2, Numerator: 0, Denominator: 100},
		{Ref: 3, Invalid: "missing"}, {Ref: 4, Numerator: 100, Denominator: 100}, {Ref: 5, Numerator: 100000, Denominator: 1000000},
	}}}}
	c := mustCompile(t, rules, AsListed).Rules()[0].Pick(0)
	counts := map[int]int{}
	both := 0
	const n = 20000
	for i := range uint64(n) {
		seen := 0
		for _, m := range c.AppendMirrors(nil, i) {
			counts[m.Ref]++
			if m.Ref == 1 || m.Ref == 5 {
				seen++
			}
		}
		both += seen / 2
	}
	if counts[0] != n || counts[4] != n || counts[2] != 0 || counts[3] != 0 {
		t.Errorf("all or none: %v", counts)
	}
	// 10 % of 20,000, four standard deviations (42) either way; the input is fixed.
	if counts[1] < 1830 || counts[1] > 2170 || counts[5] < 1830 || counts[5] > 2170 || both > n/50 {
		t.Errorf("shares %v, both %d", counts, both)
	}
	if _, errs := Compile([]Rule{{Filters: Filters{Mirrors: []Mirror{{Numerator: 2, Denominator: 1}}}}}, AsListed); len(errs) != 1 || errs[0].Broken {
		t.Errorf("share above one: %v", errs)
	}
}

func TestActions(t *testing.T) {
	for _, r := range []Rule{
		{Redirect: &Redirect{}, Direct: &DirectResponse{Status: 200}},
		{Redirect: &Redirect{}, Backends: []Backend{{Weight: 1}}},
		{Direct: &DirectResponse{Status: 101}},
		{Direct: &DirectResponse{Status: 700}},
	} {
		if tab, errs := Compile([]Rule{r}, AsListed); len(errs) != 1 || tab.Rules()[0].Broken == "" {
			t.Errorf("%+v: %v", r, errs)
		}
	}
	c := mustCompile(t, []Rule{{Direct: &DirectResponse{Status: 418, Body: "short and stout"}, Timeout: time.Second}}, AsListed).Rules()[0]
	if c.Direct.Status != 418 || c.Rule.Timeout != time.Second {
		t.Errorf("%+v", c)
	}
}

func TestSNI(t *testing.T) {
	for _, tt := range []struct {
		patterns string
		name     string
		want     bool
	}{
		{"", "any", true}, {"", "", true},
		{"a.example", "a.example", true}, {"a.example", "A.Example.", true}, {"a.example", "b.example", false}, {"a.example", "", false},
		{"*.example", "a.example", true}, {"*.example", "a.b.example", true}, {"*.example", "example", false}, {"*.example", ".example", false}, {"*.example", "aexample", false},
		{"*", "x", true}, {"*", "", true}, {"b a", "a", true},
	} {
		if got := MatchSNI(strings.Fields(tt.patterns), tt.name); got != tt.want {
			t.Errorf("%q %q: %v", tt.patterns, tt.name, got)
		}
	}
}

func FuzzRewrite(f *testing.F) {
	f.Add("/foo/bar", "/foo", "/xyz/", "a=1", uint8(0))
	f.Add("/v2//x", "/v2", "", "", uint8(1))
	f.Add("/svc/a/b", "/svc/", "/", "?", uint8(2))
	f.Fuzz(func(t *testing.T, path, prefix, replace, query string, kind uint8) {
		w := Rewrite{PrefixReplace: &replace, RawPrefix: kind&1 != 0}
		if kind&2 != 0 {
			w = Rewrite{FullPath: &replace}
		} else if kind&4 != 0 {
			w = Rewrite{Regex: prefix, RegexReplace: replace}
		}
		rules := []Rule{{Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: prefix}}}, Filters: Filters{Rewrite: &w}}}
		tab, _ := Compile(rules, AsListed)
		r := &attrs.Request{Method: "GET", Path: path, Query: query, HasQuery: query != ""}
		got, ok := tab.Match(r)
		if !ok || got.Rule.Broken != "" {
			return
		}
		out := string(got.Rule.Rewrite.AppendTarget([]byte("x"), r, got.Prefix))
		if !strings.HasPrefix(out, "x/") || query != "" && !strings.HasSuffix(out, "?"+query) {
			t.Fatalf("target %q", out)
		}
		if validPathText(path) && !validPathText(strings.TrimSuffix(out, query)) {
			t.Fatalf("target %q has a byte neither the request nor a valid filter has", out)
		}
	})
}

func FuzzRedirect(f *testing.F) {
	f.Add("/foo/bar", "a=1", "h:80", "https", "o", "/x", 443, uint8(1))
	f.Add("//evil", "", "[::1]:8080", "", "", "", 0, uint8(2))
	f.Fuzz(func(t *testing.T, path, query, authority, scheme, host, text string, port int, kind uint8) {
		d := Redirect{Scheme: scheme, Host: host, Port: port, AuthorityPort: kind&4 != 0, RawPrefix: kind&8 != 0}
		if kind&1 != 0 {
			d.FullPath = &text
		} else if kind&2 != 0 {
			d.PrefixReplace = &text
		}
		if d.check() != nil || authority != "" && !validHost(authority) {
			return
		}
		r := &attrs.Request{Path: path, Query: query, HasQuery: query != "", Authority: authority, Scheme: "http"}
		out := string(d.AppendLocation(nil, r, min(int(kind>>4), len(path)), 80))
		for _, c := range []byte(out) {
			if c <= ' ' || c == 0x7f {
				t.Fatalf("location %q", out)
			}
		}
		want := scheme
		if want == "" {
			want = "http"
		}
		rest, ok := strings.CutPrefix(out, want+"://")
		if !ok || !strings.Contains(rest, "/") {
			t.Fatalf("location %q", out)
		}
		if u, err := url.Parse(out); err == nil && host != "" && !strings.Contains(host, ":") && !strings.EqualFold(u.Hostname(), host) && !strings.Contains(host, "%") {
			t.Fatalf("location %q goes to %q, not %q", out, u.Hostname(), host)
		}
	})
}

func FuzzQueryAndTemplate(f *testing.F) {
	f.Add("/a/{*}/b/{**}", "/a/x/b/y", "q=1&r", "q", "1")
	f.Fuzz(func(t *testing.T, template, path, query, name, value string) {
		m := Match{Path: PathMatch{Kind: PathTemplate, Value: template}, Query: []ValueMatch{{Name: name, Value: value}}}
		tab, errs := Compile([]Rule{{Matches: []Match{m}}}, AsListed)
		r := &attrs.Request{Path: path, Query: query, HasQuery: true}
		got, ok := tab.Match(r)
		if len(errs) == 0 && ok && (got.Prefix != len(path) || !strings.Contains(query, name)) {
			t.Fatalf("%+v matches %q %q", m, path, query)
		}
	})
}
