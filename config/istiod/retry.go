package istiod

import (
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"waypoint.dev/waypoint/resilience"
)

// Extensions of retry policies.
const (
	previousHosts      = "envoy.retry_host_predicates.previous_hosts"
	previousPriorities = "envoy.retry_priorities.previous_priorities"
)

// readRetry translates a retry policy. nil stands for Istio's default. A route
// without a policy does not retry (Envoy). What it cannot do is returned for a
// warning.
func readRetry(p *routev3.RetryPolicy) (r *resilience.Retry, missing []string) {
	r = &resilience.Retry{}
	if p == nil {
		return r, nil
	}
	on, codes, unknown := resilience.ParseRetryOn(p.GetRetryOn())
	for _, u := range unknown {
		missing = append(missing, "retry_on "+u)
	}
	r.On, r.Codes = on, codes
	for _, c := range p.GetRetriableStatusCodes() {
		if !slices.Contains(r.Codes, int(c)) {
			r.Codes = append(r.Codes, int(c))
		}
	}
	r.Attempts = 1 // Envoy's default
	if p.GetNumRetries() != nil {
		r.Attempts = int(p.GetNumRetries().GetValue())
	}
	r.TryTimeout = duration(p.GetPerTryTimeout())
	if b := p.GetRetryBackOff(); b != nil {
		r.Backoff, r.MaxBackoff = duration(b.GetBaseInterval()), duration(b.GetMaxInterval())
	}
	for _, h := range p.GetRetryHostPredicate() {
		if h.GetName() == previousHosts {
			r.AvoidPrevious = true
		} else {
			missing = append(missing, "retry_host_predicate "+h.GetName())
		}
	}
	if rp := p.GetRetryPriority(); rp != nil {
		var c previousv3.PreviousPrioritiesConfig
		if err := unpack(rp.GetTypedConfig(), &c); rp.GetName() == previousPriorities && err == nil {
			r.RemoteLocalities = int(c.GetUpdateFrequency())
		} else {
			missing = append(missing, "retry_priority "+rp.GetName())
		}
	}
	for _, h := range p.GetRetriableHeaders() {
		m, err := readHeaderMatch(h)
		if err != nil || !m.presence || !m.want {
			missing = append(missing, "retriable_headers "+h.GetName())
			continue
		}
		r.Headers = append(r.Headers, strings.ToLower(m.name))
	}
	if len(p.GetRetriableRequestHeaders()) > 0 {
		// Only some requests may be retried, which cannot be told here: none are.
		r.Attempts = 0
		missing = append(missing, "retriable_request_headers")
	}
	missing = append(missing, unheeded(p)...)
	if p.GetPerTryIdleTimeout() != nil {
		missing = append(missing, "per_try_idle_timeout")
	}
	if p.GetRateLimitedRetryBackOff() != nil {
		missing = append(missing, "rate_limited_retry_back_off")
	}
	if sameRetry(r, resilience.DefaultRetry()) {
		return nil, missing
	}
	return r, missing
}

func sameRetry(a, b *resilience.Retry) bool {
	return a.Attempts == b.Attempts && a.On == b.On && slices.Equal(a.Codes, b.Codes) &&
		a.TryTimeout == b.TryTimeout && a.Backoff == b.Backoff && a.MaxBackoff == b.MaxBackoff &&
		a.AvoidPrevious == b.AvoidPrevious && a.RemoteLocalities == b.RemoteLocalities &&
		slices.Equal(a.Headers, b.Headers)
}

// retryIndex returns what routing.Rule.Retry says for the policy.
func (t *translator) retryIndex(field string, p *routev3.RetryPolicy) int {
	r, missing := readRetry(p)
	for _, m := range missing {
		t.missing(field+".retry_policy", m)
	}
	if r == nil {
		return -1
	}
	for i, have := range t.p.retries {
		if sameRetry(have, r) {
			return i
		}
	}
	t.p.retries = append(t.p.retries, r)
	return len(t.p.retries) - 1
}

// duration reads a protobuf duration; nil and what is negative count as none.
func duration(d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return max(0, d.AsDuration())
}
