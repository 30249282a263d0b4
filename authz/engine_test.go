package authz

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func policy(t testing.TB, name string, a Action, specs ...*RuleSpec) Policy {
	t.Helper()
	p := Policy{Namespace: "shop", Name: name, Action: a}
	for i, s := range specs {
		r, err := NewRule(p.Namespace, name, i, a, s, scope)
		if err != nil {
			t.Fatal(err)
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

func dry(p Policy) Policy { p.DryRun = true; return p }

func by(p Policy, provider string) Policy { p.Provider = provider; return p }

var matchAll = &RuleSpec{}

func TestDecisions(t *testing.T) {
	allowA := policy(t, "allow-a", Allow, to(Operation{Paths: []string{"/a"}}))
	denyA := policy(t, "deny-a", Deny, to(Operation{Paths: []string{"/x"}}), to(Operation{Paths: []string{"/a"}}))
	auditA := policy(t, "audit-a", Audit, to(Operation{Paths: []string{"/a"}}))
	none := policy(t, "none", Allow) // spec: {}
	invalid := Policy{Namespace: "shop", Name: "bad", Invalid: "spec.rules: broken"}
	tests := []struct {
		name     string
		policies []Policy
		path     string
		want     Decision
	}{
		{"nothing", nil, "/a", Decision{Allowed: true, Reason: ReasonNoPolicy}},
		{"allow matches", []Policy{allowA}, "/a", Decision{Allowed: true, Policy: "shop/allow-a", Rule: "ns[shop]-policy[allow-a]-rule[0]", Reason: ReasonAllowMatched}},
		{"allow does not", []Policy{allowA}, "/b", Decision{Reason: ReasonNoAllow, Details: "rbac_access_denied_matched_policy[none]"}},
		{"deny wins", []Policy{allowA, denyA}, "/a", Decision{
			Policy: "shop/deny-a", Rule: "ns[shop]-policy[deny-a]-rule[1]", Reason: ReasonDenyMatched,
			Details: "rbac_access_denied_matched_policy[ns[shop]-policy[deny-a]-rule[1]]",
		}},
		{"deny alone does not match", []Policy{denyA}, "/b", Decision{Allowed: true, Reason: ReasonNotDenied}},
		{"audit has no effect", []Policy{auditA}, "/a", Decision{Allowed: true, Reason: ReasonNoPolicy, Audit: "shop/audit-a"}},
		{"audit beside deny", []Policy{denyA, auditA}, "/a", Decision{
			Policy: "shop/deny-a", Rule: "ns[shop]-policy[deny-a]-rule[1]", Reason: ReasonDenyMatched,
			Details: "rbac_access_denied_matched_policy[ns[shop]-policy[deny-a]-rule[1]]", Audit: "shop/audit-a",
		}},
		{"empty spec denies all", []Policy{none}, "/a", Decision{Reason: ReasonNoAllow, Details: "rbac_access_denied_matched_policy[none]"}},
		{"empty spec beside a match", []Policy{none, allowA}, "/a", Decision{Allowed: true, Policy: "shop/allow-a", Rule: "ns[shop]-policy[allow-a]-rule[0]", Reason: ReasonAllowMatched}},
		{"rules [{}] denies all", []Policy{policy(t, "all", Deny, matchAll)}, "/z", Decision{
			Policy: "shop/all", Rule: "ns[shop]-policy[all]-rule[0]", Reason: ReasonDenyMatched,
			Details: "rbac_access_denied_matched_policy[ns[shop]-policy[all]-rule[0]]",
		}},
		{"dry-run allow does not deny", []Policy{dry(allowA)}, "/b", Decision{Allowed: true, Reason: ReasonNoPolicy}},
		{"dry-run deny does not deny", []Policy{dry(denyA), allowA}, "/a", Decision{Allowed: true, Policy: "shop/allow-a", Rule: "ns[shop]-policy[allow-a]-rule[0]", Reason: ReasonAllowMatched}},
		{"invalid denies", []Policy{allowA, invalid}, "/a", Decision{Policy: "shop/bad", Reason: ReasonPolicyInvalid, Details: "policy_invalid"}},
		{"invalid dry run does not", []Policy{allowA, dry(invalid)}, "/a", Decision{Allowed: true, Policy: "shop/allow-a", Rule: "ns[shop]-policy[allow-a]-rule[0]", Reason: ReasonAllowMatched}},
	}
	for _, tt := range tests {
		if d := Compile(tt.policies).Check(path(tt.path)); d != tt.want {
			t.Errorf("%s: %+v\nwant %+v", tt.name, d, tt.want)
		}
	}
	if d := (Decision{}); d.Allowed {
		t.Error("the zero Decision allows")
	}
}

// TestConnections has the rows of what HTTP fields mean for a connection.
func TestConnections(t *testing.T) {
	http := []*RuleSpec{
		to(Operation{Hosts: []string{"a"}}), to(Operation{Methods: []string{"GET"}}), to(Operation{NotPaths: []string{"/a"}}),
		from(Source{RequestPrincipals: []string{"*"}}), cond("request.headers[a]", "b"), cond("request.auth.claims[a]", "b"),
		cond("request.auth.principal", "*"), cond("request.auth.audiences", "a"), notCond("request.auth.presenter", "a"),
	}
	c := &attrs.Conn{Peer: attrs.Principal{URI: curl}, DestPort: 5432}
	for i, spec := range http {
		if d := Compile([]Policy{policy(t, "p", Allow, spec)}).CheckConn(c); d.Allowed {
			t.Errorf("ALLOW row %d matched a connection", i)
		}
		e := Compile([]Policy{policy(t, "p", Deny, spec)})
		if d := e.CheckConn(c); d.Allowed {
			t.Errorf("DENY row %d did not match a connection", i)
		}
		if !e.NeedsHTTP() {
			t.Errorf("row %d does not need HTTP", i)
		}
		if d := Compile([]Policy{policy(t, "p", Audit, spec)}).CheckConn(c); !d.Allowed || d.Audit == "" {
			t.Errorf("AUDIT row %d: %+v", i, d)
		}
	}
	l4 := &RuleSpec{From: []Source{{Principals: []string{"cluster.local/ns/clients/sa/curl"}}}, To: []Operation{{Ports: []string{"5432"}}}}
	e := Compile([]Policy{policy(t, "p", Allow, l4)})
	if e.NeedsHTTP() {
		t.Error("a rule of ports and principals needs HTTP")
	}
	if d := e.CheckConn(c); !d.Allowed {
		t.Errorf("denied: %+v", d)
	}
	if d := e.CheckConn(&attrs.Conn{Peer: c.Peer, DestPort: 1}); d.Allowed {
		t.Errorf("allowed on another port")
	}
	// What is left of a DENY rule still holds it back.
	mixed := &RuleSpec{To: []Operation{{Paths: []string{"/a"}, Ports: []string{"1"}}}}
	if d := Compile([]Policy{policy(t, "p", Deny, mixed)}).CheckConn(c); !d.Allowed {
		t.Errorf("DENY of another port matched")
	}
	// One HTTP field makes the whole ALLOW rule disappear, also its other entries.
	either := &RuleSpec{To: []Operation{{Ports: []string{"5432"}}, {Paths: []string{"/a"}}}}
	if d := Compile([]Policy{policy(t, "p", Allow, either)}).CheckConn(c); d.Allowed {
		t.Errorf("ALLOW with an HTTP alternative matched a connection")
	}
}

func TestCustom(t *testing.T) {
	a := by(policy(t, "a", Custom, to(Operation{Paths: []string{"/a*"}})), "pa")
	b := by(policy(t, "b", Custom, to(Operation{Paths: []string{"*/b"}})), "pb")
	e := Compile([]Policy{a})
	if p, d, ok := e.Custom(path("/a")); !ok || p != "pa" || d.Allowed || d.Policy != "shop/a" || d.Reason != ReasonCustomMatched {
		t.Errorf("%q %+v %v", p, d, ok)
	}
	if p, d, ok := e.Custom(path("/x")); ok || p != "" || d.Policy != "" {
		t.Errorf("%q %+v %v", p, d, ok)
	}
	// Istio asks the provider in a dry run as well.
	if p, d, ok := Compile([]Policy{dry(a)}).Custom(path("/a")); !ok || p != "pa" || d.Allowed {
		t.Errorf("dry run: %q %+v %v", p, d, ok)
	}
	if d := e.Check(path("/a")); !d.Allowed {
		t.Errorf("a CUSTOM policy switched on default deny: %+v", d)
	}
	// Several providers: denied where one matches, untouched elsewhere.
	e = Compile([]Policy{a, b})
	if p, d, ok := e.Custom(path("/z/b")); !ok || p != "" || d.Allowed || d.Reason != ReasonCustomConflict {
		t.Errorf("%q %+v %v", p, d, ok)
	}
	if _, _, ok := e.Custom(path("/z")); ok {
		t.Error("matched")
	}
	e = CompileWith([]Policy{a, b}, Options{MultipleProviders: true})
	p1, _, next, ok1 := e.CustomFrom(path("/a/b"), 0)
	p2, _, next, ok2 := e.CustomFrom(path("/a/b"), next)
	if _, _, _, more := e.CustomFrom(path("/a/b"), next); p1 != "pa" || p2 != "pb" || !ok1 || !ok2 || more {
		t.Errorf("%q %v %q %v, more %v", p1, ok1, p2, ok2, more)
	}
	// An invalid CUSTOM policy denies on both ways.
	e = Compile([]Policy{{Action: Custom, Namespace: "n", Name: "bad", Invalid: "x"}})
	if p, d, ok := e.Custom(path("/")); !ok || p != "" || d.Allowed || d.Reason != ReasonPolicyInvalid {
		t.Errorf("%q %+v %v", p, d, ok)
	}
	// A connection leaves HTTP conditions out.
	e = Compile([]Policy{a})
	if p, _, _, ok := e.CustomConn(&attrs.Conn{}, 0); !ok || p != "pa" {
		t.Errorf("connection: %q %v", p, ok)
	}
	var none *Engine
	if _, _, ok := none.Custom(path("/")); ok || none.NeedsHTTP() || none.Explain(path("/")) != nil || none.ExplainConn(nil) != nil {
		t.Error("a nil engine does something")
	}
	if _, _, _, ok := none.CustomConn(nil, 0); ok {
		t.Error("a nil engine asks for a connection")
	}
	if d := none.CheckConn(nil); !d.Allowed {
		t.Error("a nil engine denies")
	}
}

func TestDryRun(t *testing.T) {
	e := Compile([]Policy{
		dry(policy(t, "da", Allow, to(Operation{Paths: []string{"/a"}}))),
		dry(policy(t, "dd", Deny, to(Operation{Paths: []string{"/d"}}))),
	})
	allow, deny := e.DryRun(path("/a"))
	if !allow.Set || !allow.Allowed || allow.Policy != "shop/da" || !deny.Set || !deny.Allowed || deny.Policy != "" {
		t.Errorf("%+v %+v", allow, deny)
	}
	allow, deny = e.DryRun(path("/d"))
	if allow.Allowed || allow.Policy != "" || deny.Allowed || deny.Rule != "ns[shop]-policy[dd]-rule[0]" {
		t.Errorf("%+v %+v", allow, deny)
	}
	if allow, deny = e.DryRunConn(&attrs.Conn{}); allow.Allowed || deny.Allowed {
		t.Errorf("%+v %+v", allow, deny)
	}
	if allow, deny = (*Engine)(nil).DryRun(path("/")); allow.Set || deny.Set {
		t.Error("a nil engine has a dry run")
	}
	if allow, deny = (*Engine)(nil).DryRunConn(nil); allow.Set || deny.Set {
		t.Error("a nil engine has a dry run")
	}
}

func TestExplain(t *testing.T) {
	e := Compile([]Policy{
		policy(t, "p", Allow, &RuleSpec{
			From: []Source{{Principals: []string{"other"}, IPBlocks: []string{"1.1.1.1"}}},
			To:   []Operation{{Paths: []string{"/a"}, NotMethods: []string{"GET"}}},
			When: []Condition{{Key: "request.headers[x-key]", Values: []string{"secret"}}},
		}, to(Operation{Methods: []string{"GET"}})),
		{Namespace: "shop", Name: "bad", Invalid: "broken", DryRun: true},
	})
	r := &attrs.Request{
		Conn: &attrs.Conn{Peer: attrs.Principal{URI: curl}, Source: addrPort("9.9.9.9:1")}, Method: "GET", Path: "/b",
		Headers: []attrs.Field{{Name: "x-key", Value: "hunter2"}},
	}
	got, err := json.Marshal(e.Explain(r))
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"policy":"shop/p","action":"ALLOW","matched":true,"rule":"ns[shop]-policy[p]-rule[1]","rules":[` +
		`{"rule":"ns[shop]-policy[p]-rule[0]","matched":false,"failed":[` +
		`{"field":"from[0].source.principals","saw":"` + curl + `"},` +
		`{"field":"from[0].source.ipBlocks","saw":"9.9.9.9"},` +
		`{"field":"to[0].operation.notMethods","saw":"GET"},` +
		`{"field":"to[0].operation.paths","saw":"/b"},` +
		`{"field":"when[0].values (request.headers[x-key])","saw":"(present)"}]},` +
		`{"rule":"ns[shop]-policy[p]-rule[1]","matched":true}]},` +
		`{"policy":"shop/bad","action":"ALLOW","dryRun":true,"invalid":"broken","matched":false}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if c := e.ExplainConn(r.Conn); c[0].Matched || c[0].Rules[1].Failed[0].Field != "never matches" {
		t.Errorf("%+v", c)
	}
	// Expressions without names are described by what they read.
	hdr, _ := Header("x", HeaderMatch{StringMatch: StringMatch{Value: "1"}})
	sni, _ := RequestedServerName(StringMatch{Value: "a"})
	claim, _ := StringOrList(Wildcard("a"))
	cl, _ := Claim([]string{"c"}, false, claim)
	pth, _ := Path(StringMatch{Value: "/q"})
	host, _ := Header(":authority", HeaderMatch{StringMatch: StringMatch{Value: "h"}})
	all := And(hdr, sni, cl, pth, host, Not(Any()), DestinationPort(1), HeaderPresent(":method", false))
	out := Compile([]Policy{{Rules: []Rule{{When: all}, {}}}}).Explain(r)
	fields := []string{}
	for _, f := range out[0].Rules[0].Failed {
		fields = append(fields, f.Field)
	}
	if s := strings.Join(fields, ","); s != "header x,connection sni,token,path,host,not never matches,destination port,method" {
		t.Errorf("fields %s", s)
	}
	if out[0].Rules[1].Matched || out[0].Rules[1].Rule != "ns[]-policy[]-rule[1]" {
		t.Errorf("a rule without expression: %+v", out[0].Rules[1])
	}
}

// manyPolicies makes n ALLOW policies as a large shared waypoint has them.
func manyPolicies(t testing.TB, n int) []Policy {
	var ps []Policy
	for i := range n {
		ps = append(ps, policy(t, fmt.Sprintf("p%04d", i), []Action{Allow, Deny}[i%2], &RuleSpec{
			From: []Source{
				{Principals: []string{fmt.Sprintf("cluster.local/ns/ns%d/sa/app%d", i%200, i)}},
				{Namespaces: []string{fmt.Sprintf("ns%d", i)}},
			},
			To:   []Operation{{Methods: []string{"GET"}, Paths: []string{fmt.Sprintf("/team%d/{*}/items/{**}", i), fmt.Sprintf("/svc%d/*", i)}}},
			When: []Condition{{Key: "request.headers[x-env]", Values: []string{"prod"}}},
		}))
	}
	return ps
}

func typicalRequest() *attrs.Request {
	return &attrs.Request{
		Conn: &attrs.Conn{
			Peer:   attrs.Principal{URI: "spiffe://cluster.local/ns/ns20/sa/app20", TrustDomain: "cluster.local", Namespace: "ns20", ServiceAccount: "app20"},
			Source: addrPort("10.1.2.3:4000"), DestPort: 80,
		},
		Method: "GET", Scheme: "http", Authority: "Shop.example", Path: "/team20/x/items/1",
		Headers: []attrs.Field{{Name: "accept", Value: "*/*"}, {Name: "x-env", Value: "prod"}},
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	r := typicalRequest()
	r.Claims = &attrs.Claims{Issuer: "i", Subject: "s", Raw: map[string]any{"scope": "a b", "groups": []any{"x", "y"}}}
	r.HasQuery, r.Query = true, "a=b"
	more := policy(t, "more", Deny,
		&RuleSpec{When: []Condition{
			{Key: "request.auth.claims[scope]", Values: []string{"b"}}, {Key: "request.auth.claims[groups]", Values: []string{"y"}},
			{Key: "request.headers[:path]", Values: []string{"*?a=b"}}, {Key: "source.ip", Values: []string{"10.0.0.0/8"}},
			{Key: "source.namespace", Values: []string{"n*0"}}, {Key: "source.principal", NotValues: []string{"*x"}},
			{Key: "source.serviceAccount", Values: []string{"ns20/other"}},
		}},
		to(Operation{Hosts: []string{"a", "b", "c", "d"}}),
	)
	for _, n := range []int{1, 100, 5000} {
		e := Compile(append(manyPolicies(t, n), more))
		e.Check(r)
		if a := testing.AllocsPerRun(100, func() { e.Check(r); e.CheckConn(r.Conn); e.Custom(r); e.DryRun(r) }); a != 0 {
			t.Errorf("%d policies: %v allocations", n, a)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{1, 100, 5000} {
		e := Compile(manyPolicies(b, n))
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			r := typicalRequest()
			b.ReportAllocs()
			for b.Loop() {
				e.Check(r)
			}
		})
	}
}

func BenchmarkCompile5000(b *testing.B) {
	ps := manyPolicies(b, 5000)
	for b.Loop() {
		Compile(ps)
	}
}
