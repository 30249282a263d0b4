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
	// fixed once made
	settings Breaker
	changed  func(from, to string) // may be nil
	openFor  time.Duration
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]

	halfOpen atomic.Int64 // since when, counted from started plus one; 0: it is not
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
	b.state.Store(b.closed(*s, changed))
}

// closed makes a breaker that nothing is known of yet.
func (b *CircuitBreaker) closed(c Breaker, changed func(from, to string)) *breakerState {
	s := &breakerState{settings: c, changed: changed, openFor: c.OpenFor}
	if s.openFor <= 0 {
		s.openFor = defaultOpenFor
	}
	half := c.HalfOpenRequests
	if half == 0 {
		half = defaultHalfOpenRequests
	}
	s.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  half,
		Interval:     breakerWindow,
		BucketPeriod: breakerSlice,
		Timeout:      s.openFor,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			done := n.TotalSuccesses + n.TotalFailures
			return done >= c.MinRequests && float64(n.TotalFailures)*100 >= c.ErrorPercent*float64(done)
		},
		IsExcluded: func(err error) bool { return err == errExcluded },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			s.halfOpen.Store(0)
			if to == gobreaker.StateHalfOpen {
				s.halfOpen.Store(int64(time.Since(started)) + 1)
			}
			if changed != nil && b.state.Load() == s { // not for one that was replaced
				changed(from.String(), to.String())
			}
		},
	})
	return s
}

// lasting reports whether the requests let through to see how the backend does
// have gone on for as long as the breaker was open before, without failing: a
// stream or a WebSocket that may go on for hours. Such a backend serves; waiting
// for the end would refuse everybody else meanwhile.
func (s *breakerState) lasting() bool {
	h := s.halfOpen.Load()
	return h != 0 && time.Since(started)-time.Duration(h) >= s.openFor
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
	if err == nil {
		return Ticket{done}, nil
	}
	if err != gobreaker.ErrTooManyRequests || !s.lasting() {
		return Ticket{}, ErrCircuitOpen
	}
	next := b.closed(s.settings, s.changed)
	if b.state.CompareAndSwap(s, next) && s.changed != nil {
		s.changed(gobreaker.StateHalfOpen.String(), gobreaker.StateClosed.String())
	}
	return b.Allow()
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
