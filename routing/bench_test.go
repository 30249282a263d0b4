package routing

import (
	"fmt"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

// tables are shapes of n rules with a request that the last rule wins.
var shapes = []struct {
	name string
	make func(n int) ([]Rule, *attrs.Request)
}{
	{"exact", func(n int) ([]Rule, *attrs.Request) {
		return many(n, func(i int) Match {
			return Match{Path: PathMatch{Kind: PathExact, Value: fmt.Sprintf("/api/v1/item/%d", i)}}
		}), req("GET", fmt.Sprintf("/api/v1/item/%d", n-1), common...)
	}},
	{"prefix", func(n int) ([]Rule, *attrs.Request) {
		return many(n, func(i int) Match {
			return Match{Path: PathMatch{Kind: PathPrefix, Value: fmt.Sprintf("/team%d/app", i)}}
		}), req("GET", fmt.Sprintf("/team%d/app/x/y", n-1), common...)
	}},
	{"regex", func(n int) ([]Rule, *attrs.Request) {
		return many(n, func(i int) Match {
			return Match{Path: PathMatch{Kind: PathRegex, Value: fmt.Sprintf("/team%d/item/[0-9]+", i)}}
		}), req("GET", fmt.Sprintf("/team%d/item/42", n-1), common...)
	}},
	{"header", func(n int) ([]Rule, *attrs.Request) {
		return many(n, func(i int) Match {
			return Match{Path: PathMatch{Kind: PathPrefix, Value: "/"}, Headers: []ValueMatch{{Name: "x-env", Value: "prod"}, {Name: "x-tenant", Value: fmt.Sprint("t", i)}}}
		}), req("GET", "/x", append([]string{"x-env: prod", fmt.Sprint("x-tenant: t", n-1)}, common...)...)
	}},
	{"headernames", func(n int) ([]Rule, *attrs.Request) {
		return many(n, func(i int) Match {
			return Match{Path: PathMatch{Kind: PathPrefix, Value: "/"}, Headers: []ValueMatch{{Name: fmt.Sprint("x-feature-", i%500), Value: fmt.Sprint(i)}}}
		}), req("GET", "/x", append([]string{fmt.Sprintf("x-feature-%d: %d", (n-1)%500, n-1)}, common...)...)
	}},
	{"query", func(n int) ([]Rule, *attrs.Request) {
		return many(n, func(i int) Match {
			return Match{Path: PathMatch{Kind: PathPrefix, Value: "/"}, Query: []ValueMatch{{Name: "shard", Value: fmt.Sprint(i)}}}
		}), req("GET", fmt.Sprint("/x?a=1&shard=", n-1), common...)
	}},
}

var common = []string{"accept: */*", "user-agent: curl/8", "x-request-id: 1c9a", "x-forwarded-proto: http", "content-type: application/json", "traceparent: 00-1-2-01"}

func many(n int, m func(i int) Match) []Rule {
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = Rule{Route: "shop/r", Index: i, Matches: []Match{m(i)}, Backends: []Backend{{Weight: 1}}}
	}
	return rules
}

func BenchmarkMatch(b *testing.B) {
	for _, s := range shapes {
		for _, n := range []int{10, 1000, 10000} {
			rules, r := s.make(n)
			for o, name := range map[Order]string{ByPrecedence: "sorted", AsListed: "listed"} {
				t := mustCompile(b, rules, o)
				b.Run(fmt.Sprintf("%s/%s/%d", s.name, name, n), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if got, ok := t.Match(r); !ok || got.Rule.Rule.Index != n-1 {
							b.Fatal(got, ok)
						}
					}
				})
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, s := range shapes {
		rules, _ := s.make(1000)
		b.Run(s.name, func(b *testing.B) {
			for b.Loop() {
				Compile(rules, ByPrecedence)
			}
		})
	}
}
