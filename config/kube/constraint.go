package kube

import (
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
)

// collectConstraints reads XBackendTrafficPolicies. Of several for a Service the
// oldest counts.
func (r *build) collectConstraints() {
	r.constraints = map[Key]*resilience.RetryBudget{}
	for _, o := range r.byAge(groupXGateway, "XBackendTrafficPolicy") {
		x := o.Body.(*XBackendTrafficPolicy)
		if x.SessionPersistence != nil {
			r.problem(config.Warning, o, "spec.sessionPersistence", "NotApplied", "is not supported here: set sessionPersistence in the rules of an HTTPRoute or GRPCRoute")
		}
		for i, t := range x.TargetRefs {
			k := Key{"", "Service", o.Namespace, t.Name}
			r.targetsOf[o.Key] = append(r.targetsOf[o.Key], k)
			switch {
			case r.objs.Get(k) == nil:
				r.targetMissing(o, i, &t)
			case x.RetryConstraint == nil:
				r.policyTarget(o, t, "Accepted", "the policy says nothing that is applied", true)
			case r.constraints[k] != nil:
				r.conflicted(o, i, &t, "retryConstraint")
			default:
				r.constraints[k] = x.budget()
				r.policyTarget(o, t, "Accepted", "the policy is applied", true)
			}
		}
	}
}

// budget fills in the API's defaults: 20 % over 10 s, and 10 retries a second.
func (x *XBackendTrafficPolicy) budget() *resilience.RetryBudget {
	out := &resilience.RetryBudget{Percent: 20, Interval: 10 * time.Second, MinRetryRate: 10}
	c := x.RetryConstraint
	if b := c.Budget; b != nil {
		if b.Percent != nil {
			out.Percent = float64(*b.Percent)
		}
		if d := gatewayDuration(b.Interval); d > 0 {
			out.Interval = d
		}
	}
	if m := c.MinRetryRate; m != nil {
		count, per := 10.0, time.Second
		if m.Count != nil {
			count = float64(*m.Count)
		}
		if d := gatewayDuration(m.Interval); d > 0 {
			per = d
		}
		out.MinRetryRate = count / per.Seconds()
	}
	return out
}

// retryConstraint returns the budget that a Service's XBackendTrafficPolicy sets; a
// DestinationRule's replaces it.
func (r *build) retryConstraint(s *service) *resilience.RetryBudget { return r.constraints[s.obj.Key] }
