package resilience

import "time"

// Retry is a route's retry policy. A nil *Retry means DefaultRetry.
type Retry struct {
	Attempts   int     // retries after the first try; 0: off
	On         RetryOn // conditions
	Codes      []int   // retriable-status-codes
	TryTimeout time.Duration
	Backoff    time.Duration // base interval; 0: 25 ms (Envoy)
	MaxBackoff time.Duration // 0: 10 x base
	// AvoidPrevious skips hosts already tried, up to 5 re-picks (Istio's default).
	AvoidPrevious bool
	// RemoteLocalities moves to the next priority after this many tries; 0: never.
	RemoteLocalities int
	Headers          []string // retriable-headers: response header names
}

// RetryOn is a set of Envoy's retry_on tokens.
type RetryOn uint32

const (
	On5xx                RetryOn = 1 << iota // 500 to 599, and a try without an answer
	OnGatewayError                           // 502 to 504, and a try without an answer
	OnReset                                  // a try without an answer
	OnResetBeforeRequest                     // one of which the backend saw nothing
	OnConnectFailure                         // no connection, or a pooled one that had died
	OnRefusedStream                          // REFUSED_STREAM
	OnRetriable4xx                           // 409
	OnStatusCodes                            // Retry.Codes
	OnHeaders                                // an answer with one of Retry.Headers
	OnEnvoyRatelimited                       // x-envoy-ratelimited
	OnCancelled                              // gRPC statuses, from here on
	OnDeadlineExceeded
	OnInternal
	OnResourceExhausted
	OnUnavailable
)

// Settings are those of one backend (service port, subset): what Istio's
// DestinationRule or Envoy's cluster says. The zero value is Istio's default.
type Settings struct {
	MaxConnections, MaxPending, MaxRequests, MaxRetries uint32 // 0: unlimited (2^32-1)
	RetryBudget                                         *RetryBudget
	MaxRequestsPerConn                                  uint32        // 0: unlimited; 1: no keep-alive
	ConnectTimeout                                      time.Duration // 0: 10 s; spans TCP, TLS and the CONNECT answer
	IdleTimeout                                         time.Duration // of an HTTP connection inside a tunnel; 0: 1 h
	TCPIdleTimeout                                      time.Duration // of a connection without HTTP; 0: 1 h
	MaxConnectionDuration                               time.Duration // 0: none
	MaxConcurrentStreams                                uint32        // HTTP/2 upstream; 0: the peer's
	MaxStreamDuration                                   time.Duration // of one attempt, its answer included; 0: none
	Outlier                                             *Outlier
	Breaker                                             *Breaker
}

// RetryBudget limits retries to a share of active requests. Zeros are literal:
// who reads the configuration fills in the defaults, 20 % and 3.
type RetryBudget struct {
	Percent       float64
	MinConcurrent uint32
	Interval      time.Duration
	MinRetryRate  float64 // per second, XBackendTrafficPolicy
}

// Outlier is outlier detection; a nil pointer is off.
type Outlier struct {
	Consecutive5xx         uint32 // 5; 0: off
	ConsecutiveGateway     uint32 // 0: off
	SplitLocal             bool
	ConsecutiveLocal       uint32        // 5, with SplitLocal
	Interval               time.Duration // 10 s
	BaseEjection           time.Duration // 30 s
	MaxEjection            time.Duration // 300 s
	MaxEjectionPercent     uint32        // 10
	MinHealthPercent       uint32        // 0
	AlwaysEjectOne         bool
	SuccessRate            bool
	SuccessRateMinHosts    uint32 // 5
	SuccessRateVolume      uint32 // 100
	SuccessRateStdevFactor uint32 // 1900 (thousandths)
}

// Breaker is the error-rate circuit breaker; a nil pointer is off.
type Breaker struct {
	MinRequests      uint32
	ErrorPercent     float64
	OpenFor          time.Duration
	HalfOpenRequests uint32
}
