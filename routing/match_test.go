package routing

import (
	"fmt"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func ptr[T any](v T) *T { return &v }

// req builds a request from a method, a target and "name: value" headers.
func req(method, target string, headers ...string) *attrs.Request {
	r := &attrs.Request{Method: method, Scheme: "http", Authority: "cart.shop"}
	r.Path, r.Query, r.HasQuery = strings.Cut(target, "?")
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Headers = append(r.Headers, attrs.Field{Name: k, Value: v})
	}
	return r
}

func one(m Match) []Rule { return []Rule{{Route: "shop/r", Matches: []Match{m}}} }

func mustCompile(t testing.TB, rules []Rule, o Order) *Table {
	t.Helper()
	tab, errs := Compile(rules, o)
	for _, e := range errs {
		t.Fatal(e)
	}
	return tab
}

func TestMatchTypes(t *testing.T) {
	hdr := func(v ValueMatch) Match { return Match{Headers: []ValueMatch{v}} }
	prm := func(v ValueMatch) Match { return Match{Query: []ValueMatch{v}} }
	path := func(k PathKind, v string) Match { return Match{Path: PathMatch{Kind: k, Value: v}} }
	get := func(target string, h ...string) *attrs.Request { return req("GET", target, h...) }
	for _, tt := range []struct {
		name string
		m    Match
		yes  []*attrs.Request
		no   []*attrs.Request
	}{
		{"exact", path(PathExact, "/abc"), []*attrs.Request{get("/abc"), get("/abc?x=1")}, []*attrs.Request{get("/abc/"), get("/Abc"), get("/ab"), get("/abcd")}},
		{"exact slash", path(PathExact, "/abc/"), []*attrs.Request{get("/abc/")}, []*attrs.Request{get("/abc")}},
		{"exact any case", Match{Path: PathMatch{Kind: PathExact, Value: "/aBc", IgnoreCase: true}}, []*attrs.Request{get("/abc"), get("/ABC")}, []*attrs.Request{get("/abcd")}},
		{"prefix", path(PathPrefix, "/abc"), []*attrs.Request{get("/abc"), get("/abc/"), get("/abc/def")}, []*attrs.Request{get("/abcd"), get("/ab"), get("/Abc"), get("/Abc/x")}},
		{"prefix slash", path(PathPrefix, "/abc/"), []*attrs.Request{get("/abc"), get("/abc/"), get("/abc/def")}, []*attrs.Request{get("/abcd"), get("/ab"), get("/Abc")}},
		{"prefix root", path(PathPrefix, "/"), []*attrs.Request{get("/"), get("/x"), get("/x/y")}, []*attrs.Request{req("OPTIONS", "*")}},
		{"prefix any case", Match{Path: PathMatch{Kind: PathPrefix, Value: "/Abc", IgnoreCase: true}}, []*attrs.Request{get("/abC/d")}, []*attrs.Request{get("/abcd")}},
		{"raw prefix", path(PathRawPrefix, "/abc"), []*attrs.Request{get("/abc"), get("/abcd"), get("/abc/d")}, []*attrs.Request{get("/ab"), get("/ABC")}},
		{"regex", path(PathRegex, "/items/[0-9]+"), []*attrs.Request{get("/items/12"), get("/items/1?x=/y")}, []*attrs.Request{get("/items/"), get("/items/1/"), get("/x/items/1")}},
		{"regex anchors", path(PathRegex, "^/a|b$"), []*attrs.Request{get("/a"), get("b")}, []*attrs.Request{get("/ab"), get("/xb")}},
		{"regex literal prefix", path(PathRegex, "/v1/.*"), []*attrs.Request{get("/v1/"), get("/v1/x")}, []*attrs.Request{get("/v1"), get("/v2/x")}},
		{"template", path(PathTemplate, "/foo/{*}/bar/{**}"), []*attrs.Request{get("/foo/buzz/bar/bat/x"), get("/foo/buzz/bar/")}, []*attrs.Request{get("/foo/bar/bat.txt"), get("/foo//bar/x"), get("/foo/a[/bar/x")}},
		{"method", Match{Method: "GET"}, []*attrs.Request{get("/")}, []*attrs.Request{req("get", "/"), req("POST", "/")}},
		{"header", hdr(ValueMatch{Name: "X-A", Value: "1"}), []*attrs.Request{get("/", "x-a: 1"), get("/", "x-a: 1", "x-a: 2"), get("/", "x-a: 2", "x-a: 1")}, []*attrs.Request{get("/"), get("/", "x-a: 2"), get("/", "x-a: 1,2")}},
		{"header lines are not joined", hdr(ValueMatch{Name: "x-a", Value: "1,2"}), []*attrs.Request{get("/", "x-a: 1,2")}, []*attrs.Request{get("/", "x-a: 1", "x-b: 3", "x-a: 2"), get("/", "x-a: 1")}},
		{"without header, any line", hdr(ValueMatch{Name: "x-a", Value: "1", Invert: true}), []*attrs.Request{get("/", "x-a: 3", "x-a: 2")}, []*attrs.Request{get("/", "x-a: 1", "x-a: 2"), get("/", "x-a: 2", "x-a: 1")}},
		{"header empty", hdr(ValueMatch{Name: "x-a", Value: ""}), []*attrs.Request{get("/", "x-a: ")}, []*attrs.Request{get("/"), get("/", "x-a: 1")}},
		{"header regex", hdr(ValueMatch{Name: "x-a", Value: "a+b", Kind: ValueRegex}), []*attrs.Request{get("/", "x-a: aab")}, []*attrs.Request{get("/", "x-a: aabc"), get("/", "x-a: xab")}},
		{"header prefix", hdr(ValueMatch{Name: "x-a", Value: "Ab", Kind: ValuePrefix, IgnoreCase: true}), []*attrs.Request{get("/", "x-a: aBc")}, []*attrs.Request{get("/", "x-a: b")}},
		{"header suffix", hdr(ValueMatch{Name: "x-a", Value: "b", Kind: ValueSuffix}), []*attrs.Request{get("/", "x-a: ab")}, []*attrs.Request{get("/", "x-a: ba")}},
		{"header contains", hdr(ValueMatch{Name: "x-a", Value: "B", Kind: ValueContains, IgnoreCase: true}), []*attrs.Request{get("/", "x-a: abc")}, []*attrs.Request{get("/", "x-a: ac")}},
		{"header present", hdr(ValueMatch{Name: "x-a", Kind: ValuePresent}), []*attrs.Request{get("/", "x-a: "), get("/", "x-a: 1", "x-a: 2")}, []*attrs.Request{get("/")}},
		{"header absent", hdr(ValueMatch{Name: "x-a", Kind: ValuePresent, Invert: true}), []*attrs.Request{get("/")}, []*attrs.Request{get("/", "x-a: ")}},
		{"without header", hdr(ValueMatch{Name: "x-a", Value: "1", Invert: true}), []*attrs.Request{get("/"), get("/", "x-a: 2")}, []*attrs.Request{get("/", "x-a: 1")}},
		{"without header, missing is empty", hdr(ValueMatch{Name: "x-a", Value: "a*", Kind: ValueRegex, Invert: true}), []*attrs.Request{get("/", "x-a: b")}, []*attrs.Request{get("/"), get("/", "x-a: aa")}},
		{"host header", hdr(ValueMatch{Name: "host", Value: "cart.shop"}), []*attrs.Request{get("/")}, []*attrs.Request{{Path: "/", Authority: "x"}}},
		{"pseudo method", hdr(ValueMatch{Name: ":method", Value: "GET|PUT", Kind: ValueRegex}), []*attrs.Request{get("/"), req("PUT", "/")}, []*attrs.Request{req("POST", "/")}},
		{"authority", Match{Authority: &ValueMatch{Value: "cart", Kind: ValuePrefix}}, []*attrs.Request{get("/")}, []*attrs.Request{{Path: "/", Authority: "x"}}},
		{"scheme", Match{Scheme: &ValueMatch{Value: "http"}}, []*attrs.Request{get("/")}, []*attrs.Request{{Path: "/", Scheme: "https"}}},
		{"query", prm(ValueMatch{Name: "q", Value: "1"}), []*attrs.Request{get("/?q=1"), get("/?a=b&q=1&q=2")}, []*attrs.Request{get("/"), get("/?Q=1"), get("/?q=2&q=1"), get("/?q=%31")}},
		{"query regex", prm(ValueMatch{Name: "q", Value: "a+", Kind: ValueRegex}), []*attrs.Request{get("/?q=aa")}, []*attrs.Request{get("/?q=ab")}},
		{"query present", prm(ValueMatch{Name: "q", Kind: ValuePresent}), []*attrs.Request{get("/?q"), get("/?q=")}, []*attrs.Request{get("/?p")}},
		{"all of a match", Match{Path: PathMatch{Kind: PathPrefix, Value: "/a"}, Method: "GET", Headers: []ValueMatch{{Name: "x", Value: "1"}}, Query: []ValueMatch{{Name: "q", Value: "1"}}},
			[]*attrs.Request{get("/a?q=1", "x: 1")}, []*attrs.Request{get("/b?q=1", "x: 1"), req("PUT", "/a?q=1", "x: 1"), get("/a?q=2", "x: 1"), get("/a?q=1", "x: 2")}},
		{"grpc service", Match{Path: GRPCPath("s.Pay", "", false)}, []*attrs.Request{get("/s.Pay/Charge")}, []*attrs.Request{get("/s.Pay2/Charge")}},
		{"grpc method", Match{Path: GRPCPath("", "Charge", false)}, []*attrs.Request{get("/s.Pay/Charge")}, []*attrs.Request{get("/s/Pay/Charge"), get("//Charge"), get("/s.Pay/Charges")}},
		{"grpc both", Match{Path: GRPCPath("s.Pay", "Charge", false)}, []*attrs.Request{get("/s.Pay/Charge")}, []*attrs.Request{get("/s.Pay/Charge2")}},
		{"grpc regex", Match{Path: GRPCPath(`s\..*`, "Get|Put", true)}, []*attrs.Request{get("/s.Pay/Get"), get("/s.Pay/Put")}, []*attrs.Request{get("/t.Pay/Get"), get("Put")}},
		{"grpc any", Match{Path: GRPCPath("", "", false)}, []*attrs.Request{get("/anything/Get")}, nil},
	} {
		for _, o := range []Order{ByPrecedence, AsListed} {
			tab := mustCompile(t, one(tt.m), o)
			for _, r := range tt.yes {
				if _, ok := tab.Match(r); !ok {
					t.Errorf("%s: %s %s?%s %v does not match", tt.name, r.Method, r.Path, r.Query, r.Headers)
				}
			}
			for _, r := range tt.no {
				if _, ok := tab.Match(r); ok {
					t.Errorf("%s: %s %s?%s %v matches", tt.name, r.Method, r.Path, r.Query, r.Headers)
				}
			}
		}
	}
}

func TestClaims(t *testing.T) {
	claims := &attrs.Claims{Raw: map[string]any{
		"group": "admin", "roles": []any{"a", 1.0, "b"}, "realm": map[string]any{"role": "x"}, "n": 3.0, "scope": "read write",
	}}
	for _, tt := range []struct {
		path   []string
		v      ValueMatch
		claims *attrs.Claims
		want   bool
	}{
		{[]string{"group"}, ValueMatch{Value: "admin"}, claims, true},
		{[]string{"group"}, ValueMatch{Value: "user"}, claims, false},
		{[]string{"group"}, ValueMatch{Value: "user", Invert: true}, claims, true},
		{[]string{"roles"}, ValueMatch{Value: "b"}, claims, true},
		{[]string{"roles"}, ValueMatch{Value: "b", Invert: true}, claims, false},
		{[]string{"realm", "role"}, ValueMatch{Value: "x"}, claims, true},
		{[]string{"realm", "nope"}, ValueMatch{Kind: ValuePresent}, claims, false},
		{[]string{"group", "role"}, ValueMatch{Kind: ValuePresent}, claims, false},
		{[]string{"n"}, ValueMatch{Value: "3"}, claims, false},
		{[]string{"n"}, ValueMatch{Kind: ValuePresent}, claims, true},
		{[]string{"scope"}, ValueMatch{Value: "write"}, claims, true},
		{[]string{"scope"}, ValueMatch{Value: "read write"}, claims, false},
		{[]string{"group"}, ValueMatch{Value: "admin"}, nil, false},
		{[]string{"group"}, ValueMatch{Value: "admin", Invert: true}, nil, true},
	} {
		tab := mustCompile(t, one(Match{Claims: []ClaimMatch{{Path: tt.path, Value: tt.v}}}), AsListed)
		r := req("GET", "/")
		r.Claims = tt.claims
		if _, ok := tab.Match(r); ok != tt.want {
			t.Errorf("%v %+v: %v", tt.path, tt.v, ok)
		}
	}
}

// TestPrecedence has one case for each row of the order; the first rule must win
// although the second is listed first.
func TestPrecedence(t *testing.T) {
	p := func(k PathKind, v string) PathMatch { return PathMatch{Kind: k, Value: v} }
	h := func(n ...string) (out []ValueMatch) {
		for _, s := range n {
			out = append(out, ValueMatch{Name: s, Value: "1"})
		}
		return
	}
	r := req("GET", "/abc/d?a=1&b=1", "a: 1", "b: 1", "c: 1")
	for _, tt := range []struct {
		name      string
		win, lose Rule
	}{
		{"exact over prefix", Rule{Matches: []Match{{Path: p(PathExact, "/abc/d")}}}, Rule{Matches: []Match{{Path: p(PathPrefix, "/abc/d/"), Method: "GET", Headers: h("a")}}}},
		{"prefix over regex", Rule{Matches: []Match{{Path: p(PathPrefix, "/")}}}, Rule{Matches: []Match{{Path: p(PathRegex, "/abc/[d]"), Method: "GET"}}}},
		{"regex over none", Rule{Matches: []Match{{Path: p(PathRegex, "/.*")}}}, Rule{Matches: []Match{{Method: "GET", Headers: h("a", "b")}}}},
		{"longer regular expression", Rule{Matches: []Match{{Path: p(PathRegex, "/abc/[d]")}}}, Rule{Matches: []Match{{Path: p(PathRegex, "/.*"), Method: "GET", Headers: h("a")}}}},
		{"longer prefix", Rule{Matches: []Match{{Path: p(PathPrefix, "/abc")}}}, Rule{Matches: []Match{{Path: p(PathPrefix, "/"), Method: "GET", Headers: h("a")}}}},
		{"method over headers", Rule{Matches: []Match{{Path: p(PathPrefix, "/abc"), Method: "GET"}}}, Rule{Matches: []Match{{Path: p(PathPrefix, "/abc"), Headers: h("a", "b")}}}},
		{"more headers", Rule{Matches: []Match{{Headers: h("a", "b")}}}, Rule{Matches: []Match{{Headers: h("c"), Query: h("a", "b")}}}},
		{"repeated names count once", Rule{Matches: []Match{{Headers: h("a", "b")}}}, Rule{Matches: []Match{{Headers: h("c", "C", "c")}}}},
		{"more parameters", Rule{Matches: []Match{{Query: h("a", "b")}}}, Rule{Matches: []Match{{Query: h("a")}}}},
		{"older", Rule{Route: "z/z", Created: 1}, Rule{Route: "a/a", Created: 2}},
		{"name", Rule{Route: "a/a"}, Rule{Route: "a/b"}},
		{"rule order", Rule{Route: "a/a", Index: 0}, Rule{Route: "a/a", Index: 1}},
		{"trailing slash does not count", Rule{Route: "a/a", Matches: []Match{{Path: p(PathPrefix, "/abc")}}}, Rule{Route: "a/b", Matches: []Match{{Path: p(PathPrefix, "/abc/")}}}},
	} {
		tt.win.Name = "win"
		rules := []Rule{tt.lose, tt.win}
		if got, ok := mustCompile(t, rules, ByPrecedence).Match(r); !ok || got.Rule.Rule.Name != "win" {
			t.Errorf("%s: lost by precedence", tt.name)
		}
		listed := mustCompile(t, rules, AsListed)
		got, ok := listed.Match(r)
		first := &listed.candidates[0]
		if _, holds := first.matches(r); holds && (!ok || got.Rule.Rule.Name == "win") {
			t.Errorf("%s: listed order does not hold", tt.name)
		}
	}
	// Matches of one rule are candidates of their own.
	tab := mustCompile(t, []Rule{
		{Name: "a", Matches: []Match{{Path: p(PathPrefix, "/")}, {Path: p(PathExact, "/x")}}},
		{Name: "b", Matches: []Match{{Path: p(PathPrefix, "/x")}}},
	}, ByPrecedence)
	for target, want := range map[string]string{"/x": "a1", "/x/y": "b0", "/y": "a0"} {
		got, _ := tab.Match(req("GET", target))
		if s := fmt.Sprint(got.Rule.Rule.Name, got.Match); s != want {
			t.Errorf("%s: got %s, want %s", target, s, want)
		}
	}
}

func TestRepeatedHeaderName(t *testing.T) {
	m := Match{Headers: []ValueMatch{{Name: "a", Value: "1"}, {Name: "A", Value: "2"}}}
	r := req("GET", "/", "a: 1")
	if _, ok := mustCompile(t, one(m), ByPrecedence).Match(r); !ok {
		t.Error("Gateway API: the first of two conditions of one name counts")
	}
	if _, ok := mustCompile(t, one(m), AsListed).Match(r); ok {
		t.Error("listed: all conditions count")
	}
}

func TestNilTable(t *testing.T) {
	var tab *Table
	if _, ok := tab.Match(req("GET", "/")); ok || tab.Explain(nil) != nil || tab.Rules() != nil || tab.Dump(nil) == "" {
		t.Error("nil table acts")
	}
}

func TestBroken(t *testing.T) {
	rules := []Rule{
		{Route: "shop/a", Name: "bad-path", Matches: []Match{{Path: PathMatch{Kind: PathRegex, Value: "/(["}, Method: "PUT"}, {Path: PathMatch{Kind: PathExact, Value: "/ok"}}}},
		{Route: "shop/a", Index: 1, Matches: []Match{{Headers: []ValueMatch{{Name: "x", Kind: ValueRegex, Value: "a)|(b"}, {Name: "y", Value: "1"}}}}},
		{Route: "shop/a", Index: 2, Matches: []Match{{Query: []ValueMatch{{Name: "q", Kind: ValueRegex, Value: "("}}, Path: PathMatch{Kind: PathPrefix, Value: "/q"}}}},
		{Route: "shop/a", Index: 3, Matches: []Match{{Path: PathMatch{Kind: PathTemplate, Value: "/{**}/{*}"}, Method: "PATCH"}}},
		{Route: "shop/a", Index: 4, Matches: []Match{{Claims: []ClaimMatch{{}}, Path: PathMatch{Kind: PathPrefix, Value: "/claim"}}}},
		{Route: "shop/a", Index: 5, Matches: []Match{{Authority: &ValueMatch{Kind: ValueRegex, Value: "("}, Path: PathMatch{Kind: PathPrefix, Value: "/auth"}}}},
		{Route: "shop/a", Index: 6, Broken: "backend port is missing", Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/src"}}}, Backends: []Backend{{Weight: 1}}},
		{Route: "shop/z", Name: "default"},
	}
	tab, errs := Compile(rules, AsListed)
	if len(errs) != 6 {
		t.Fatalf("errors: %v", errs)
	}
	if s := sorted(errs)[0].Error(); !strings.HasPrefix(s, "shop/a rule bad-path: matches[0].path: ") {
		t.Errorf("error %q", s)
	}
	for _, r := range []*attrs.Request{
		req("PUT", "/any"), req("GET", "/ok"), req("GET", "/", "y: 1"), req("GET", "/q"), req("PATCH", "/x"),
		req("GET", "/claim"), req("GET", "/auth"), req("GET", "/src"),
	} {
		got, ok := tab.Match(r)
		if !ok || got.Rule.Broken == "" || got.Rule.Pick(1) != nil || got.Rule.Redirect != nil {
			t.Errorf("%s %s fell through: %+v", r.Method, r.Path, got)
		}
	}
	if got, _ := tab.Match(req("GET", "/")); got.Rule.Label() != "default" {
		t.Error("a broken rule took a request its other conditions exclude")
	}
}
