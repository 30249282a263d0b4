package proxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience/balance"
)

const (
	// defaultConnectTimeout is Istio's mesh default; it spans TCP, TLS and the
	// answer to CONNECT.
	defaultConnectTimeout = 10 * time.Second
	// defaultIdle is Envoy's default of a cluster's idle_timeout.
	defaultIdle = time.Hour
	// closeMargin is how long before a server closes an idle connection by its own
	// word that is no longer used: clocks start at the two ends of a network.
	closeMargin = time.Second
)

// hostPool holds the connections to one endpoint of one backend: HTTP/1 ones
// that wait for their next request, and HTTP/2 ones with their streams.
type hostPool struct {
	p    *Proxy        // fixed
	host *balance.Host // fixed
	info atomic.Pointer[hostInfo]

	mu      sync.Mutex
	idle    []*h1Conn // guarded by mu: last used at the end
	busy    []*h1Conn // guarded by mu: each knows its place
	multi   []*h2Conn // guarded by mu
	dialing *dialing  // guarded by mu: the HTTP/2 dial under way; nil: none
	streams uint32    // guarded by mu: what the endpoint allowed on its last HTTP/2 connection; 0: not known
	closed  bool      // guarded by mu: nothing is kept any more
}

// h1Conn is an HTTP/1 connection to an endpoint.
type h1Conn struct {
	*http1.ClientConn
	pool   *hostPool         // fixed
	state  *backendState     // fixed: where it counts
	origin *originate.Origin // fixed: how it was made
	max    uint32            // fixed: requests before it closes; 0: no limit
	idle   time.Duration     // fixed
	born   time.Time         // fixed
	life   time.Duration     // fixed: 0 none
	leaves <-chan struct{}   // fixed: see drainOf

	place int // guarded by pool.mu: in busy; negative: not there

	// owned by whoever has the connection: an exchange, or the pool under its mu
	served uint32
	since  time.Time // idle since
}

// expired reports an idle connection that is to be closed rather than used: it has
// idled or lived too long by our own settings, or so long that its server, which
// said when it closes idle connections, may be about to; or the pod's node proxy is
// going away and waits for it. A request that crossed either end on its way would be
// lost.
func (c *h1Conn) expired(now time.Time) bool {
	if drains(c.leaves) {
		return true
	}
	idle := now.Sub(c.since)
	if hint := c.IdleHint(); hint > 0 && idle >= max(hint-closeMargin, hint/2) {
		return true
	}
	return idle >= c.idle || c.life != 0 && now.Sub(c.born) >= c.life
}

// lease is one exchange on a pooled connection.
type lease struct {
	codec.Client
	reused bool // the connection has served before
}

// poolOf returns the pool of host, making it at its first use.
func (p *Proxy) poolOf(h *balance.Host) *hostPool {
	if hp, _ := h.Pool.Load().(*hostPool); hp != nil && hp.p == p {
		return hp
	}
	hp := &hostPool{p: p, host: h}
	if !h.Pool.CompareAndSwap(nil, hp) {
		if cur := h.Pool.Load().(*hostPool); cur.p == p {
			return cur
		}
		h.Pool.Store(hp) // left by a proxy that is gone
	}
	p.pools.add(hp)
	return hp
}

// lease takes a connection of the wanted version to w.ep, dialing if none is free
// or a fresh one is demanded. No byte of a request was sent when it fails.
func (hp *hostPool) lease(who lessee, w want) (lease, error) {
	if !w.fresh {
		if w.multiplexed {
			hp.mu.Lock()
			l, ok := hp.openLocked(w.st)
			hp.mu.Unlock()
			if ok {
				return l, nil
			}
		} else if c := hp.takeIdle(w.st.origin.Load()); c != nil {
			return lease{Client: c.Client(), reused: true}, nil
		}
	}
	return hp.pend(who, w)
}

// takeH1 is take of an HTTP/1 connection.
func (hp *hostPool) takeH1(ctx context.Context, w *want) (lease, bool, error) {
	origin := w.st.origin.Load()
	if !w.fresh {
		if c := hp.takeIdle(origin); c != nil {
			return lease{Client: c.Client(), reused: true}, true, nil
		}
	}
	if !w.room() {
		return lease{}, false, nil
	}
	start := time.Now()
	conn, err := hp.p.connect(ctx, w.ep, w.set, origin, originate.Use{Protocols: originate.HTTP(false)})
	if err != nil {
		w.st.connectionGone()
		return lease{}, false, err
	}
	c := &h1Conn{pool: hp, place: -1, state: w.st, origin: origin, max: w.set.MaxRequestsPerConn, idle: or(w.set.IdleTimeout, defaultIdle), born: start, life: w.set.MaxConnectionDuration, leaves: drainOf(conn)}
	c.ClientConn = http1.NewClientConn(conn, http1.ClientOptions{
		MaxHead:  hp.p.opts.MaxResponseHead,
		Released: func(_ *http1.ClientConn, reusable bool) { hp.put(c, reusable) },
	})
	hp.mu.Lock()
	hp.enter(c)
	hp.mu.Unlock()
	return lease{Client: c.Client()}, true, nil
}

// takeIdle returns the connection used last, which is the likeliest to live. One
// that was not made by origin is of an older configuration and closed.
func (hp *hostPool) takeIdle(origin *originate.Origin) *h1Conn {
	for {
		hp.mu.Lock()
		n := len(hp.idle)
		if n == 0 {
			hp.mu.Unlock()
			return nil
		}
		c := hp.idle[n-1]
		hp.idle[n-1] = nil
		hp.idle = hp.idle[:n-1]
		c.state.idle.Add(-1)
		hp.enter(c)
		hp.mu.Unlock()
		// Stray bytes behind a response, or its end: not alive.
		if c.origin == origin && c.Reusable() && !c.expired(time.Now()) && c.Alive() {
			return c
		}
		hp.drop(c)
	}
}

// put takes c back behind an exchange.
func (hp *hostPool) put(c *h1Conn, reusable bool) {
	c.served++
	now := time.Now()
	if !reusable || c.max != 0 && c.served >= c.max || c.life != 0 && now.Sub(c.born) >= c.life || hp.host.Gone.Load() || drains(c.leaves) {
		hp.drop(c)
		return
	}
	c.since = now
	hp.mu.Lock()
	hp.leave(c)
	if hp.closed {
		hp.mu.Unlock()
		hp.drop(c)
		return
	}
	hp.idle = append(hp.idle, c)
	c.state.idle.Add(1)
	hp.mu.Unlock()
	c.state.waiting.wake(nil)
}

// drop closes a connection that was taken out of idle, or is busy.
func (hp *hostPool) drop(c *h1Conn) {
	hp.mu.Lock()
	hp.leave(c)
	hp.mu.Unlock()
	_ = c.Close()
	c.state.connectionGone()
}

// sweep closes what has idled too long or has died, and all that idles once the
// endpoint is gone. It reports whether the pool is of no further use.
func (hp *hostPool) sweep(now time.Time) (empty bool) {
	gone := hp.host.Gone.Load()
	var dead []*h1Conn
	hp.mu.Lock()
	kept := hp.idle[:0]
	for _, c := range hp.idle {
		if gone || c.expired(now) || !c.Alive() {
			c.state.idle.Add(-1)
			dead = append(dead, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(hp.idle[len(kept):])
	hp.idle = kept
	for i := 0; i < len(hp.multi); {
		c := hp.multi[i]
		if gone || !c.Usable() || drains(c.leaves) || c.leased == 0 && now.Sub(c.since) >= c.idle {
			hp.retire(c)
			continue
		}
		i++
	}
	empty = gone && len(hp.busy) == 0 && hp.dialing == nil
	hp.mu.Unlock()
	for _, c := range dead {
		hp.drop(c)
	}
	return empty
}

// evictIdle closes a connection that nothing uses and that counts in st, if there is
// one. Its place may be free a moment later only.
func (hp *hostPool) evictIdle(st *backendState) bool {
	hp.mu.Lock()
	for i, c := range hp.idle {
		if c.state == st {
			hp.idle = slices.Delete(hp.idle, i, i+1)
			st.idle.Add(-1)
			hp.mu.Unlock()
			hp.drop(c)
			return true
		}
	}
	for _, c := range hp.multi {
		if c.state == st && c.leased == 0 {
			hp.retire(c)
			hp.mu.Unlock()
			return true
		}
	}
	hp.mu.Unlock()
	return false
}

// shut closes everything at once, busy connections too.
func (hp *hostPool) shut() {
	hp.mu.Lock()
	hp.closed = true
	idle, multi := hp.idle, hp.multi
	for _, c := range idle {
		c.state.idle.Add(-1)
	}
	for _, c := range multi {
		if c.leased == 0 {
			c.state.idle.Add(-1)
		}
	}
	hp.idle, hp.multi = nil, nil
	busy := slices.Clone(hp.busy)
	hp.mu.Unlock()
	for _, c := range idle {
		hp.drop(c)
	}
	for _, c := range busy {
		_ = c.Close()
	}
	for _, c := range multi {
		_ = c.Close()
	}
}

// drainOf returns the channel that is closed when what c runs on goes away: the
// HBONE connection of its tunnel takes no new ones and waits for the last to end.
// nil: it never says so (TCP).
func drainOf(c any) <-chan struct{} {
	for {
		switch t := c.(type) {
		case interface{ Draining() <-chan struct{} }:
			return t.Draining()
		case interface{ Below() any }: // TLS in the tunnel
			c = t.Below()
		default:
			return nil
		}
	}
}

// drains reports whether a channel of drainOf is closed.
func drains(leaves <-chan struct{}) bool {
	select {
	case <-leaves:
		return true
	default:
		return false
	}
}

// or returns d, or def when d is zero.
func or(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
