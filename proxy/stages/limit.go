package stages

import (
	"cmp"
	"context"
	"slices"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// limiter is the proxy.RateLimiter of one stage.
type limiter struct {
	spec    *resilience.RateLimit
	limit   *resilience.Limiter
	refusal proxy.Verdict
}

func newLimiter(r *resilience.RateLimit) *limiter {
	l := &limiter{spec: r, limit: resilience.NewLimiter(r), refusal: limited}
	l.refusal.Status = cmp.Or(r.Status, limited.Status)
	l.refusal.Fields = slices.Clone(limited.Fields)
	for _, f := range r.Fields {
		l.refusal.Fields = append(l.refusal.Fields, attrs.Field(f))
	}
	return l
}

// limited is Envoy's answer of the local rate limit filter.
var limited = proxy.Verdict{
	Status: 429, Body: "local_rate_limited", Details: "local_rate_limited", Reason: "local_rate_limited",
	Flags: telemetry.FlagRL, Fields: []attrs.Field{{Name: "x-envoy-ratelimited", Value: "true"}},
}

// Limit implements proxy.RateLimiter. A request has one descriptor, the kind and
// name of its route, by which limits of single routes are found.
func (l *limiter) Limit(_ context.Context, _ *attrs.Request, rule *routing.Rule) proxy.Verdict {
	has := [1]resilience.Descriptor{{Key: rule.Kind, Value: rule.Route}}
	if l.limit.Allow(has[:]) {
		return proxy.Verdict{Allow: true}
	}
	return l.refusal
}
