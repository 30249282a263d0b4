package proxy

import (
	"context"
	"errors"
	"net"
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

// Names remembers what DNS endpoints resolve to, for all that dial in a process. A
// name is looked up when it is first wanted, and behind the scenes when it is wanted
// again later than resolveEvery; until an answer comes, and when there is none, the
// last good one serves. At most one lookup of a name is under way. It is safe for
// concurrent use.
type Names struct {
	// fixed after NewNames
	ctx    context.Context // ends lookups
	cancel context.CancelFunc
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)

	wg sync.WaitGroup // lookups

	mu      sync.Mutex
	entries map[string]*nameEntry // guarded by mu
	closed  bool                  // guarded by mu
}

// nameEntry is one name. Its fields are guarded by Names.mu.
type nameEntry struct {
	addrs  []netip.Addr  // last good answer, not changed once set; nil: none yet
	err    error         // of the latest lookup
	asked  time.Time     // end of the latest lookup
	used   time.Time     // last wanted
	flight chan struct{} // closed at the end of the lookup under way; nil: none is
}

// NewNames makes an empty memory in front of lookup, which returns the addresses of
// a name, best first; nil: the system's resolver. Close it.
func NewNames(lookup func(ctx context.Context, name string) ([]netip.Addr, error)) *Names {
	if lookup == nil {
		lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		}
	}
	n := &Names{lookup: lookup, entries: make(map[string]*nameEntry)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// get returns the addresses of name, best first. They are shared: do not change
// them. It waits only for a name of which nothing is known.
func (n *Names) get(ctx context.Context, name string) ([]netip.Addr, error) {
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
func (n *Names) ask(name string, e *nameEntry) {
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
func (n *Names) makeRoomLocked() {
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

// Close ends the lookups under way and waits for them. Names are no longer
// resolved.
func (n *Names) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	n.wg.Wait()
}
