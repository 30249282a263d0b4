package authz

import "waypoint.dev/waypoint/internal/attrs"

func (r *RuleSpec) Expr(s Scope) (*Expr, error) { return nil, nil }
func NewRule(policyNS, policyName string, index int, a Action, spec *RuleSpec, s Scope) (Rule, error) {
	return Rule{}, nil
}

type Engine struct{}

func Compile(policies []Policy) *Engine            { return nil }
func (e *Engine) Check(r *attrs.Request) Decision  { return Decision{} }
func (e *Engine) CheckConn(c *attrs.Conn) Decision { return Decision{} }
func (e *Engine) Custom(r *attrs.Request) (provider string, d Decision, ok bool) {
	return "", Decision{}, true
}
func (e *Engine) NeedsHTTP() bool { return true }
