package kube

import (
	"time"

	"waypoint.dev/waypoint/resilience"
)

// backendPolicy is what XBackendTrafficPolicies say of one Service. The zero value says
// nothing.
type backendPolicy struct {
	budget  *resilience.RetryBudget // a DestinationRule's replaces it
	session *SessionPersistence     // a route rule's own replaces it
}

// collectBackendPolicies reads XBackendTrafficPolicies. Of several for a Service the
// oldest counts, for each of its two fields.
func (r *build) collectBackendPolicies() {
	r.backendPolicies = map[Key]backendPolicy{}
	for _, o := range r.byAge(groupXGateway, "XBackendTrafficPolicy") {
		x := o.Body.(*XBackendTrafficPolicy)
		for i, t := range x.TargetRefs {
			k := Key{"", "Service", o.Namespace, t.Name}
			r.targetsOf[o.Key] = append(r.targetsOf[o.Key], k)
			if r.objs.Get(k) == nil {
				r.targetMissing(o, i, &t)
				continue
			}
			p := r.backendPolicies[k]
			msg := "the policy says nothing that is applied"
			if x.RetryConstraint != nil {
				msg = "the policy is applied"
				if p.budget != nil {
					r.conflicted(o, i, &t, "retryConstraint")
				} else {
					p.budget = x.budget()
				}
			}
			if x.SessionPersistence != nil {
				msg = "the policy is applied"
				if p.session != nil {
					r.conflicted(o, i, &t, "sessionPersistence")
				} else {
					p.session = x.SessionPersistence
				}
			}
			r.backendPolicies[k] = p
			r.policyTarget(o, t, "Accepted", msg, true)
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
