package istiod

import (
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"waypoint.dev/waypoint/authz"
)

// policies groups the rules of an RBAC filter into the policies they were made
// from. Without rules an ALLOW filter denies everything, as a policy without
// rules does.
func policies(action rbacv3.RBAC_Action, rules []namedRule, dryRun bool) []authz.Policy {
	a := authz.Allow
	switch action {
	case rbacv3.RBAC_DENY:
		a = authz.Deny
	case rbacv3.RBAC_LOG:
		a = authz.Audit
	}
	out := group(rules, a, "")
	if len(out) == 0 && a == authz.Allow {
		out = []authz.Policy{{Name: "(no policies)", Action: authz.Allow}}
	}
	for i := range out {
		out[i].DryRun = dryRun
	}
	return out
}

// group puts rules of the same policy together. They stand side by side, as they
// are sorted by a name that starts with the policy's.
func group(rules []namedRule, a authz.Action, provider string) []authz.Policy {
	var out []authz.Policy
	for _, r := range rules {
		ns, name, ok := policyOf(r.id)
		if !ok {
			name = r.id
		}
		if n := len(out); n == 0 || out[n-1].Namespace != ns || out[n-1].Name != name {
			out = append(out, authz.Policy{Namespace: ns, Name: name, Action: a, Provider: provider})
		}
		p := &out[len(out)-1]
		p.Rules = append(p.Rules, authz.Rule{Name: r.id, When: r.when})
	}
	return out
}

// policyOf reads "ns[N]-policy[P]-rule[I]", with or without something before it.
func policyOf(id string) (ns, name string, ok bool) {
	_, rest, ok := strings.Cut(id, "ns[")
	if !ok {
		return "", "", false
	}
	ns, rest, ok = strings.Cut(rest, "]-policy[")
	if !ok {
		return "", "", false
	}
	i := strings.LastIndex(rest, "]-rule[")
	if i < 0 {
		return "", "", false
	}
	return ns, rest[:i], true
}

// rank is the place of an action in the order in which an engine asks.
func rank(a authz.Action) int {
	switch a {
	case authz.Audit:
		return 0
	case authz.Deny:
		return 1
	}
	return 2
}

// both joins two lists of policies that must both let a connection pass. An
// engine allows by any of its ALLOW policies, so where both lists have some they
// are multiplied out: each rule of second also asks for first.
func both(first, second []authz.Policy) []authz.Policy {
	var gate []*authz.Expr
	gated := false
	for i := range first {
		if p := &first[i]; p.Action == authz.Allow && !p.DryRun {
			gated = true
			for j := range p.Rules {
				gate = append(gate, p.Rules[j].When)
			}
		}
	}
	allows := false
	for i := range second {
		allows = allows || second[i].Action == authz.Allow && !second[i].DryRun
	}
	if !gated || !allows {
		return append(first[:len(first):len(first)], second...)
	}
	pass := join(authz.Or, gate) // without a rule nothing passes
	var out []authz.Policy
	for _, p := range first {
		if p.Action != authz.Allow || p.DryRun {
			out = append(out, p)
		}
	}
	for _, p := range second {
		if p.Action == authz.Allow && !p.DryRun {
			rules := make([]authz.Rule, len(p.Rules))
			for j, r := range p.Rules {
				r.When = authz.And(pass, r.When)
				if r.TCP != nil {
					r.TCP = authz.And(pass, r.TCP)
				}
				rules[j] = r
			}
			p.Rules = rules
		}
		out = append(out, p)
	}
	return out
}
