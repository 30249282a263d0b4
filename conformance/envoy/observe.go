package envoy

import (
	"encoding/json"
	"fmt"
)

// Headers by which the oracle tells more than its decision: which rules of the
// service matched, and whether the request was audited. They are taken off its
// answers before these are compared.
const (
	rulesHeader = "x-oracle-rules"
	auditHeader = "x-oracle-audit"
)

// flatRule is a rule with its policy. Rules of a subject are numbered in the order
// of [Subject.rules].
type flatRule struct {
	policy *Policy
	rule   *PolicyRule
	name   string
}

// rules are those of all policies of a subject.
func (s *Subject) rules() []flatRule {
	var out []flatRule
	for i := range s.Policies {
		p := &s.Policies[i]
		if p.Action == "CUSTOM" {
			continue // asks, and does not decide
		}
		for j := range p.Rules {
			out = append(out, flatRule{p, &p.Rules[j], fmt.Sprintf("%s/%s/rule[%d]", s.Name, p.Name, j)})
		}
	}
	return out
}

// observers are RBAC filters that decide nothing: each evaluates one rule and
// leaves what it found in the metadata of the request.
func (w *World) observers(s *Subject) []any {
	var out []any
	for i, r := range s.rules() {
		f := typed("extensions.filters.http.rbac.v3.RBAC")
		f["shadow_rules"] = Object{"policies": Object{"rule": r.rule.envoy(w.Namespace, r.policy.Action, false)}}
		f["shadow_rules_stat_prefix"] = observed(i)
		out = append(out, Object{"name": "envoy.filters.http.rbac", "typed_config": f})
	}
	return out
}

func observed(rule int) string { return fmt.Sprint("observed_", rule, "_") }

// observations are the headers that carry what the observers found.
func observations() []any {
	add := func(name, format string) Object {
		return Object{"header": Object{"key": name, "value": format}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
	}
	return []any{add(rulesHeader, "%DYNAMIC_METADATA(envoy.filters.http.rbac)%"), add(auditHeader, "%DYNAMIC_METADATA(envoy.common:access_log_hint)%")}
}

// matched reads which rules of a subject the oracle saw match; nil if its answer
// does not say, as one to a malformed request does not.
func (a *Answer) matched(s *Subject) ([]bool, error) {
	if a.rules == "" || a.rules == "-" {
		return nil, nil
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(a.rules), &m); err != nil {
		return nil, fmt.Errorf("%s: %q: %w", rulesHeader, a.rules, err)
	}
	out := make([]bool, len(s.rules()))
	for i := range out {
		switch m[observed(i)+"shadow_engine_result"] {
		case "allowed":
			out[i] = true
		case "denied":
		default:
			return nil, nil // an earlier filter answered
		}
	}
	return out, nil
}

// verdict is what policies make of a request, by which of their rules match.
type verdict struct{ allowed, audited bool }

func (s *Subject) verdict(matched []bool) verdict {
	v := verdict{allowed: true}
	denied, allow, allows := false, false, false
	for i := range s.Policies {
		allows = allows || s.Policies[i].Action == "ALLOW"
	}
	for i, r := range s.rules() {
		if matched[i] {
			switch r.policy.Action {
			case "DENY":
				denied = true
			case "ALLOW":
				allow = true
			case "AUDIT":
				v.audited = true
			}
		}
	}
	v.allowed = !denied && (allow || !allows)
	return v
}

// decides reports whether a rule decides a request: the verdict would be another
// if the rule alone said otherwise.
func (s *Subject) decides(matched []bool, rule int) bool {
	was := s.verdict(matched)
	matched[rule] = !matched[rule]
	is := s.verdict(matched)
	matched[rule] = !matched[rule]
	return was != is
}

// predict tells which rules a question meets, closely enough to choose questions.
func (s *Subject) predict(q *Question) []bool {
	rules := s.rules()
	out := make([]bool, len(rules))
	for i, r := range rules {
		out[i] = r.rule.meets(q)
	}
	return out
}
