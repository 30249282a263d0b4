package proxy

import (
	"context"
	"time"
)

// interruptible returns a context that ends when the client leaves or a new policy
// denies the request, for what may take long. stop must be called.
func (x *exchange) interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(x.context())
	x.cancel.Lock()
	x.interrupt = cancel
	x.cancel.Unlock()
	if x.gone.Load() || x.cut.Load() {
		cancel()
	}
	return ctx, func() {
		x.cancel.Lock()
		x.interrupt = nil
		x.cancel.Unlock()
		cancel()
	}
}

// interruptible is the same for a tunnel, which ends when it is reset.
func (t *tunnel) interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(t.p.ctx)
	t.mu.Lock()
	t.interrupt = cancel
	t.mu.Unlock()
	return ctx, func() {
		t.mu.Lock()
		t.interrupt = nil
		t.mu.Unlock()
		cancel()
	}
}

// pause waits, and reports whether the client is still there.
func (x *exchange) pause(d time.Duration) bool {
	ctx, stop := x.interruptible()
	defer stop()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		x.gone.Store(true) // or the process ends
	}
	return !x.gone.Load()
}
