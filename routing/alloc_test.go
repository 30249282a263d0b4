package routing

import (
	"math"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestNoAllocations(t *testing.T) {
	check := func(name string, f func()) {
		t.Helper()
		f()
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	for _, s := range shapes {
		rules, r := s.make(1000)
		for _, o := range []Order{ByPrecedence, AsListed} {
			tab := mustCompile(t, rules, o)
			check("match "+s.name, func() { tab.Match(r) })
		}
	}
	rules, r := shapes[3].make(100)
	r.Headers = append(r.Headers, attrs.Field{Name: "x-env", Value: "other"}, attrs.Field{Name: "x-tenant", Value: "more"})
	tab := mustCompile(t, rules, AsListed)
	check("match of repeated headers", func() { tab.Match(r) })

	full := mustCompile(t, []Rule{{
		Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/foo", IgnoreCase: true}}},
		Filters: Filters{
			Request:  &HeaderOps{Set: []HeaderValue{{Name: "x-a", Value: "1"}, {Name: "host", Value: "h"}}, Add: []HeaderValue{{Name: "x-b", Value: "2"}}, Remove: []string{"x-c"}},
			Response: &HeaderOps{Set: []HeaderValue{{Name: "x-a", Value: "1"}}},
			Rewrite:  &Rewrite{PrefixReplace: ptr("/x")},
			CORS:     &CORS{AllowOrigins: []ValueMatch{{Value: "https://*.example.org"}}, AllowMethods: []string{"*"}, AllowCredentials: true},
			Mirrors:  []Mirror{{}, {Numerator: 1, Denominator: 2}},
		},
		Backends: []Backend{{Weight: 1}, {Weight: 3}},
	}}, ByPrecedence)
	r = req("OPTIONS", "/Foo/bar?q=1", "x-c: 1", "origin: https://a.example.org", "access-control-request-method: PUT")
	fields := make([]attrs.Field, 0, 32)
	out := make([]byte, 0, 256)
	mirrors := make([]*Mirror, 0, 4)
	d := Redirect{Scheme: "https", PrefixReplace: ptr("/x")}
	check("filters", func() {
		got, _ := full.Match(r)
		b := got.Rule.Pick(math.MaxUint64)
		h := append(fields[:0], r.Headers...)
		h, _ = got.Rule.RequestHeaders(b, h, r.Authority, nil)
		h = got.Rule.ReplyHeaders(b, h, nil)
		if b.CORS.Check(r) != CORSPreflight {
			t.Fatal("no preflight")
		}
		h = b.CORS.ApplyResponse(b.CORS.AppendPreflight(h, r), r)
		out = b.Rewrite.AppendTarget(out[:0], r, got.Prefix)
		out = d.AppendLocation(out[:0], r, got.Prefix, 80)
		mirrors = b.AppendMirrors(mirrors[:0], 7)
		_ = h
	})
}

// TestCostIsLocal holds the work of a match to the candidates that share the request's
// path and values, by poisoning all others: a condition that panics if it is evaluated.
func TestCostIsLocal(t *testing.T) {
	for _, s := range shapes {
		const n = 2000
		rules, r := s.make(n)
		for _, o := range []Order{ByPrecedence, AsListed} {
			tab := mustCompile(t, rules, o)
			for i := range tab.candidates {
				if k := &tab.candidates[i]; k.rule.Rule.Index < n-1 {
					k.path = path{op: pathText, text: text{op: opRegex, regex: nil}}
				}
			}
			if got, ok := tab.Match(r); !ok || got.Rule.Rule.Index != n-1 {
				t.Errorf("%s: %v %v", s.name, got, ok)
			}
		}
	}
}
