package resilience

import (
	"errors"
	"math"
	"sync/atomic"
	"time"
)

// ErrOverflow is what every refused acquire is: the caller answers 503 UO, and no
// host is to blame.
var ErrOverflow = errors.New("overflow")

// The limits that can overflow, each an [ErrOverflow].
var (
	ErrMaxConnections error = overflow("max connections")
	ErrMaxPending     error = overflow("max pending requests")
	ErrMaxRequests    error = overflow("max requests")
	ErrMaxRetries     error = overflow("max retries")
	ErrRetryBudget    error = overflow("retry budget")
)

type overflow string

func (o overflow) Error() string        { return "overflow: " + string(o) }
func (o overflow) Is(target error) bool { return target == ErrOverflow }

// Limits is Envoy's circuit breaker of one backend: how many connections,
// waiting requests, requests and retries it may have at once in this process.
// Unlike Envoy's it is exact. The zero value has no limits. It must not be copied.
//
// Every acquire that returned nil is followed by exactly one release.
type Limits struct {
	connections, pending, requests, retries gate

	budget atomic.Pointer[RetryBudget] // replaces the limit of retries
	window rate                        // with RetryBudget.Interval
}

// Refusals counts what the limits of many backends refused. The zero value is ready;
// the counters only grow.
type Refusals struct {
	Connections, Pending, Requests, Retries atomic.Uint64
}

// Join makes l count what it refuses in r as well. It comes before l is used.
func (l *Limits) Join(r *Refusals) {
	l.connections.all, l.pending.all, l.requests.all, l.retries.all = &r.Connections, &r.Pending, &r.Requests, &r.Retries
}

// Update sets the thresholds in place; what is in use stays counted, also above a
// new threshold.
func (l *Limits) Update(s *Settings) {
	l.connections.limit(s.MaxConnections)
	l.pending.limit(s.MaxPending)
	l.requests.limit(s.MaxRequests)
	l.retries.limit(s.MaxRetries)
	if s.RetryBudget == nil {
		l.budget.Store(nil)
		return
	}
	b := *s.RetryBudget
	l.budget.Store(&b)
}

// AcquireConnection takes a connection; an HTTP/1 request over the limit waits as
// pending.
func (l *Limits) AcquireConnection() error { return l.connections.take(ErrMaxConnections) }

// TryConnection is AcquireConnection that counts no refusal, for who was refused
// before and waits.
func (l *Limits) TryConnection() bool { return l.connections.tryN(1) }

// MayConnect reports whether there is a place for another connection.
func (l *Limits) MayConnect() bool {
	limit := l.connections.max.Load()
	return limit == 0 || l.connections.used.Load() < limit
}

// ReleaseConnection gives it back.
func (l *Limits) ReleaseConnection() { l.connections.put() }

// AcquirePending takes a place among the requests that wait for a connection: for one
// to be dialed, or to be given back where there are as many as may be. Such a request
// has its place among those in flight as well.
func (l *Limits) AcquirePending() error { return l.pending.take(ErrMaxPending) }

// ReleasePending gives it back.
func (l *Limits) ReleasePending() { l.pending.put() }

// AcquireRequest takes a place among the requests in flight. Each try takes one.
func (l *Limits) AcquireRequest() error {
	if err := l.requests.take(ErrMaxRequests); err != nil {
		return err
	}
	if b := l.budget.Load(); b != nil && b.Interval > 0 {
		l.window.count(b.Interval, 1, 0)
	}
	return nil
}

// ReleaseRequest gives it back.
func (l *Limits) ReleaseRequest() { l.requests.put() }

// AcquireRetry takes a place among the retries in flight, from the backoff to the
// end of the try. With a budget, retries may be a share of the requests in flight,
// which are Envoy's active and pending, or, with an interval, of those begun within it, but always
// the configured minimum.
func (l *Limits) AcquireRetry() error {
	b := l.budget.Load()
	if b == nil {
		return l.retries.take(ErrMaxRetries)
	}
	if b.Interval > 0 {
		requests, retries := l.window.sum(b.Interval)
		allowed := max(b.Percent/100*requests, b.MinRetryRate*b.Interval.Seconds())
		if retries+1 > allowed && l.retries.used.Load() >= int64(b.MinConcurrent) {
			l.retries.refuse()
			return ErrRetryBudget
		}
		l.window.count(b.Interval, 0, 1)
		l.retries.used.Add(1)
		return nil
	}
	for {
		n := l.retries.used.Load()
		if n >= max(int64(b.Percent/100*float64(l.requests.used.Load())), int64(b.MinConcurrent)) {
			l.retries.refuse()
			return ErrRetryBudget
		}
		if l.retries.used.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

// ReleaseRetry gives it back.
func (l *Limits) ReleaseRetry() { l.retries.put() }

// Usage is a reading of a backend's limits, for metrics and admin.
type Usage struct {
	Connections, Pending, Requests, Retries int64 // in use

	// Refused so far; they only grow.
	ConnectionsRefused, PendingRefused, RequestsRefused, RetriesRefused uint64
}

// Usage reads the counters, each for itself.
func (l *Limits) Usage() Usage {
	return Usage{
		Connections: l.connections.used.Load(), ConnectionsRefused: l.connections.refused.Load(),
		Pending: l.pending.used.Load(), PendingRefused: l.pending.refused.Load(),
		Requests: l.requests.used.Load(), RequestsRefused: l.requests.refused.Load(),
		Retries: l.retries.used.Load(), RetriesRefused: l.retries.refused.Load(),
	}
}

// gate counts what is in use up to a maximum. The zero value has none.
type gate struct {
	used    atomic.Int64
	max     atomic.Int64 // 0: unlimited
	refused atomic.Uint64
	all     *atomic.Uint64 // counts with refused; nil: nobody asks
}

func (g *gate) refuse() {
	g.refused.Add(1)
	if g.all != nil {
		g.all.Add(1)
	}
}

// limit sets the maximum; Istio writes "unlimited" as 2^32-1, or leaves it 0.
func (g *gate) limit(n uint32) {
	if n == math.MaxUint32 {
		n = 0
	}
	g.max.Store(int64(n))
}

func (g *gate) take(full error) error {
	if !g.takeN(1) {
		return full
	}
	return nil
}

// takeN counts what it refuses.
func (g *gate) takeN(n int64) bool {
	if g.tryN(n) {
		return true
	}
	g.refuse()
	return false
}

// tryN never lets used pass max, not even for a moment.
func (g *gate) tryN(n int64) bool {
	limit := g.max.Load()
	if limit == 0 {
		g.used.Add(n)
		return true
	}
	for {
		u := g.used.Load()
		if n > limit-u {
			return false
		}
		if g.used.CompareAndSwap(u, u+n) {
			return true
		}
	}
}

func (g *gate) put() { g.used.Add(-1) }

// rate counts requests and retries over a sliding interval: the running half
// interval and the two before it, the oldest weighted by what of it still lies in
// the interval.
type rate struct {
	slots [4]rateSlot
}

type rateSlot struct {
	epoch             atomic.Int64
	requests, retries atomic.Int64
}

// started is the zero of the monotonic clock that rates and buckets count from.
var started = time.Now()

func (r *rate) count(interval time.Duration, requests, retries int64) {
	s := r.slot(int64(time.Since(started) / max(1, interval/2)))
	s.requests.Add(requests)
	s.retries.Add(retries)
}

// slot returns the slot of an epoch, emptied if it held an older one. A count that
// races with the emptying may be lost, which the budget's slack covers.
func (r *rate) slot(epoch int64) *rateSlot {
	s := &r.slots[epoch&3]
	// Epochs are stored plus one: zero is a slot never used.
	if old := s.epoch.Load(); old != epoch+1 && s.epoch.CompareAndSwap(old, epoch+1) {
		s.requests.Store(0)
		s.retries.Store(0)
	}
	return s
}

func (r *rate) sum(interval time.Duration) (requests, retries float64) {
	half := max(1, interval/2)
	now := time.Since(started)
	epoch := int64(now / half)
	rest := 1 - float64(now%half)/float64(half)
	for back, weight := range [3]float64{1, 1, rest} {
		s := &r.slots[(epoch-int64(back))&3]
		if s.epoch.Load() == epoch-int64(back)+1 {
			requests += weight * float64(s.requests.Load())
			retries += weight * float64(s.retries.Load())
		}
	}
	return requests, retries
}
