package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

const (
	// resolveEvery is Envoy's default dns_refresh_rate of STRICT_DNS clusters.
	resolveEvery = 5 * time.Second
	// resolveTimeout is c-ares' default for a query; a slower answer is no use to
	// a connect timeout of 10 s.
	resolveTimeout = 5 * time.Second
	// maxNames bounds the names that are remembered. They come from configuration,
	// so it is not met in practice.
	maxNames = 4096
)

var errNoAddress = errors.New("no address")

// nameCache remembers what DNS endpoints resolve to. A name is looked up when it is
// first wanted, and behind the scenes when it is wanted again later than
// resolveEvery; until an answer comes, and when there is none, the last good one
// serves. At most one lookup of a name is under way.
type nameCache struct {
	// fixed after init
	ctx    context.Context // ends lookups
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)

	wg sync.WaitGroup // lookups

	mu      sync.Mutex
	entries map[string]*nameEntry // guarded by mu
	closed  bool                  // guarded by mu
}

// nameEntry is one name. Its fields are guarded by nameCache.mu.
type nameEntry struct {
	addrs  []netip.Addr  // last good answer, not changed once set; nil: none yet
	err    error         // of the latest lookup
	asked  time.Time     // end of the latest lookup
	used   time.Time     // last wanted
	flight chan struct{} // closed at the end of the lookup under way; nil: none is
}

func (n *nameCache) init(ctx context.Context, lookup func(context.Context, string) ([]netip.Addr, error)) {
	n.ctx, n.lookup, n.entries = ctx, lookup, make(map[string]*nameEntry)
}

// get returns the addresses of name, best first. They are shared: do not change
// them. It waits only for a name of which nothing is known.
func (n *nameCache) get(ctx context.Context, name string) ([]netip.Addr, error) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, context.Canceled
	}
	now := time.Now()
	e := n.entries[name]
	if e == nil {
		n.makeRoomLocked()
		e = new(nameEntry)
		n.entries[name] = e
	}
	e.used = now
	if e.flight == nil && (e.addrs == nil || now.Sub(e.asked) >= resolveEvery) {
		e.flight = make(chan struct{})
		n.wg.Go(func() { n.ask(name, e) })
	}
	addrs, flight := e.addrs, e.flight
	n.mu.Unlock()
	if addrs != nil {
		return addrs, nil
	}
	select {
	case <-flight:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.addrs != nil {
		return e.addrs, nil
	}
	return nil, e.err
}

// ask looks a name up and ends its flight.
func (n *nameCache) ask(name string, e *nameEntry) {
	ctx, cancel := context.WithTimeout(n.ctx, resolveTimeout)
	addrs, err := n.lookup(ctx, name)
	cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	e.asked, e.err = time.Now(), err
	if err == nil && len(addrs) > 0 {
		e.addrs = addrs
	} else if err == nil {
		e.err = errNoAddress
	}
	close(e.flight)
	e.flight = nil
}

// makeRoomLocked forgets the name that was wanted least recently.
func (n *nameCache) makeRoomLocked() {
	if len(n.entries) < maxNames {
		return
	}
	var oldest string
	var at time.Time
	for name, e := range n.entries {
		if e.flight == nil && (at.IsZero() || e.used.Before(at)) {
			oldest, at = name, e.used
		}
	}
	delete(n.entries, oldest)
}

// close waits for the lookups under way, which the end of ctx ends.
func (n *nameCache) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.wg.Wait()
}
