package authz

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/internal/attrs"
)

// The words are few, so that generated rules meet generated requests.
var (
	genURI = rapid.SampledFrom([]string{
		"", "spiffe://cluster.local/ns/a/sa/x", "spiffe://cluster.local/ns/a/sa/y", "spiffe://old-td/ns/b/sa/x",
		"spiffe://td/ns/ns/sa/x", "spiffe://td/ns/a/ns/b/sa/x", "spiffe://td/ns/a", "spiffe://td/ns/ns/ns/b/ns/a/ns/c/ns/x/sa/x", "weird/ns/a/",
	})
	genPath = rapid.SampledFrom([]string{"", "/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/c/d/e", "//a", "/b/x[0]", "/v1/users/7"})
	genHost = rapid.SampledFrom([]string{"", "a.com", "A.com:80", "b.example", "x.b.example"})
	genAddr = rapid.SampledFrom([]string{"10.0.0.1", "10.1.0.1", "192.0.2.1", "fd00::1", "::ffff:10.0.0.1"})

	words = map[string][]string{
		"principals": {"*", "cluster.local/ns/a/sa/x", "cluster.local/ns/a/sa/y", "old-td/ns/b/sa/x", "td/ns/a*", "*/sa/x", "weird/ns/a/"},
		"namespaces": {"a", "b", "ns", "*", "a*", "*b", "n*s"},
		"accounts":   {"a/x", "b/x", "x", "ns/x"},
		"domains":    {"cluster.local", "td", "*", "t*"},
		"blocks":     {"10.0.0.0/8", "10.0.0.1", "10.0.0.0/16", "192.0.2.0/24", "fd00::/8", "0.0.0.0/0"},
		"hosts":      {"a.com", "A.COM", "a.com:80", "*.example", "b*", "*", "b.example"},
		"methods":    {"GET", "P*", "*T", "*", "POST"},
		"paths":      {"/", "/a", "/a/", "/a/b", "/a*", "/a/b/*", "/a/b/c/d/*", "*c", "*", "/{*}/b", "/a/{**}", "/v1/{*}/{**}", "/v1/users/7"},
		"ports":      {"80", "8080"},
		"rps":        {"*", "i/s", "*/s", "i/*"},
	}
)

func genList(t *rapid.T, kind string) []string {
	if rapid.IntRange(0, 3).Draw(t, "use") > 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(words[kind]), 1, 6).Draw(t, kind)
}

func genRule(t *rapid.T) *RuleSpec {
	r := &RuleSpec{}
	for range rapid.IntRange(0, 2).Draw(t, "from") {
		s := Source{
			Principals: genList(t, "principals"), NotPrincipals: genList(t, "principals"),
			Namespaces: genList(t, "namespaces"), NotNamespaces: genList(t, "namespaces"),
			TrustDomains: genList(t, "domains"), NotTrustDomains: genList(t, "domains"),
			IPBlocks: genList(t, "blocks"), NotRemoteIPBlocks: genList(t, "blocks"),
			RequestPrincipals: genList(t, "rps"),
		}
		if len(s.Principals)+len(s.NotPrincipals)+len(s.Namespaces)+len(s.NotNamespaces) == 0 {
			s.ServiceAccounts = genList(t, "accounts")
		}
		if len(s.ServiceAccounts)+len(s.Principals)+len(s.Namespaces) == 0 {
			s.Namespaces = []string{"a"}
			s.ServiceAccounts = nil
		}
		r.From = append(r.From, s)
	}
	for range rapid.IntRange(0, 2).Draw(t, "to") {
		o := Operation{
			Hosts: genList(t, "hosts"), NotHosts: genList(t, "hosts"), Methods: genList(t, "methods"), NotMethods: genList(t, "methods"),
			Paths: genList(t, "paths"), NotPaths: genList(t, "paths"), Ports: genList(t, "ports"),
		}
		if len(o.Paths) == 0 {
			o.Paths = []string{rapid.SampledFrom(words["paths"]).Draw(t, "path")}
		}
		r.To = append(r.To, o)
	}
	if vs := genList(t, "methods"); vs != nil {
		r.When = []Condition{{Key: "request.headers[x]", NotValues: vs}}
	}
	return r
}

func genPolicies(t *rapid.T) []Policy {
	var ps []Policy
	for i := range rapid.IntRange(1, 30).Draw(t, "policies") {
		p := Policy{Namespace: "n", Name: "p" + strconv.Itoa(i), Action: Action(rapid.IntRange(0, 2).Draw(t, "action")), DryRun: rapid.IntRange(0, 9).Draw(t, "dry") == 0}
		for j := range rapid.IntRange(0, 3).Draw(t, "rules") {
			r, err := NewRule(p.Namespace, p.Name, j, p.Action, genRule(t), scope)
			if err != nil {
				t.Fatal(err)
			}
			p.Rules = append(p.Rules, r)
		}
		ps = append(ps, p)
	}
	return ps
}

func genRequest(t *rapid.T) *attrs.Request {
	r := &attrs.Request{
		Conn: &attrs.Conn{
			Peer:     attrs.Principal{URI: genURI.Draw(t, "uri")},
			Source:   netip.AddrPortFrom(netip.MustParseAddr(genAddr.Draw(t, "source")), 1),
			DestPort: rapid.SampledFrom([]uint16{80, 8080, 9}).Draw(t, "port"),
		},
		Method: rapid.SampledFrom([]string{"GET", "POST", "PUT"}).Draw(t, "method"), Path: genPath.Draw(t, "path"), Authority: genHost.Draw(t, "host"),
	}
	if rapid.Bool().Draw(t, "claims") {
		r.Claims = &attrs.Claims{Issuer: "i", Subject: "s"}
	}
	if rapid.Bool().Draw(t, "header") {
		r.Headers = []attrs.Field{{Name: "x", Value: "GET"}, {Name: "x", Value: "other"}}
	}
	return r
}

// naive decides without index or optimization, straight from the definition.
func naive(ps []Policy, in input) Decision {
	type match struct{ policy, rule string }
	match1 := func(a Action) (m []match, present bool) {
		for _, p := range ps {
			if p.Action != a || p.DryRun {
				continue
			}
			present = true
			for _, r := range p.Rules {
				x := r.When
				if in.r == nil && r.TCP != nil {
					x = r.TCP
				}
				if x.eval(in) {
					m = append(m, match{p.Namespace + "/" + p.Name, r.Name})
				}
			}
		}
		slices.SortStableFunc(m, func(a, b match) int { return cmp.Compare(a.rule, b.rule) })
		return m, present
	}
	var d Decision
	audit, _ := match1(Audit)
	for _, p := range ps { // AUDIT knows no dry run
		if p.Action == Audit && p.DryRun {
			return Decision{Reason: "skip"}
		}
	}
	if len(audit) > 0 {
		d.Audit = audit[0].policy
	}
	deny, denies := match1(Deny)
	allow, allows := match1(Allow)
	switch {
	case len(deny) > 0:
		d.Policy, d.Rule, d.Reason = deny[0].policy, deny[0].rule, ReasonDenyMatched
		d.Details = "rbac_access_denied_matched_policy[" + d.Rule + "]"
	case !allows && denies:
		d.Allowed, d.Reason = true, ReasonNotDenied
	case !allows:
		d.Allowed, d.Reason = true, ReasonNoPolicy
	case len(allow) > 0:
		d.Allowed, d.Policy, d.Rule, d.Reason = true, allow[0].policy, allow[0].rule, ReasonAllowMatched
	default:
		d.Reason, d.Details = ReasonNoAllow, "rbac_access_denied_matched_policy[none]"
	}
	return d
}

func TestIndexAgreesWithDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ps := genPolicies(t)
		e := Compile(ps)
		for range 10 {
			r := genRequest(t)
			if want := naive(ps, requestInput(r)); want.Reason != "skip" {
				if got := e.Check(r); got != want {
					t.Fatalf("request %+v\ngot  %+v\nwant %+v", r, got, want)
				}
				if got, want := e.CheckConn(r.Conn), naive(ps, input{c: r.Conn}); got != want {
					t.Fatalf("connection %+v\ngot  %+v\nwant %+v", r.Conn, got, want)
				}
			}
			for i, c := range e.Explain(r) {
				for _, o := range c.Rules {
					if o.Matched == (len(o.Failed) > 0) {
						t.Fatalf("policy %d: matched %v but failed %v", i, o.Matched, o.Failed)
					}
				}
			}
		}
	})
}
