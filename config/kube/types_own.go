package kube

import (
	"time"

	"waypoint.dev/waypoint/resilience"
)

const groupOwn = "waypoint.dev"

// WaypointPolicy is waypoint.dev/v1alpha1 WaypointPolicy: what neither Gateway API
// nor Istio can say. A field of a policy for an HTTPRoute replaces that of one for
// its Service, which replaces that of one for the Gateway.
type WaypointPolicy struct {
	TargetRefs       []TargetRef        `json:"targetRefs"`
	CircuitBreaker   *OwnBreaker        `json:"circuitBreaker"`
	OutlierDetection *OwnOutlier        `json:"outlierDetection"`
	LocalRateLimit   *OwnRateLimit      `json:"localRateLimit"`
	ClientIdentity   *OwnClientIdentity `json:"clientIdentity"`
	Retry            *OwnRetry          `json:"retry"`
	Timeouts         *OwnTimeouts       `json:"timeouts"`
}

// OwnBreaker is circuitBreaker: the error-rate breaker of each backend.
type OwnBreaker struct {
	MinRequests      *uint32   `json:"minRequests"`      // 20
	ErrorPercent     *float64  `json:"errorPercent"`     // 50
	OpenFor          *Duration `json:"openFor"`          // 30s
	HalfOpenRequests *uint32   `json:"halfOpenRequests"` // 1
}

// OwnOutlier is outlierDetection: an addition to a DestinationRule's.
type OwnOutlier struct {
	AlwaysEjectOneHost bool `json:"alwaysEjectOneHost"`
}

// OwnRateLimit is localRateLimit: a token bucket of this replica.
type OwnRateLimit struct {
	Requests *uint32   `json:"requests"`
	Per      *Duration `json:"per"`   // 1s
	Burst    *uint32   `json:"burst"` // requests
}

// OwnClientIdentity is clientIdentity: what backends learn of the client.
type OwnClientIdentity struct {
	XFCC          *bool `json:"xfcc"`
	XForwardedFor *bool `json:"xForwardedFor"`
}

// OwnRetry is retry: the policy of rules that have none.
type OwnRetry struct {
	Attempts      *uint32   `json:"attempts"` // 2
	RetryOn       string    `json:"retryOn"`  // Istio's default conditions
	PerTryTimeout *Duration `json:"perTryTimeout"`
	Backoff       *Duration `json:"backoff"` // 25ms
}

// OwnTimeouts is timeouts: those of rules that have none.
type OwnTimeouts struct {
	Request *Duration `json:"request"`
	Idle    *Duration `json:"idle"`
}

func (w *WaypointPolicy) fill() {
	fill := func(p **uint32, v uint32) {
		if *p == nil {
			*p = &v
		}
	}
	length := func(p **Duration, v time.Duration) {
		if *p == nil {
			d := Duration(v)
			*p = &d
		}
	}
	if b := w.CircuitBreaker; b != nil {
		fill(&b.MinRequests, 20)
		if b.ErrorPercent == nil {
			v := 50.0
			b.ErrorPercent = &v
		}
		length(&b.OpenFor, 30*time.Second)
		fill(&b.HalfOpenRequests, 1)
	}
	if l := w.LocalRateLimit; l != nil {
		length(&l.Per, time.Second)
		if l.Burst == nil {
			l.Burst = l.Requests
		}
	}
	if x := w.Retry; x != nil {
		fill(&x.Attempts, 2)
		length(&x.Backoff, 25*time.Millisecond)
	}
}

// Bounds of a WaypointPolicy, the same as in its schema.
const (
	maxOwnAttempts = 10
	maxOwnDuration = 24 * time.Hour
)

func (w *WaypointPolicy) check(r *report) {
	if n := len(w.TargetRefs); n < 1 || n > maxTargets {
		r.addf("spec.targetRefs", "has %d entries, 1 to %d are allowed", n, maxTargets)
	}
	route := false
	for i, t := range w.TargetRefs {
		p := at("spec.targetRefs", i)
		if t.Name == "" {
			r.addf(p+".name", "required")
		}
		if t.Namespace != "" || t.SectionName != "" {
			r.addf(p, "names an object of its own namespace as a whole")
		}
		switch (groupKind{t.Group, t.Kind}) {
		case groupKind{"", "Service"}, groupKind{groupGateway, "Gateway"}:
		case groupKind{groupGateway, "HTTPRoute"}:
			route = true
		default:
			r.addf(p+".kind", "%s/%s is none of Service, Gateway, HTTPRoute", t.Group, t.Kind)
		}
	}
	if route && (w.CircuitBreaker != nil || w.OutlierDetection != nil || w.ClientIdentity != nil) {
		r.addf("spec.targetRefs", "an HTTPRoute takes only localRateLimit, retry and timeouts")
	}
	span := func(p string, d *Duration, least time.Duration) {
		if d != nil && (dur(d) < least || dur(d) > maxOwnDuration) {
			r.addf(p, "%v is not between %v and %v", dur(d), least, maxOwnDuration)
		}
	}
	if b := w.CircuitBreaker; b != nil {
		if *b.MinRequests < 1 {
			r.addf("spec.circuitBreaker.minRequests", "must be at least 1")
		}
		if !(*b.ErrorPercent > 0 && *b.ErrorPercent <= 100) {
			r.addf("spec.circuitBreaker.errorPercent", "must be above 0 and at most 100")
		}
		if *b.HalfOpenRequests < 1 {
			r.addf("spec.circuitBreaker.halfOpenRequests", "must be at least 1")
		}
		span("spec.circuitBreaker.openFor", b.OpenFor, time.Millisecond)
	}
	if l := w.LocalRateLimit; l != nil {
		if l.Requests == nil || *l.Requests < 1 {
			r.addf("spec.localRateLimit.requests", "required, at least 1")
		}
		if l.Burst != nil && *l.Burst < 1 {
			r.addf("spec.localRateLimit.burst", "must be at least 1")
		}
		span("spec.localRateLimit.per", l.Per, time.Millisecond)
	}
	if x := w.Retry; x != nil {
		if *x.Attempts > maxOwnAttempts {
			r.addf("spec.retry.attempts", "%d is above %d", *x.Attempts, maxOwnAttempts)
		}
		if _, _, unknown := resilience.ParseRetryOn(x.RetryOn); len(unknown) > 0 {
			r.addf("spec.retry.retryOn", "%q is no condition", unknown[0])
		}
		span("spec.retry.perTryTimeout", x.PerTryTimeout, time.Millisecond)
		span("spec.retry.backoff", x.Backoff, time.Millisecond)
	}
	if x := w.Timeouts; x != nil {
		span("spec.timeouts.request", x.Request, 0)
		span("spec.timeouts.idle", x.Idle, 0)
	}
}

// XBackendTrafficPolicy is Gateway API's, GEP-3388.
type XBackendTrafficPolicy struct {
	TargetRefs      []TargetRef `json:"targetRefs"`
	RetryConstraint *struct {
		Budget *struct {
			Percent  *int32  `json:"percent"`
			Interval *string `json:"interval"`
		} `json:"budget"`
		MinRetryRate *struct {
			Count    *int32  `json:"count"`
			Interval *string `json:"interval"`
		} `json:"minRetryRate"`
	} `json:"retryConstraint"`
	SessionPersistence *SessionPersistence `json:"sessionPersistence"`
}

func (x *XBackendTrafficPolicy) fill() {}

func (x *XBackendTrafficPolicy) check(r *report) {
	if n := len(x.TargetRefs); n < 1 || n > maxTargets {
		r.addf("spec.targetRefs", "has %d entries, 1 to %d are allowed", n, maxTargets)
	}
	for i, t := range x.TargetRefs {
		if t.Group != "" && t.Group != "core" || t.Kind != "Service" || t.Name == "" {
			r.addf(at("spec.targetRefs", i), "names no Service")
		}
	}
	if c := x.RetryConstraint; c != nil {
		if b := c.Budget; b != nil {
			if b.Percent != nil && (*b.Percent < 0 || *b.Percent > 100) {
				r.addf("spec.retryConstraint.budget.percent", "%d is not between 0 and 100", *b.Percent)
			}
			checkDuration(r, "spec.retryConstraint.budget.interval", b.Interval)
		}
		if m := c.MinRetryRate; m != nil {
			if m.Count != nil && (*m.Count < 1 || *m.Count > 1000000) {
				r.addf("spec.retryConstraint.minRetryRate.count", "%d is not between 1 and 1000000", *m.Count)
			}
			checkDuration(r, "spec.retryConstraint.minRetryRate.interval", m.Interval)
		}
	}
	x.SessionPersistence.check(r, "spec.sessionPersistence")
}
