package authz

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// FieldError is a value of a policy that cannot be used.
type FieldError struct {
	Field string // JSON path, such as spec.rules[0].to[0].operation.paths[1]
	Msg   string // what is wrong and what to do
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Msg }

// Bounds of Istio's AuthorizationPolicy schema.
const (
	maxFrom            = 512
	maxServiceAccounts = 16
	maxServiceAccount  = 320 // characters
)

// NewRule builds both forms of a rule, and its name. The error is a *FieldError
// whose path starts at spec.
func NewRule(policyNS, policyName string, index int, a Action, spec *RuleSpec, s Scope) (Rule, error) {
	at := "spec.rules[" + strconv.Itoa(index) + "]."
	b := builder{scope: s, prefix: at, custom: a == Custom}
	when, err := b.rule(spec)
	if err != nil {
		return Rule{}, err
	}
	r := Rule{
		Name: "ns[" + policyNS + "]-policy[" + policyName + "]-rule[" + strconv.Itoa(index) + "]",
		When: when,
	}
	if !when.readsHTTP() {
		return r, nil
	}
	if a == Allow {
		r.TCP = Never() // Istio drops an ALLOW rule that it cannot express on a connection
		return r, nil
	}
	b = builder{scope: s, prefix: at, custom: a == Custom, tcp: true}
	r.TCP, err = b.rule(spec)
	return r, err
}

// Expr builds the expression of one rule. The error is a *FieldError whose path
// starts at the rule.
func (r *RuleSpec) Expr(s Scope) (*Expr, error) {
	b := builder{scope: s}
	return b.rule(r)
}

// builder turns one RuleSpec into an expression.
type builder struct {
	scope  Scope
	prefix string // of error paths
	custom bool   // the fields that CUSTOM forbids are errors
	tcp    bool   // HTTP fields are left out
	err    *FieldError
}

func (b *builder) fail(field, format string, args ...any) {
	if b.err == nil {
		b.err = &FieldError{b.prefix + field, fmt.Sprintf(format, args...)}
	}
}

func (b *builder) rule(r *RuleSpec) (*Expr, error) {
	var and []*Expr
	if r.From != nil {
		if len(r.From) == 0 || len(r.From) > maxFrom {
			b.fail("from", "needs 1 to %d entries; leave it out to match any source", maxFrom)
		}
		var or []*Expr
		for i := range r.From {
			or = append(or, b.source("from["+strconv.Itoa(i)+"].source", &r.From[i]))
		}
		and = append(and, one(Or, or))
	}
	if r.To != nil {
		if len(r.To) == 0 {
			b.fail("to", "must not be empty; leave it out to match any operation")
		}
		var or []*Expr
		for i := range r.To {
			or = append(or, b.operation("to["+strconv.Itoa(i)+"].operation", &r.To[i]))
		}
		and = append(and, one(Or, or))
	}
	for i := range r.When {
		and = append(and, b.condition("when["+strconv.Itoa(i)+"]", &r.When[i])...)
	}
	if b.err != nil {
		return nil, b.err
	}
	return one(And, and), nil
}

// one avoids a node around a single part.
func one(f func(...*Expr) *Expr, parts []*Expr) *Expr {
	if len(parts) == 1 {
		return parts[0]
	}
	return f(parts...)
}

func (b *builder) source(at string, s *Source) *Expr {
	var and []*Expr
	if b.custom {
		b.forbid(at+".principals", s.Principals, s.NotPrincipals)
		b.forbid(at+".requestPrincipals", s.RequestPrincipals, s.NotRequestPrincipals)
		b.forbid(at+".namespaces", s.Namespaces, s.NotNamespaces)
		b.forbid(at+".serviceAccounts", s.ServiceAccounts, s.NotServiceAccounts)
		b.forbid(at+".trustDomains", s.TrustDomains, s.NotTrustDomains)
	}
	if len(s.ServiceAccounts)+len(s.NotServiceAccounts) > 0 &&
		len(s.Principals)+len(s.NotPrincipals)+len(s.Namespaces)+len(s.NotNamespaces) > 0 {
		b.fail(at+".serviceAccounts", "cannot be combined with principals or namespaces")
	}
	n := 0
	add := func(name string, values, not []string, http bool, f makeExpr) {
		n += len(values) + len(not)
		and = append(and, b.field(at+"."+name, at+".not"+upperFirst(name), values, not, http, f)...)
	}
	add("principals", s.Principals, s.NotPrincipals, false, b.principals)
	add("requestPrincipals", s.RequestPrincipals, s.NotRequestPrincipals, true, requestPrincipals)
	add("namespaces", s.Namespaces, s.NotNamespaces, false, namespaces)
	add("serviceAccounts", s.ServiceAccounts, s.NotServiceAccounts, false, b.serviceAccounts)
	add("trustDomains", s.TrustDomains, s.NotTrustDomains, false, b.trustDomains)
	add("ipBlocks", s.IPBlocks, s.NotIPBlocks, false, addresses(DirectRemoteIP))
	add("remoteIpBlocks", s.RemoteIPBlocks, s.NotRemoteIPBlocks, false, addresses(RemoteIP))
	if n == 0 {
		b.fail(at, "must not be empty; leave from out to match any source")
	}
	return one(And, and)
}

func (b *builder) forbid(field string, values, not []string) {
	if len(values)+len(not) > 0 {
		b.fail(field, "cannot be used with action CUSTOM")
	}
}

func (b *builder) operation(at string, o *Operation) *Expr {
	var and []*Expr
	n := 0
	add := func(name string, values, not []string, http bool, f makeExpr) {
		n += len(values) + len(not)
		and = append(and, b.field(at+"."+name, at+".not"+upperFirst(name), values, not, http, f)...)
	}
	add("hosts", o.Hosts, o.NotHosts, true, hosts)
	add("methods", o.Methods, o.NotMethods, true, methods)
	add("paths", o.Paths, o.NotPaths, true, paths)
	add("ports", o.Ports, o.NotPorts, false, ports)
	if n == 0 {
		b.fail(at, "must not be empty; leave to out to match any operation")
	}
	return one(And, and)
}

// makeExpr builds the alternatives of one list. bad is the index of the value
// that the error is about, -1 for the list.
type makeExpr func(values []string) (or []*Expr, bad int, err error)

// field builds the condition of a list and of its not twin.
func (b *builder) field(name, notName string, values, not []string, http bool, f makeExpr) []*Expr {
	var out []*Expr
	if e := b.list(name, values, f); e != nil && !(http && b.tcp) {
		out = append(out, Named(name, e))
	}
	if e := b.list(notName, not, f); e != nil && !(http && b.tcp) {
		out = append(out, Named(notName, Not(e)))
	}
	return out
}

func (b *builder) list(name string, values []string, f makeExpr) *Expr {
	if len(values) == 0 {
		return nil
	}
	for i, v := range values {
		if v == "" {
			b.fail(name+"["+strconv.Itoa(i)+"]", "must not be empty")
			return nil
		}
	}
	or, bad, err := f(values)
	if err != nil {
		if bad >= 0 {
			name += "[" + strconv.Itoa(bad) + "]"
		}
		b.fail(name, "%v", err)
		return nil
	}
	return one(Or, or)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// each makes one alternative of each value.
func each(f func(v string) (*Expr, error)) makeExpr {
	return func(values []string) (or []*Expr, bad int, err error) {
		for i, v := range values {
			e, err := f(v)
			if err != nil {
				return nil, i, err
			}
			or = append(or, e)
		}
		return or, -1, nil
	}
}

// addresses makes one set of all values.
func addresses(f func(...netip.Prefix) *Expr) makeExpr {
	return func(values []string) (or []*Expr, bad int, err error) {
		ps := make([]netip.Prefix, 0, len(values))
		for i, v := range values {
			p, err := parseBlock(v)
			if err != nil {
				return nil, i, err
			}
			ps = append(ps, p)
		}
		return []*Expr{f(ps...)}, -1, nil
	}
}

func parseBlock(v string) (netip.Prefix, error) {
	if strings.Contains(v, "/") {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return p, fmt.Errorf("bad CIDR %q: use an address and a length, such as 10.0.0.0/8", v)
		}
		return p, nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("bad IP address %q", v)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
