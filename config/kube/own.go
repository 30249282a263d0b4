package kube

import (
	"cmp"
	"slices"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

// byAge returns the objects of a kind, the oldest first: it wins conflicts, as the
// Gateway API says of policies.
func (r *build) byAge(group, kind string) []*Object {
	os := slices.Clone(r.objs.All(group, kind))
	slices.SortStableFunc(os, func(a, b *Object) int { return cmp.Compare(a.created, b.created) })
	return os
}

// collectOwn reads the WaypointPolicies, merged by target and field.
func (r *build) collectOwn() {
	r.own, r.ownTargets, r.ownRoutes = map[Key]*WaypointPolicy{}, map[Key]bool{}, false
	for _, o := range r.byAge(groupOwn, "WaypointPolicy") {
		w := o.Body.(*WaypointPolicy)
		for i, t := range w.TargetRefs {
			k := Key{t.Group, t.Kind, o.Namespace, t.Name}
			r.ownTargets[k] = true
			r.ownRoutes = r.ownRoutes || isRoute(k.Kind)
			r.targetsOf[o.Key] = append(r.targetsOf[o.Key], k)
			if r.objs.Get(k) == nil {
				r.targetMissing(o, i, &t)
				continue
			}
			have := r.own[k]
			if have == nil {
				have = &WaypointPolicy{}
				r.own[k] = have
			}
			if lost := have.add(w); lost != "" {
				r.conflicted(o, i, &t, lost)
				continue
			}
			if t.Kind == "Gateway" && (r.gw == nil || k != r.gw.Key) {
				r.policyTarget(o, t, "Accepted", "the policy is for another waypoint", true)
				continue
			}
			r.policyTarget(o, t, "Accepted", "the policy is applied", true)
		}
	}
}

// add takes the fields of x that are not set, and names the first that is.
func (w *WaypointPolicy) add(x *WaypointPolicy) (lost string) {
	take := func(name string, have, given bool, f func()) {
		switch {
		case given && !have:
			f()
		case given && lost == "":
			lost = name
		}
	}
	take("circuitBreaker", w.CircuitBreaker != nil, x.CircuitBreaker != nil, func() { w.CircuitBreaker = x.CircuitBreaker })
	take("outlierDetection", w.OutlierDetection != nil, x.OutlierDetection != nil, func() { w.OutlierDetection = x.OutlierDetection })
	take("localRateLimit", w.LocalRateLimit != nil, x.LocalRateLimit != nil, func() { w.LocalRateLimit = x.LocalRateLimit })
	take("clientIdentity", w.ClientIdentity != nil, x.ClientIdentity != nil, func() { w.ClientIdentity = x.ClientIdentity })
	take("retry", w.Retry != nil, x.Retry != nil, func() { w.Retry = x.Retry })
	take("timeouts", w.Timeouts != nil, x.Timeouts != nil, func() { w.Timeouts = x.Timeouts })
	return lost
}

// ownOf returns the policy of the most particular of these objects, field by field,
// with the Gateway's below. It is never nil.
func (r *build) ownOf(keys ...Key) *WaypointPolicy {
	out := &WaypointPolicy{}
	for _, k := range keys {
		if w := r.own[k]; w != nil {
			out.add(w)
		}
	}
	if r.gw != nil {
		if w := r.own[r.gw.Key]; w != nil {
			out.add(w)
		}
	}
	return out
}

// ownSettings puts breaker and ejection into a backend of a service.
func (r *build) ownSettings(b *config.Backend, s *service) {
	r.ownOf(s.obj.Key).settings(b)
}

// settings puts breaker and ejection into a backend.
func (w *WaypointPolicy) settings(b *config.Backend) {
	if x := w.CircuitBreaker; x != nil {
		b.Settings.Breaker = &resilience.Breaker{MinRequests: *x.MinRequests, ErrorPercent: *x.ErrorPercent, OpenFor: dur(x.OpenFor), HalfOpenRequests: *x.HalfOpenRequests}
	}
	if x := w.OutlierDetection; x != nil && b.Settings.Outlier != nil {
		b.Settings.Outlier.AlwaysEjectOne = x.AlwaysEjectOneHost
	}
}

// ownHTTP puts client identity, rate limits and the defaults of rules into a
// destination whose routes are there.
func (r *build) ownHTTP(d *config.Destination, target Key, ref func(string) int) {
	w := r.ownOf(target)
	if x := w.ClientIdentity; x != nil {
		if x.XFCC != nil {
			d.Settings.XFCC = *x.XFCC
		}
		if x.XForwardedFor != nil {
			d.Settings.XFF = *x.XForwardedFor
		}
	}
	limit := &resilience.RateLimit{}
	if x := w.LocalRateLimit; x != nil {
		b := x.bucket()
		limit.Default = &b
	}
	r.ownRules(d, d.Routes, limit)
	for _, rules := range d.Consumers {
		r.ownRules(d, rules, limit)
	}
	if d.Protocol == config.ProtocolTCP || d.Protocol == config.ProtocolTLS {
		return // nothing below means anything there
	}
	var sticky *SessionPersistence
	if d.Backend != "" {
		sticky = r.sessionOf(d.Backend)
	}
	if len(d.Routes) == 0 && d.Backend != "" && (w.Retry != nil || w.Timeouts != nil || r.meshRetry != nil || sticky != nil) {
		rule := routing.Rule{Retry: -1, Fault: -1, Session: -1, Hash: -1, Backends: []routing.Backend{{Ref: ref(d.Backend), Weight: 1}}}
		w.defaults(d, &rule)
		r.meshDefault(d, &rule)
		if sticky != nil {
			keepSessions(d, &rule, sticky, true)
		}
		d.Routes, d.Implicit = []routing.Rule{rule}, true
	}
	if limit.Default != nil || len(limit.Descriptors) > 0 {
		d.Stages = append(d.Stages, config.Stage{Kind: config.StageRateLimit, Spec: limit})
		d.HTTPOnly = true
	}
}

// ownRules fills in what rules leave open, and collects the limits of their routes.
func (r *build) ownRules(d *config.Destination, rules []routing.Rule, limit *resilience.RateLimit) {
	for i := range rules {
		rule := &rules[i]
		ns, name, _ := cutSlash(rule.Route)
		k := Key{groupGateway, rule.Kind, ns, name}
		if own := r.own[k]; own != nil && own.LocalRateLimit != nil {
			e := resilience.DescriptorLimit{Entries: []resilience.Descriptor{{Key: rule.Kind, Value: rule.Route}}, Bucket: own.LocalRateLimit.bucket()}
			if !slices.ContainsFunc(limit.Descriptors, func(x resilience.DescriptorLimit) bool { return x.Entries[0] == e.Entries[0] }) {
				limit.Descriptors = append(limit.Descriptors, e)
			}
		}
		if rule.Broken == "" && rule.Redirect == nil {
			had := rule.Timeout
			r.ownOf(k, Key{"", "Service", d.Service.Namespace, d.Service.Name}).defaults(d, rule)
			r.meshDefault(d, rule)
			if r.saysTimeout(k, rule.Index) {
				rule.Timeout = had
			}
		}
	}
}

// saysTimeout reports whether an HTTPRoute's rule sets its timeout, which may be none.
func (r *build) saysTimeout(k Key, i int) bool {
	o := r.objs.Get(k)
	if o == nil {
		return false
	}
	h, ok := o.Body.(*HTTPRoute)
	return ok && i < len(h.Rules) && h.Rules[i].Timeouts != nil
}

// bucket makes the token bucket: burst tokens, refilled evenly.
func (l *OwnRateLimit) bucket() resilience.Bucket {
	return resilience.Bucket{Max: *l.Burst, Fill: *l.Requests, Each: dur(l.Per)}
}

// defaults fills in timeouts and retries that a rule does not set itself.
func (w *WaypointPolicy) defaults(d *config.Destination, rule *routing.Rule) {
	if x := w.Timeouts; x != nil {
		if rule.Timeout == 0 {
			rule.Timeout = dur(x.Request)
		}
		if rule.IdleTimeout == 0 {
			rule.IdleTimeout = dur(x.Idle)
		}
	}
	x := w.Retry
	if x == nil || rule.Retry >= 0 {
		return
	}
	p := *resilience.DefaultRetry()
	p.Attempts, p.TryTimeout, p.Backoff = int(*x.Attempts), dur(x.PerTryTimeout), dur(x.Backoff)
	if x.RetryOn != "" {
		p.On, p.Codes, _ = resilience.ParseRetryOn(x.RetryOn)
	}
	if rule.TryTimeout == 0 {
		rule.TryTimeout = p.TryTimeout
	}
	rule.Retry = len(d.Retries)
	d.Retries = append(d.Retries, &p)
}

// meshDefault is the retry policy of the mesh, below every other.
func (r *build) meshDefault(d *config.Destination, rule *routing.Rule) {
	if r.meshRetry == nil || rule.Retry >= 0 {
		return
	}
	if rule.TryTimeout == 0 {
		rule.TryTimeout = r.meshRetry.TryTimeout
	}
	rule.Retry = len(d.Retries)
	d.Retries = append(d.Retries, r.meshRetry)
}

func cutSlash(s string) (before, after string, ok bool) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
