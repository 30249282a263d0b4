package resilience

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrCircuitOpen is the refusal of an open breaker: 503 UO with the details
// circuit_open. It is an [ErrOverflow].
var ErrCircuitOpen error = overflow("circuit_open")

// errFailed is what a failed request tells gobreaker.
var errFailed = errors.New("failed")

const (
	// breakerWindow is the time over which the error rate is taken, in slices of
	// breakerSlice, as long as Envoy's outlier interval.
	breakerWindow = 10 * time.Second
	breakerSlice  = time.Second

	// Defaults where WaypointPolicy leaves a field out.
	defaultOpenFor          = 30 * time.Second
	defaultHalfOpenRequests = 1
)

// CircuitBreaker refuses all requests of a backend for a while when too many of
// them fail. The zero value is off. A change of settings starts it anew.
type CircuitBreaker struct {
	state atomic.Pointer[breakerState]
}

type breakerState struct {
	settings Breaker
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]
}

// Update sets the settings; nil switches it off. Equal settings keep its state.
// changed, if not nil, hears of each change of state ("closed", "open",
// "half-open"); it is called under the breaker's lock and must not call back.
func (b *CircuitBreaker) Update(s *Breaker, changed func(from, to string)) {
	if s == nil {
		b.state.Store(nil)
		return
	}
	if old := b.state.Load(); old != nil && old.settings == *s {
		return
	}
	c := *s
	openFor, half := c.OpenFor, c.HalfOpenRequests
	if openFor <= 0 {
		openFor = defaultOpenFor
	}
	if half == 0 {
		half = defaultHalfOpenRequests
	}
	set := gobreaker.Settings{
		MaxRequests:  half,
		Interval:     breakerWindow,
		BucketPeriod: breakerSlice,
		Timeout:      openFor,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			done := n.TotalSuccesses + n.TotalFailures
			return done >= c.MinRequests && float64(n.TotalFailures)*100 >= c.ErrorPercent*float64(done)
		},
		IsExcluded: func(err error) bool { return err == errExcluded },
	}
	if changed != nil {
		set.OnStateChange = func(_ string, from, to gobreaker.State) { changed(from.String(), to.String()) }
	}
	b.state.Store(&breakerState{settings: c, cb: gobreaker.NewTwoStepCircuitBreaker[struct{}](set)})
}

// errExcluded marks a request that says nothing about the backend.
var errExcluded = errors.New("excluded")

// Ticket is a request that a breaker let through. The zero value needs no report.
type Ticket struct{ done func(error) }

// Allow asks for a request. It returns ErrCircuitOpen, or a ticket on which
// exactly one of its methods is called when the request ends. It allocates only
// while the breaker is on.
func (b *CircuitBreaker) Allow() (Ticket, error) {
	s := b.state.Load()
	if s == nil {
		return Ticket{}, nil
	}
	done, err := s.cb.Allow()
	if err != nil {
		return Ticket{}, ErrCircuitOpen
	}
	return Ticket{done}, nil
}

// Done reports the end of the request: by its failure or, without one, its
// status ([GRPCToHTTP] for gRPC). 5xx and failures count as errors; our own
// overflow and a client that left do not count at all.
func (t Ticket) Done(f Failure, status int) {
	if t.done == nil {
		return
	}
	switch {
	case f == FailureOverflow || f == FailureClient:
		t.done(errExcluded)
	case f != FailureNone || status >= 500:
		t.done(errFailed)
	default:
		t.done(nil)
	}
}

// State is "closed", "open", "half-open", or "off".
func (b *CircuitBreaker) State() string {
	s := b.state.Load()
	if s == nil {
		return "off"
	}
	return s.cb.State().String()
}
