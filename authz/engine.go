package authz

import (
	"strconv"

	"waypoint.dev/waypoint/internal/attrs"
)

// DenyBody is the body of a 403 that an Engine decided, as Istio's users know it.
const DenyBody = "RBAC: access denied"

const (
	detailsPrefix  = "rbac_access_denied_matched_policy["
	detailsNone    = detailsPrefix + "none]"
	detailsInvalid = "policy_invalid"
)

// Engine decides requests and connections by a list of policies. It is immutable
// and safe for concurrent use. A nil *Engine allows everything with
// ReasonNoPolicy.
type Engine struct {
	policies []Policy
	invalid  *Decision // set: deny everything
	http     bool
	custom   []provider
	conflict bool // several providers, and the options do not allow it

	request, conn actions
}

// actions holds the rules of either form.
type actions struct {
	audit, deny, allow group
	dryDeny, dryAllow  group
	custom             []group // beside Engine.custom
}

type provider struct{ name string }

// Options change how policies combine. The zero value is Istio's default.
type Options struct {
	// MultipleProviders lets CUSTOM policies of one destination name several
	// providers (PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS).
	MultipleProviders bool
}

// Compile makes an Engine; nil if there are no policies.
func Compile(policies []Policy) *Engine { return CompileWith(policies, Options{}) }

// CompileWith is Compile with options.
func CompileWith(policies []Policy, o Options) *Engine {
	if len(policies) == 0 {
		return nil
	}
	e := &Engine{policies: policies}
	for i := range policies {
		p := &policies[i]
		if p.Invalid != "" {
			e.addInvalid(p)
			continue
		}
		for j := range p.Rules {
			e.http = e.http || p.Rules[j].When.readsHTTP()
		}
		if p.Action == Custom {
			e.addCustom(p)
			continue
		}
		e.request.group(p).add(p, false)
		e.conn.group(p).add(p, true)
	}
	e.conflict = len(e.custom) > 1 && !o.MultipleProviders
	e.request.build()
	e.conn.build()
	return e
}

func (e *Engine) addInvalid(p *Policy) {
	if p.DryRun || e.invalid != nil {
		return // a dry run never decides
	}
	e.invalid = &Decision{Policy: policyName(p), Reason: ReasonPolicyInvalid, Details: detailsInvalid}
}

func (e *Engine) addCustom(p *Policy) {
	at := -1
	for i := range e.custom {
		if e.custom[i].name == p.Provider {
			at = i
		}
	}
	if at < 0 {
		at = len(e.custom)
		e.custom = append(e.custom, provider{p.Provider})
		e.request.custom = append(e.request.custom, group{})
		e.conn.custom = append(e.conn.custom, group{})
	}
	e.request.custom[at].add(p, false)
	e.conn.custom[at].add(p, true)
}

func (a *actions) group(p *Policy) *group {
	switch {
	case p.Action == Audit:
		return &a.audit
	case p.Action == Deny && p.DryRun:
		return &a.dryDeny
	case p.Action == Deny:
		return &a.deny
	case p.DryRun:
		return &a.dryAllow
	}
	return &a.allow
}

func (a *actions) build() {
	for _, g := range []*group{&a.audit, &a.deny, &a.allow, &a.dryDeny, &a.dryAllow} {
		g.build()
	}
	for i := range a.custom {
		a.custom[i].build()
	}
}

func policyName(p *Policy) string { return p.Namespace + "/" + p.Name }

func (g *group) add(p *Policy, tcp bool) {
	g.present = true
	name := policyName(p)
	for i := range p.Rules {
		r := &p.Rules[i]
		c := compiled{expr: r.When, policy: name, rule: r.name(p, i)}
		if tcp && r.TCP != nil {
			c.expr = r.TCP
		}
		c.details = detailsPrefix + c.rule + "]"
		g.rules = append(g.rules, c)
	}
}

func (r *Rule) name(p *Policy, i int) string {
	if r.Name != "" {
		return r.Name
	}
	return "ns[" + p.Namespace + "]-policy[" + p.Name + "]-rule[" + strconv.Itoa(i) + "]"
}

// NeedsHTTP reports whether any policy reads HTTP facts (such a port is never
// treated as TCP).
func (e *Engine) NeedsHTTP() bool { return e != nil && e.http }

// Check decides a request by the AUDIT, DENY and ALLOW policies, in this order.
// It does not allocate.
func (e *Engine) Check(r *attrs.Request) Decision {
	if e == nil {
		return Decision{Allowed: true, Reason: ReasonNoPolicy}
	}
	return e.check(&e.request, requestInput(r))
}

// CheckConn decides a connection by what is known without HTTP: an ALLOW rule
// with an HTTP condition never matches, and DENY and AUDIT rules match as if
// their HTTP conditions were not there.
func (e *Engine) CheckConn(c *attrs.Conn) Decision {
	if e == nil {
		return Decision{Allowed: true, Reason: ReasonNoPolicy}
	}
	return e.check(&e.conn, input{c: c})
}

func (e *Engine) check(a *actions, in input) Decision {
	var d Decision
	if c := a.audit.find(in); c != nil {
		d.Audit = c.policy
	}
	if e.invalid != nil {
		d.Policy, d.Reason, d.Details = e.invalid.Policy, e.invalid.Reason, e.invalid.Details
		return d
	}
	if c := a.deny.find(in); c != nil {
		d.Policy, d.Rule, d.Reason, d.Details = c.policy, c.rule, ReasonDenyMatched, c.details
		return d
	}
	if !a.allow.present {
		d.Allowed, d.Reason = true, ReasonNoPolicy
		if a.deny.present {
			d.Reason = ReasonNotDenied
		}
		return d
	}
	if c := a.allow.find(in); c != nil {
		d.Allowed, d.Policy, d.Rule, d.Reason = true, c.policy, c.rule, ReasonAllowMatched
		return d
	}
	d.Reason, d.Details = ReasonNoAllow, detailsNone
	return d
}

// Custom returns the first provider that has to be asked about a request. ok is
// false if none has. The Decision is a denial naming the policy: it stands if
// the provider is empty (several providers, or an invalid policy), is unknown, or
// cannot be asked. Further providers follow through CustomFrom.
func (e *Engine) Custom(r *attrs.Request) (provider string, d Decision, ok bool) {
	provider, d, _, ok = e.CustomFrom(r, 0)
	return provider, d, ok
}

// CustomFrom is Custom from the i-th provider on; next is the i that continues.
func (e *Engine) CustomFrom(r *attrs.Request, i int) (provider string, d Decision, next int, ok bool) {
	if e == nil {
		return "", d, 0, false
	}
	return e.customFrom(&e.request, requestInput(r), i)
}

// CustomConn is CustomFrom for a connection.
func (e *Engine) CustomConn(c *attrs.Conn, i int) (provider string, d Decision, next int, ok bool) {
	if e == nil {
		return "", d, 0, false
	}
	return e.customFrom(&e.conn, input{c: c}, i)
}

func (e *Engine) customFrom(a *actions, in input, i int) (provider string, d Decision, next int, ok bool) {
	if e.invalid != nil {
		return "", *e.invalid, len(a.custom), true
	}
	for ; i < len(a.custom); i++ {
		c := a.custom[i].find(in)
		if c == nil {
			continue
		}
		d = Decision{Policy: c.policy, Rule: c.rule, Reason: ReasonCustomMatched, Details: c.details}
		if e.conflict {
			d.Reason = ReasonCustomConflict
			return "", d, len(a.custom), true
		}
		return e.custom[i].name, d, i + 1, true
	}
	return "", Decision{}, i, false
}

// Shadow is what the dry-run policies of one action would have done.
type Shadow struct {
	Set          bool   // there is a dry-run policy of this action
	Allowed      bool   //
	Policy, Rule string // what matched; empty: none
}

// DryRun tells what policies with istio.io/dry-run would have decided, the ALLOW
// and the DENY ones separately, as Istio reports them.
func (e *Engine) DryRun(r *attrs.Request) (allow, deny Shadow) {
	if e == nil {
		return
	}
	return e.request.dryRun(requestInput(r))
}

// DryRunConn is DryRun for a connection.
func (e *Engine) DryRunConn(c *attrs.Conn) (allow, deny Shadow) {
	if e == nil {
		return
	}
	return e.conn.dryRun(input{c: c})
}

func (a *actions) dryRun(in input) (allow, deny Shadow) {
	if a.dryAllow.present {
		allow.Set = true
		if c := a.dryAllow.find(in); c != nil {
			allow.Allowed, allow.Policy, allow.Rule = true, c.policy, c.rule
		}
	}
	if a.dryDeny.present {
		deny.Set, deny.Allowed = true, true
		if c := a.dryDeny.find(in); c != nil {
			deny.Allowed, deny.Policy, deny.Rule = false, c.policy, c.rule
		}
	}
	return allow, deny
}
