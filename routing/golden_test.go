package routing

import (
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// specs are what a source makes of example routes.
var specs = map[string]struct {
	order Order
	refs  []string
	rules []Rule
}{
	"httproute-cart": {ByPrecedence, []string{"cart-v1:80", "cart-v2:80"}, []Rule{
		{Route: "shop/cart-split", Kind: "HTTPRoute", Name: "canary-by-header", Index: 0,
			Matches:  []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/"}, Headers: []ValueMatch{{Name: "x-canary", Value: "true"}}}},
			Backends: []Backend{{Ref: 1, Weight: 1}}},
		{Route: "shop/cart-split", Kind: "HTTPRoute", Name: "prefix-v2", Index: 1,
			Matches:  []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/v2"}}},
			Filters:  Filters{Rewrite: &Rewrite{PrefixReplace: ptr("/")}},
			Backends: []Backend{{Ref: 1, Weight: 1}}},
		{Route: "shop/cart-split", Kind: "HTTPRoute", Name: "old", Index: 2,
			Matches:  []Match{{Path: PathMatch{Kind: PathExact, Value: "/old"}, Method: "GET"}},
			Redirect: &Redirect{Scheme: "https", Host: "shop.example.com", FullPath: ptr("/new"), Status: 301}},
		{Route: "shop/cart-split", Kind: "HTTPRoute", Name: "split", Index: 3,
			Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/"}}},
			Backends: []Backend{{Ref: 0, Weight: 90}, {Ref: 1, Weight: 10,
				Filters: Filters{Request: &HeaderOps{Add: []HeaderValue{{Name: "x-split", Value: "v2"}}}}}}},
	}},
	"httproute-web": {ByPrecedence, []string{"web:80", "cart-v2:80"}, []Rule{
		{Route: "shop/web-cors", Kind: "HTTPRoute", Index: 0,
			Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/api"}}},
			Filters: Filters{CORS: &CORS{AllowOrigins: []ValueMatch{{Value: "https://app.example.com"}, {Value: "https://*.example.org"}},
				AllowMethods: []string{"GET", "PUT"}, AllowHeaders: []string{"x-a", "x-b"}, ExposeHeaders: []string{"x-c"}, AllowCredentials: true, MaxAge: 600 * time.Second}},
			Backends: []Backend{{Ref: 0, Weight: 1}}},
		{Route: "shop/web-cors", Kind: "HTTPRoute", Index: 1,
			Matches:  []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/gone"}}},
			Backends: []Backend{{Ref: -1, Weight: 1, Invalid: "service shop/nosuch not found", Status: 500}}},
		{Route: "shop/web-cors", Kind: "HTTPRoute", Name: "regex-query", Index: 2,
			Matches: []Match{{Path: PathMatch{Kind: PathRegex, Value: "/items/[0-9]+"}, Query: []ValueMatch{{Name: "debug", Value: "1"}}}},
			Filters: Filters{
				Request:  &HeaderOps{Set: []HeaderValue{{Name: "x-debug", Value: "on"}}, Add: []HeaderValue{{Name: "x-trail", Value: "wp"}}, Remove: []string{"x-secret"}},
				Response: &HeaderOps{Set: []HeaderValue{{Name: "x-served-by", Value: "cart"}}, Add: []HeaderValue{{Name: "x-tag", Value: "a"}}, Remove: []string{"server-internal"}},
				Mirrors:  []Mirror{{Ref: 1, Numerator: 42, Denominator: 100}}},
			Timeout: 3 * time.Second, TryTimeout: time.Second,
			Backends: []Backend{{Ref: 0, Weight: 1}}},
	}},
	"virtualservice-cart": {AsListed, []string{"cart-v1.shop:80", "cart-v2.shop:80", "cart.shop:80"}, []Rule{
		{Route: "shop/cart", Kind: "VirtualService", Name: "faulty", Index: 0,
			Matches:  []Match{{Path: PathMatch{Kind: PathRawPrefix, Value: "/faulty"}, Headers: []ValueMatch{{Name: "x-fault", Value: "yes"}}}},
			Backends: []Backend{{Ref: 0, Weight: 1}}},
		{Route: "shop/cart", Kind: "VirtualService", Name: "retrying", Index: 1,
			Matches: []Match{{Path: PathMatch{Kind: PathRegex, Value: "/r[0-9]+"}, Headers: []ValueMatch{{Name: "x-no", Value: "1", Invert: true}, {Name: ":method", Value: "GET"}},
				Query: []ValueMatch{{Name: "q", Value: "a+", Kind: ValueRegex}}}},
			Filters: Filters{
				Request:  &HeaderOps{Set: []HeaderValue{{Name: "x-a", Value: "1"}}, Add: []HeaderValue{{Name: "x-b", Value: "2"}}, Remove: []string{"x-c"}},
				Response: &HeaderOps{Set: []HeaderValue{{Name: "x-d", Value: "4"}}, Remove: []string{"x-e"}},
				Rewrite:  &Rewrite{Host: "cart.internal", PrefixReplace: ptr("/rewritten"), RawPrefix: true},
				Mirrors:  []Mirror{{Ref: 1, Numerator: 125000, Denominator: 1000000}}},
			Timeout: 2 * time.Second, TryTimeout: 250 * time.Millisecond,
			Backends: []Backend{{Ref: 0, Weight: 70, Filters: Filters{Request: &HeaderOps{Set: []HeaderValue{{Name: "x-ver", Value: "v1"}}}}}, {Ref: 1, Weight: 30}}},
		{Route: "shop/cart", Kind: "VirtualService", Name: "rewrite-regex", Index: 2,
			Matches:  []Match{{Path: PathMatch{Kind: PathRawPrefix, Value: "/svc/"}}},
			Filters:  Filters{Rewrite: &Rewrite{Regex: "^/svc/([^/]+)/(.*)$", RegexReplace: `/\2/of/\1`}},
			Backends: []Backend{{Ref: 0, Weight: 1}}},
		{Route: "shop/cart", Kind: "VirtualService", Name: "direct", Index: 3,
			Matches: []Match{{Path: PathMatch{Kind: PathExact, Value: "/teapot"}}},
			Direct:  &DirectResponse{Status: 418, Body: "short and stout"}},
		{Route: "shop/cart", Kind: "VirtualService", Name: "redir", Index: 4,
			Matches:  []Match{{Path: PathMatch{Kind: PathRawPrefix, Value: "/to"}}},
			Redirect: &Redirect{Host: "other.example", FullPath: ptr("/from"), Status: 308, AuthorityPort: true}},
		{Route: "shop/cart", Kind: "VirtualService", Name: "default", Index: 5,
			Matches: []Match{{Path: PathMatch{Kind: PathRawPrefix, Value: "/"}}},
			Filters: Filters{CORS: &CORS{AllowOrigins: []ValueMatch{{Kind: ValueRegex, Value: `https://.*\.example\.com`}},
				AllowMethods: []string{"GET"}, MaxAge: time.Hour, AllowCredentials: true, ForwardUnmatched: true}},
			Backends: []Backend{{Ref: 2, Weight: 1}}},
	}},
	"grpcroute-pay": {ByPrecedence, []string{"pay:9000"}, []Rule{
		{Route: "shop/pay", Kind: "GRPCRoute", Index: 0,
			Matches:  []Match{{Path: GRPCPath("shop.Pay", "Charge", false), Headers: []ValueMatch{{Name: "tier", Value: "gold"}}}, {Path: GRPCPath("shop.Refund", "", false)}},
			Filters:  Filters{Request: &HeaderOps{Add: []HeaderValue{{Name: "x-grpc", Value: "1"}}}},
			Backends: []Backend{{Ref: 0, Weight: 1}}},
		{Route: "shop/pay", Kind: "GRPCRoute", Index: 1,
			Matches:  []Match{{Path: GRPCPath(`shop\..*`, "Get.*", true)}},
			Backends: []Backend{{Ref: 0, Weight: 1}}},
	}},
	"backend-filters": {ByPrecedence, []string{"plain:80", "edited:80", "gone:80", "", "", "", "", "copy-a:80", "copy-b:80", "copy-c:80"}, []Rule{filtered()}},
	"forms": {AsListed, nil, []Rule{
		{Route: "a/broken", Matches: []Match{{Path: PathMatch{Kind: PathRegex, Value: "/(["}}}},
		{Route: "a/reduced", Index: 1, Matches: []Match{
			{Path: PathMatch{Kind: PathRegex, Value: "^/literal$"}}, {Path: PathMatch{Kind: PathRegex, Value: "/v1/.*"}}, {Path: PathMatch{Kind: PathRegex, Value: "/v1/.+"}},
			{Path: PathMatch{Kind: PathRegex, Value: `.*\.html`}}, {Path: PathMatch{Kind: PathRegex, Value: ".*/x/.*"}}, {Path: PathMatch{Kind: PathRegex, Value: ".*"}},
			{Path: PathMatch{Kind: PathRegex, Value: "(?i)/fold"}}, {Path: PathMatch{Kind: PathTemplate, Value: "/a/{*}/b/{**}"}}, {Path: PathMatch{Kind: PathTemplate, Value: "/plain"}},
			{Path: PathMatch{Kind: PathExact, Value: "/Case", IgnoreCase: true}},
			{Authority: &ValueMatch{Value: "h", Kind: ValuePrefix}, Scheme: &ValueMatch{Value: "https"}, Claims: []ClaimMatch{{Path: []string{"realm", "role"}, Value: ValueMatch{Value: "x"}}}},
			{Headers: []ValueMatch{{Name: "a", Kind: ValuePresent}, {Name: "b", Kind: ValuePresent, Invert: true}, {Name: "c", Kind: ValueContains, Value: "x", IgnoreCase: true}, {Name: "d", Kind: ValueRegex, Value: "x|y", Invert: true}}},
		}, Redirect: &Redirect{Port: 8443, PrefixReplace: ptr("/n")}},
		{Index: 2, Name: "default", Filters: Filters{Rewrite: &Rewrite{Regex: "^/v2(/?)(.*)", RegexReplace: `/\2`}, CORS: &CORS{AllowOrigins: []ValueMatch{{Kind: ValuePresent}}, AllowMethods: []string{"*"}, AllowCredentials: true}},
			Backends: []Backend{{Weight: 0}}},
	}},
}

func TestGolden(t *testing.T) {
	for name, s := range specs {
		tab, errs := Compile(s.rules, s.order)
		var b strings.Builder
		for _, e := range sorted(errs) {
			b.WriteString("error: " + e.Error() + "\n")
		}
		b.WriteString(tab.Dump(s.refs))
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, b.String(), want)
		}
	}
}

func TestExplain(t *testing.T) {
	tab, _ := Compile(specs["httproute-cart"].rules, ByPrecedence)
	got := tab.Explain(req("GET", "/v2/x", "x-canary: true"))
	want := []struct{ rule, outcome, field, why string }{
		{"old", Lost, "path", `path is "/v2/x"`},
		{"prefix-v2", Won, "", ""},
		{"canary-by-header", Shadowed, "", "comes after shop/cart-split rule prefix-v2"},
		{"split", Shadowed, "", "comes after shop/cart-split rule prefix-v2"},
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if g := got[i]; g.Rule != w.rule || g.Outcome != w.outcome || g.Field != w.field || g.Why != w.why {
			t.Errorf("%d: %+v, want %+v", i, g, w)
		}
	}
	for _, tt := range []struct {
		m          Match
		field, why string
	}{
		{Match{Method: "PUT"}, "method", `method is "GET"`},
		{Match{Headers: []ValueMatch{{Name: "x", Value: "1"}}}, "header x", "header is missing"},
		{Match{Headers: []ValueMatch{{Name: "a", Value: "1"}}}, "header a", `header is "2" and "3"`},
		{Match{Headers: []ValueMatch{{Name: "host", Value: "1"}}}, "header host", `authority is "cart.shop"`},
		{Match{Headers: []ValueMatch{{Name: ":method", Value: "1"}}}, "header :method", `method is "GET"`},
		{Match{Headers: []ValueMatch{{Name: ":scheme", Value: "1"}}}, "header :scheme", `scheme is "http"`},
		{Match{Query: []ValueMatch{{Name: "q", Value: "1"}}}, "query q", `parameter is "2"`},
		{Match{Query: []ValueMatch{{Name: "z", Value: "1"}}}, "query z", "parameter is missing"},
		{Match{Authority: &ValueMatch{Value: "x"}}, "authority", `authority is "cart.shop"`},
		{Match{Scheme: &ValueMatch{Value: "x"}}, "scheme", `scheme is "http"`},
		{Match{Claims: []ClaimMatch{{Path: []string{"g"}, Value: ValueMatch{Value: "x"}}}}, "claim g", "no verified token"},
	} {
		c := mustCompile(t, one(tt.m), AsListed).Explain(req("GET", "/?q=2", "a: 2", "a: 3"))[0]
		if c.Outcome != Lost || c.Field != tt.field || c.Why != tt.why {
			t.Errorf("%+v, want %s: %s", c, tt.field, tt.why)
		}
	}
}

// sorted orders errors by rule, then field.
func sorted(errs []*Error) []*Error {
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Field, b.Field))
	})
	return errs
}
