package authz

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// istioForm writes a rule the way istiod writes RBAC: permissions and principals,
// with regular expressions where Envoy has no better matcher.
type istioForm struct{}

func (istioForm) str(v string) StringMatch {
	switch {
	case v == "*":
		return StringMatch{Kind: MatchRegex, Value: ".+"}
	case strings.HasPrefix(v, "*"):
		return StringMatch{Kind: MatchSuffix, Value: v[1:]}
	case strings.HasSuffix(v, "*"):
		return StringMatch{Kind: MatchPrefix, Value: v[:len(v)-1]}
	}
	return StringMatch{Value: v}
}

func (f istioForm) header(name, v string, fold bool) *Expr {
	if v == "*" {
		return HeaderPresent(name, true)
	}
	m := f.str(v)
	m.IgnoreCase = fold
	return must(Header(name, HeaderMatch{StringMatch: m}))
}

func (f istioForm) path(v string) *Expr {
	if strings.Contains(v, "{") {
		return must(PathTemplate(v))
	}
	return must(Path(f.str(v)))
}

func (f istioForm) principal(v string) *Expr {
	switch {
	case v == "*":
		return must(Principal(StringMatch{Kind: MatchRegex, Value: ".+"}))
	case strings.HasPrefix(v, "*"):
		return must(Principal(StringMatch{Kind: MatchRegex, Value: "spiffe://.*" + v[1:]}))
	}
	m := f.str(v)
	m.Value = "spiffe://" + m.Value
	return must(Principal(m))
}

func (f istioForm) namespace(v string) *Expr {
	return must(Principal(StringMatch{Kind: MatchRegex, Value: ".*/ns/" + strings.ReplaceAll(v, "*", ".*") + "/.*"}))
}

func (f istioForm) account(v string) *Expr {
	ns, sa, ok := strings.Cut(v, "/")
	if !ok {
		ns, sa = scope.Namespace, v
	}
	return must(Principal(StringMatch{Kind: MatchRegex, Value: "spiffe://.+/ns/" + ns + "/(.+/|)sa/" + sa + "(/.+)?"}))
}

func (f istioForm) claim(name string, m StringMatch) *Expr {
	v, err := ValueString(m)
	if err != nil {
		panic(err)
	}
	return must(Claim([]string{name}, false, v))
}

func (f istioForm) requestPrincipal(v string) *Expr {
	nonEmpty := StringMatch{Kind: MatchRegex, Value: ".+"}
	pair := func(iss, sub StringMatch) *Expr { return And(f.claim("iss", iss), f.claim("sub", sub)) }
	switch v { // the generator's words
	case "*":
		return pair(nonEmpty, nonEmpty)
	case "i/s":
		return pair(StringMatch{Value: "i"}, StringMatch{Value: "s"})
	case "*/s":
		return pair(nonEmpty, StringMatch{Value: "s"})
	case "i/*":
		return pair(StringMatch{Value: "i"}, nonEmpty)
	}
	panic(v)
}

// lists appends "any of values" and "none of not".
func lists(out []*Expr, values, not []string, f func(string) *Expr) []*Expr {
	or := func(vs []string) *Expr {
		var es []*Expr
		for _, v := range vs {
			es = append(es, f(v))
		}
		return Or(es...)
	}
	if len(values) > 0 {
		out = append(out, or(values))
	}
	if len(not) > 0 {
		out = append(out, Not(or(not)))
	}
	return out
}

func (f istioForm) rule(r *RuleSpec) *Expr {
	block := func(remote bool) func(string) *Expr {
		return func(v string) *Expr {
			p, err := parseBlock(v)
			if err != nil {
				panic(err)
			}
			if remote {
				return RemoteIP(p)
			}
			return DirectRemoteIP(p)
		}
	}
	var when []*Expr
	for _, c := range r.When {
		when = lists(when, c.Values, c.NotValues, func(v string) *Expr { return f.header("x", v, false) })
	}
	var principals, permissions []*Expr
	for _, s := range r.From {
		var and []*Expr
		and = lists(and, scope.expandPrincipals(s.Principals), scope.expandPrincipals(s.NotPrincipals), f.principal)
		and = lists(and, s.RequestPrincipals, s.NotRequestPrincipals, f.requestPrincipal)
		and = lists(and, s.Namespaces, s.NotNamespaces, f.namespace)
		and = lists(and, s.ServiceAccounts, s.NotServiceAccounts, f.account)
		and = lists(and, s.IPBlocks, s.NotIPBlocks, block(false))
		and = lists(and, s.RemoteIPBlocks, s.NotRemoteIPBlocks, block(true))
		principals = append(principals, And(append(and, when...)...))
	}
	if len(r.From) == 0 {
		principals = []*Expr{And(when...)}
	}
	for _, o := range r.To {
		var and []*Expr
		and = lists(and, o.Hosts, o.NotHosts, func(v string) *Expr { return f.header(":authority", v, true) })
		and = lists(and, o.Methods, o.NotMethods, func(v string) *Expr { return f.header(":method", v, false) })
		and = lists(and, o.Paths, o.NotPaths, f.path)
		and = lists(and, o.Ports, o.NotPorts, func(v string) *Expr {
			p, err := strconv.Atoi(v)
			if err != nil {
				panic(err)
			}
			return DestinationPort(uint16(p))
		})
		permissions = append(permissions, And(and...))
	}
	if len(r.To) == 0 {
		permissions = []*Expr{Any()}
	}
	return And(Or(permissions...), Or(principals...))
}

// TestBothFormsDecideAlike compiles generated policies directly and in istiod's
// form, and compares whole decisions.
func TestBothFormsDecideAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var direct, rbac []Policy
		for i := range rapid.IntRange(1, 20).Draw(t, "policies") {
			p := Policy{Namespace: "n", Name: "p" + strconv.Itoa(i), Action: Action(rapid.IntRange(0, 2).Draw(t, "action"))}
			q := p
			for j := range rapid.IntRange(1, 3).Draw(t, "rules") {
				spec := genRule(t)
				for k := range spec.From { // trust domains have no settled form in RBAC
					s := &spec.From[k]
					s.TrustDomains, s.NotTrustDomains = nil, nil
					if len(s.Principals)+len(s.NotPrincipals)+len(s.RequestPrincipals)+len(s.Namespaces)+len(s.NotNamespaces)+len(s.ServiceAccounts)+len(s.IPBlocks)+len(s.NotRemoteIPBlocks) == 0 {
						s.Namespaces = []string{"a"}
					}
				}
				r, err := NewRule(p.Namespace, p.Name, j, p.Action, spec, scope)
				if err != nil {
					t.Fatal(err)
				}
				p.Rules = append(p.Rules, r)
				q.Rules = append(q.Rules, Rule{Name: r.Name, When: istioForm{}.rule(spec)})
			}
			direct, rbac = append(direct, p), append(rbac, q)
		}
		a, b := Compile(direct), Compile(rbac)
		for range 10 {
			r := genRequest(t)
			if x, y := a.Check(r), b.Check(r); x != y {
				t.Fatalf("request %+v\ndirect %+v\nRBAC   %+v", r, x, y)
			}
		}
	})
}
