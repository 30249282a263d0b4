package authz

import (
	"fmt"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

// tried counts the rules that a group would try for a request, at most.
func (g *group) tried(in input) int {
	var lists [maxLists][]int32
	n, ok := g.lookup(in, &lists)
	if !g.indexed || !ok {
		return len(g.rules)
	}
	sum := 0
	for _, l := range lists[:n] {
		sum += len(l)
	}
	return sum
}

// TestIndexFindsEachKind has forty DENY policies that differ in one fact: each is
// found by its own request, and next to nothing else is tried for it.
func TestIndexFindsEachKind(t *testing.T) {
	host := func(s string) *attrs.Request { return &attrs.Request{Authority: s} }
	n := func(format string, i int) string { return fmt.Sprintf(format, i) }
	several := func(format string, i int) (l []string) {
		for j := range 5 { // enough for a set
			l = append(l, n(format, 100*j+i))
		}
		return l
	}
	tests := []struct {
		name string
		spec func(i int) *RuleSpec
		req  func(i int) *attrs.Request
	}{
		{"principal", func(i int) *RuleSpec { return from(Source{Principals: []string{n("td/ns/a/sa/x%03d", i)}}) },
			func(i int) *attrs.Request { return peer(n("spiffe://td/ns/a/sa/x%03d", i)) }},
		{"principals", func(i int) *RuleSpec { return from(Source{Principals: several("td/ns/a/sa/x%03d", i)}) },
			func(i int) *attrs.Request { return peer(n("spiffe://td/ns/a/sa/x%03d", i)) }},
		{"namespace", func(i int) *RuleSpec { return from(Source{Namespaces: []string{n("ns%03d", i)}}) },
			func(i int) *attrs.Request { return peer(n("spiffe://td/ns/ns%03d/sa/x", i)) }},
		{"second namespace", func(i int) *RuleSpec { return from(Source{Namespaces: []string{n("ns%03d", i)}}) },
			func(i int) *attrs.Request { return peer(n("spiffe://td/ns/ns/ns%03d/sa/x", i)) }},
		{"account", func(i int) *RuleSpec { return from(Source{ServiceAccounts: []string{n("ns%03d/x", i)}}) },
			func(i int) *attrs.Request { return peer(n("spiffe://td/ns/ns%03d/sa/x", i)) }},
		{"path", func(i int) *RuleSpec { return to(Operation{Paths: []string{n("/p%03d", i)}}) },
			func(i int) *attrs.Request { return path(n("/p%03d", i)) }},
		{"paths", func(i int) *RuleSpec { return to(Operation{Paths: several("/p%03d", i)}) },
			func(i int) *attrs.Request { return path(n("/p%03d", i)) }},
		{"directory", func(i int) *RuleSpec { return to(Operation{Paths: []string{n("/d%03d/*", i)}}) },
			func(i int) *attrs.Request { return path(n("/d%03d/", i)) }},
		{"short directory", func(i int) *RuleSpec { return to(Operation{Paths: []string{n("/%c/*", '0'+i)}}) },
			func(i int) *attrs.Request { return path(n("/%c/x", '0'+i)) }},
		{"third directory", func(i int) *RuleSpec { return to(Operation{Paths: []string{n("/a/b/d%03d/c/d*", i)}}) },
			func(i int) *attrs.Request { return path(n("/a/b/d%03d/c/d/e/f", i)) }},
		{"template", func(i int) *RuleSpec { return to(Operation{Paths: []string{n("/t%03d/{*}/x", i)}}) },
			func(i int) *attrs.Request { return path(n("/t%03d/1/x", i)) }},
		{"host", func(i int) *RuleSpec { return to(Operation{Hosts: []string{n("H%03d.example", i)}}) },
			func(i int) *attrs.Request { return host(n("h%03d.EXAMPLE", i)) }},
		{"hosts", func(i int) *RuleSpec { return to(Operation{Hosts: several("h%03d.example", i)}) },
			func(i int) *attrs.Request { return host(n("h%03d.example", i)) }},
		{"rarest part", func(i int) *RuleSpec {
			return &RuleSpec{From: []Source{{Namespaces: []string{"all"}}}, To: []Operation{{Paths: []string{n("/p%03d", i), n("/q%03d/{**}", i)}}}}
		}, func(i int) *attrs.Request {
			r := peer("spiffe://td/ns/all/sa/x")
			r.Path = n("/q%03d/y", i)
			return r
		}},
	}
	for _, tt := range tests {
		const policies = 40
		var ps []Policy
		for i := range policies {
			ps = append(ps, policy(t, n("p%02d", i), Deny, tt.spec(i)))
		}
		e := Compile(ps)
		for i := range policies {
			if d := e.Check(tt.req(i)); d.Allowed || d.Policy != n("shop/p%02d", i) {
				t.Errorf("%s %d: %+v", tt.name, i, d)
			}
			if tried := e.request.deny.tried(requestInput(tt.req(i))); tried != 1 {
				t.Errorf("%s %d: %d rules tried", tt.name, i, tried)
			}
		}
		if d := e.Check(tt.req(policies)); !d.Allowed {
			t.Errorf("%s: a stranger is denied: %+v", tt.name, d)
		}
	}
}

// Rules that no key can hold are tried whatever the others say, in their order.
func TestIndexKeepsTheRest(t *testing.T) {
	ps := []Policy{policy(t, "z-rest", Deny, to(Operation{Methods: []string{"PUT"}})), policy(t, "a-rest", Deny, to(Operation{Paths: []string{"*.bak"}}))}
	for i := range 20 {
		ps = append(ps, policy(t, fmt.Sprintf("m%02d", i), Deny, to(Operation{Paths: []string{fmt.Sprintf("/p%02d", i)}}),
			// What cannot do without any directory is no key either.
			to(Operation{Paths: []string{"*/never"}})))
	}
	e := Compile(ps)
	for _, tt := range []struct {
		r    *attrs.Request
		want string
	}{
		{&attrs.Request{Path: "/p07", Method: "GET"}, "shop/m07"},
		{&attrs.Request{Path: "/p07", Method: "PUT"}, "shop/m07"}, // before z-rest
		{&attrs.Request{Path: "/p.bak", Method: "PUT"}, "shop/a-rest"},
		{&attrs.Request{Path: "/x", Method: "PUT"}, "shop/z-rest"},
		{&attrs.Request{Path: "/x", Method: "GET"}, ""},
	} {
		if d := e.Check(tt.r); d.Policy != tt.want || d.Allowed != (tt.want == "") {
			t.Errorf("%s %s: %+v", tt.r.Method, tt.r.Path, d)
		}
	}
}

// An identity made to yield more lists than there is room for is tried against
// every rule.
func TestIndexBoundsNamespaces(t *testing.T) {
	var ps []Policy
	for i := range 20 {
		ps = append(ps, policy(t, fmt.Sprintf("p%02d", i), Deny, from(Source{Namespaces: []string{fmt.Sprintf("n%02d", i)}})))
	}
	e := Compile(ps)
	uri := "spiffe://td"
	for i := 19; i >= 0; i-- {
		uri += fmt.Sprintf("/ns/n%02d", i)
	}
	if d := e.Check(peer(uri + "/sa/x")); d.Policy != "shop/p00" {
		t.Errorf("%+v", d)
	}
	if d := e.Check(peer("spiffe://td" + strings.Repeat("/ns/x", 500) + "/ns/n03/sa/x")); d.Policy != "shop/p03" {
		t.Errorf("%+v", d)
	}
	if d := e.Check(peer("spiffe://td" + strings.Repeat("/ns/n03", maxNamespaces) + "/sa/x")); d.Policy != "shop/p03" {
		t.Errorf("%+v", d)
	}
}

// What holds without the very text of a key is found all the same: another case, and
// a value that spans what the index looks up.
func TestIndexOfLooseMatches(t *testing.T) {
	for name, tt := range map[string]struct {
		when func(i int) *Expr
		req  func(i int) *attrs.Request
	}{
		"prefix in any case": {
			func(i int) *Expr {
				return must(Path(StringMatch{Kind: MatchPrefix, Value: fmt.Sprintf("/Dir%02d/", i), IgnoreCase: true}))
			},
			func(i int) *attrs.Request { return path(fmt.Sprintf("/dIR%02d/x", i)) },
		},
		"path in any case": {
			func(i int) *Expr { return must(Path(StringMatch{Value: fmt.Sprintf("/Dir%02d", i), IgnoreCase: true})) },
			func(i int) *attrs.Request { return path(fmt.Sprintf("/dIR%02d", i)) },
		},
		"host with its case": {
			func(i int) *Expr {
				return must(Header("host", HeaderMatch{StringMatch: StringMatch{Value: fmt.Sprintf("H%02d", i)}}))
			},
			func(i int) *attrs.Request { return &attrs.Request{Authority: fmt.Sprintf("H%02d", i)} },
		},
		"namespace of two parts": {
			func(i int) *Expr { return namespaceExpr(namespaceWildcard(fmt.Sprintf("a/b%02d", i))) },
			func(i int) *attrs.Request { return peer(fmt.Sprintf("spiffe://td/ns/a/b%02d/sa/x", i)) },
		},
	} {
		const n = 20
		var ps []Policy
		for i := range n {
			ps = append(ps, Policy{Namespace: "shop", Name: fmt.Sprintf("p%02d", i), Action: Deny, Rules: []Rule{{When: tt.when(i)}}})
		}
		e := Compile(ps)
		for i := range n {
			if d := e.Check(tt.req(i)); d.Policy != fmt.Sprintf("shop/p%02d", i) {
				t.Errorf("%s %d: %+v", name, i, d)
			}
		}
		if d := e.Check(tt.req(n)); !d.Allowed {
			t.Errorf("%s: a stranger is denied: %+v", name, d)
		}
	}
}
