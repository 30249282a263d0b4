package resilience

import (
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// Failure is how a try ended without a whole response head.
type Failure uint8

// The kinds of failure, by what the backend may have seen.
const (
	// FailureNone: a response head came, see Outcome.Status.
	FailureNone Failure = iota
	// FailureConnect: no connection: TCP, TLS or identity, a refused or unanswered
	// CONNECT. Nothing reached an app.
	FailureConnect
	// FailureRefused: the peer said it did not process the stream: REFUSED_STREAM,
	// or a GOAWAY with a lower last stream id.
	FailureRefused
	// FailureReset: the connection or stream ended before a response head.
	FailureReset
	// FailureTryTimeout: the per-try timeout ran out.
	FailureTryTimeout
	// FailureProtocol: the backend broke HTTP; counts as a reset.
	FailureProtocol
	// FailureOverflow: our own limits or an open breaker. Never retried.
	FailureOverflow
	// FailureTimeout: the route's timeout ran out. Never retried.
	FailureTimeout
	// FailureClient: the client went away. Never retried, nobody's fault.
	FailureClient
)

// Outcome is the end of one try.
type Outcome struct {
	Failure Failure
	// Untouched says that no byte of the request was written to the backend: like a
	// connect failure, it is no app's.
	Untouched bool
	Status    int           // of the response head
	GRPC      string        // value of grpc-status in the response head, else empty
	Headers   []attrs.Field // of the response
}

// Verdict says whether to try again, and why or why not: a stable word for logs
// and metrics, mostly the retry_on token.
type Verdict struct {
	Retry  bool
	Reason string
}

// Reasons not to retry.
const (
	ReasonOff         = "retries_off"
	ReasonExhausted   = "attempts_used_up"
	ReasonOverflow    = "overflow"
	ReasonTimeout     = "timeout"
	ReasonClient      = "client_gone"
	ReasonRatelimited = "ratelimited"
	ReasonNoMatch     = "not_retriable"
)

// defaultRetry is what routes without a retry policy do.
var defaultRetry = Retry{
	Attempts: 2,
	On: OnConnectFailure | OnRefusedStream | OnUnavailable | OnCancelled |
		OnStatusCodes, // with no codes: 503 is not retried
	AvoidPrevious: true,
}

// DefaultRetry returns Istio's default policy, shared and not to be changed: two
// retries of whatever never reached an app and of gRPC unavailable and cancelled,
// each on another host.
func DefaultRetry() *Retry { return &defaultRetry }

// or returns r, or the default for nil.
func (r *Retry) or() *Retry {
	if r == nil {
		return &defaultRetry
	}
	return r
}

// Verdict decides what follows a try. retries is how many were made before it: 0
// after the first try. It asks only what the policy says: the caller also checks
// that nothing went to the client yet, that the body can be replayed, deadlines,
// and [Limits.AcquireRetry]. The method never matters, as in Envoy: POST is
// retried like GET.
func (r *Retry) Verdict(o *Outcome, retries int) Verdict {
	r = r.or()
	switch o.Failure {
	case FailureOverflow:
		return Verdict{false, ReasonOverflow}
	case FailureTimeout:
		return Verdict{false, ReasonTimeout}
	case FailureClient:
		return Verdict{false, ReasonClient}
	}
	reason := ReasonNoMatch
	ok := false
	if o.Failure == FailureNone {
		reason, ok = r.onResponse(o)
	} else if t := r.onFailure(o); t != "" {
		reason, ok = t, true
	}
	switch {
	case !ok:
		return Verdict{false, reason}
	case r.Attempts <= 0:
		return Verdict{false, ReasonOff}
	case retries >= r.Attempts:
		return Verdict{false, ReasonExhausted}
	}
	return Verdict{true, reason}
}

// onFailure returns the token that covers a try without a response.
func (r *Retry) onFailure(o *Outcome) string {
	switch {
	case o.Failure == FailureConnect && r.On&OnConnectFailure != 0:
		return "connect-failure"
	case o.Failure == FailureRefused && r.On&OnRefusedStream != 0:
		return "refused-stream"
	case o.Failure == FailureReset && o.Untouched && r.On&OnConnectFailure != 0:
		// A pooled connection that died before it took a byte. Envoy calls that a
		// reset; the caller's request is as unseen as behind a refused connection.
		return "connect-failure"
	case o.Untouched && r.On&OnResetBeforeRequest != 0:
		return "reset-before-request"
	case r.On&OnReset != 0:
		return "reset"
	case r.On&On5xx != 0:
		return "5xx" // a reset becomes a 503
	case r.On&OnGatewayError != 0:
		return "gateway-error"
	}
	return ""
}

// onResponse returns the token that covers a response, or why none does.
func (r *Retry) onResponse(o *Outcome) (string, bool) {
	if has(o.Headers, "x-envoy-ratelimited") {
		if r.On&OnEnvoyRatelimited != 0 {
			return "envoy-ratelimited", true
		}
		return ReasonRatelimited, false
	}
	switch {
	case r.On&On5xx != 0 && o.Status >= 500 && o.Status <= 599:
		return "5xx", true
	case r.On&OnGatewayError != 0 && o.Status >= 502 && o.Status <= 504:
		return "gateway-error", true
	case r.On&OnRetriable4xx != 0 && o.Status == 409:
		return "retriable-4xx", true
	}
	if r.On&OnStatusCodes != 0 {
		for _, c := range r.Codes {
			if c == o.Status {
				return "retriable-status-codes", true
			}
		}
	}
	if r.On&OnHeaders != 0 {
		for _, h := range r.Headers {
			if has(o.Headers, h) {
				return "retriable-headers", true
			}
		}
	}
	if o.GRPC != "" && r.On >= OnCancelled {
		if t := r.onGRPC(o.GRPC); t != "" {
			return t, true
		}
	}
	return ReasonNoMatch, false
}

// onGRPC matches the status of a trailers-only answer; one in real trailers comes
// too late.
func (r *Retry) onGRPC(status string) string {
	switch {
	case status == "1" && r.On&OnCancelled != 0:
		return "cancelled"
	case status == "4" && r.On&OnDeadlineExceeded != 0:
		return "deadline-exceeded"
	case status == "8" && r.On&OnResourceExhausted != 0:
		return "resource-exhausted"
	case status == "13" && r.On&OnInternal != 0:
		return "internal"
	case status == "14" && r.On&OnUnavailable != 0:
		return "unavailable"
	}
	return ""
}

func has(fields []attrs.Field, name string) bool {
	for i := range fields {
		if fields[i].Name == name {
			return true
		}
	}
	return false
}

// EffectiveTryTimeout is the per-try timeout under a route timeout: one that is
// not shorter than the route's is ignored (Envoy). 0 means none, for both.
func (r *Retry) EffectiveTryTimeout(route time.Duration) time.Duration {
	t := r.or().TryTimeout
	if t <= 0 || route > 0 && t >= route {
		return 0
	}
	return t
}

// Delay is the wait before retry number n, from 1 on: anywhere in the interval
// [0, base*2^(n-1)), at most MaxBackoff (Envoy's fully jittered exponential
// backoff). random is 64 random bits.
func (r *Retry) Delay(n int, random uint64) time.Duration {
	r = r.or()
	base := r.Backoff
	if base <= 0 {
		base = 25 * time.Millisecond // Envoy's default
	}
	limit := r.MaxBackoff
	if limit <= 0 {
		limit = 10 * base // Envoy's default
	}
	d := min(base, limit)
	for ; n > 1 && d < limit; n-- {
		d = min(2*d, limit)
	}
	return time.Duration(random % uint64(d))
}

// Shift says how many of the hosts already tried exclude their whole priority
// from the next try, the last argument of balance's Set.Pick: Envoy's
// previous_priorities predicate, which looks again after every RemoteLocalities
// tries (Istio's retryRemoteLocalities sets 2).
func (r *Retry) Shift(tried int) int {
	f := r.or().RemoteLocalities
	if f <= 0 {
		return 0
	}
	return tried - tried%f
}
