package proxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// lessee is who wants a connection. It may leave before it has one.
type lessee interface {
	// interruptible returns a context that ends with the lessee; stop must be called.
	interruptible() (ctx context.Context, stop func())
}

// want is what a lessee asks a pool for.
type want struct {
	ep          *balance.Endpoint
	set         *resilience.Settings
	st          *backendState
	multiplexed bool // HTTP/2
	fresh       bool // no connection that was there before
	deadline    time.Time
	refused     bool // there was no place for another connection
}

// pend gets the connection that w asks for: one given back by another, or a new one.
// Until it has it, the request is one of its backend's pending.
func (hp *hostPool) pend(who lessee, w want) (lease, error) {
	limits := &w.st.limits
	if err := limits.AcquirePending(); err != nil {
		return lease{}, err
	}
	defer limits.ReleasePending()
	ctx, stop := who.interruptible()
	defer stop()
	if !w.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, w.deadline)
		defer cancel()
	}
	l, ok, err := hp.take(ctx, &w)
	if ok || err != nil {
		return l, err
	}
	if err := hp.p.overload.Acquire(resilience.Pending, 1); err != nil {
		return lease{}, err
	}
	defer hp.p.overload.Release(resilience.Pending, 1)
	return hp.queue(ctx, &w)
}

// queue waits for a connection of a backend that has as many as it may. There is no
// limit to that but the request's own, as in Envoy.
func (hp *hostPool) queue(ctx context.Context, w *want) (lease, error) {
	list := &w.st.waiting
	turn := &waiter{pool: hp, ready: make(chan struct{}, 1)}
	defer list.leave(turn)
	for first := false; ; first = true { // who was told in vain keeps its place
		list.join(turn, first)
		// What was given back before we joined told nobody.
		l, ok, err := hp.take(ctx, w)
		if ok {
			w.st.passOn(w, hp)
		}
		if ok || err != nil {
			return l, err
		}
		hp.p.pools.evictIdle(w.st)
		select {
		case <-turn.ready:
		case <-ctx.Done():
			return lease{}, waitError(ctx)
		}
	}
}

// passOn tells the next who waits of what a request left that got a connection: more
// streams of it, or places for others.
func (s *backendState) passOn(w *want, hp *hostPool) {
	switch {
	case s.limits.MayConnect():
		s.waiting.wake(nil)
	case w.multiplexed:
		s.waiting.wake(hp)
	}
}

// take gets a connection without waiting for others to end: one that is free, or a
// new one. ok is false when the backend may have no more.
func (hp *hostPool) take(ctx context.Context, w *want) (l lease, ok bool, err error) {
	if w.multiplexed {
		return hp.takeH2(ctx, w)
	}
	return hp.takeH1(ctx, w)
}

// room takes a place among the backend's connections. A request that finds none is
// counted once, however often it looks again.
func (w *want) room() bool {
	if w.refused {
		return w.st.limits.TryConnection()
	}
	w.refused = w.st.limits.AcquireConnection() != nil
	return !w.refused
}

// waitError is why a wait that ctx ended gave nothing.
func waitError(ctx context.Context) error {
	if err := ctx.Err(); err == context.DeadlineExceeded {
		return err
	}
	return &hbone.DialError{Stage: hbone.StageCanceled, Err: ctx.Err()}
}

// waitList is the requests of one backend that wait for a connection, first come
// first served. The zero value is empty.
type waitList struct {
	n    atomic.Int32 // len(list), for those who have nothing to tell
	mu   sync.Mutex
	list []*waiter // guarded by mu
}

// waiter is one place in a waitList.
type waiter struct {
	pool  *hostPool     // fixed: where it wants its connection
	ready chan struct{} // fixed, of one element: look again

	told *hostPool // guarded by the list's mu: what it was told of, see wake
}

// join enters the list at its end, or at its front.
func (l *waitList) join(w *waiter, front bool) {
	l.mu.Lock()
	if front {
		l.list = slices.Insert(l.list, 0, w)
	} else {
		l.list = append(l.list, w)
	}
	l.n.Store(int32(len(l.list)))
	l.mu.Unlock()
}

// wake tells the first in the list to look again: of those who wait for hp, when it
// is a stream of a busy connection that came free, or of all with nil.
func (l *waitList) wake(hp *hostPool) {
	if l.n.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.list, func(w *waiter) bool { return hp == nil || w.pool == hp })
	if i < 0 {
		return
	}
	w := l.list[i]
	l.list = slices.Delete(l.list, i, i+1)
	l.n.Store(int32(len(l.list)))
	w.told = hp
	w.ready <- struct{}{} // it took the one before ere it joined again
}

// leave takes w out. What it was told and has not looked at goes to the next.
func (l *waitList) leave(w *waiter) {
	l.mu.Lock()
	if i := slices.Index(l.list, w); i >= 0 {
		l.list = slices.Delete(l.list, i, i+1)
		l.n.Store(int32(len(l.list)))
	}
	told := w.told
	l.mu.Unlock()
	select {
	case <-w.ready:
		l.wake(told)
	default:
	}
}
