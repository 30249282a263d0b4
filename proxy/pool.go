package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/proxy/http2"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience"
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
	idle    []*h1Conn            // guarded by mu: last used at the end
	busy    map[*h1Conn]struct{} // guarded by mu
	multi   []*h2Conn            // guarded by mu
	dialing chan struct{}        // guarded by mu: closed when the HTTP/2 dial under way ends
	closed  bool                 // guarded by mu: nothing is kept any more
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

	// owned by whoever has the connection: an exchange, or the pool under its mu
	served uint32
	since  time.Time // idle since
}

// expired reports an idle connection that is to be closed rather than used: it has
// idled or lived too long by our own settings, or so long that its server, which
// said when it closes idle connections, may be about to. A request that crossed
// that close on its way would be lost.
func (c *h1Conn) expired(now time.Time) bool {
	idle := now.Sub(c.since)
	if hint := c.IdleHint(); hint > 0 && idle >= max(hint-closeMargin, hint/2) {
		return true
	}
	return idle >= c.idle || c.life != 0 && now.Sub(c.born) >= c.life
}

// h2Conn is an HTTP/2 connection to an endpoint.
type h2Conn struct {
	*http2.ClientConn
	origin  *originate.Origin // fixed: how it was made
	max     uint32            // fixed
	streams uint32            // fixed: limit of concurrent streams set by configuration; 0: the peer's
	idle    time.Duration     // fixed
	born    time.Time         // fixed
	life    time.Duration     // fixed

	served  atomic.Uint32
	goodbye atomic.Bool // GOAWAY was said
	since   time.Time   // guarded by the pool's mu: no stream since; zero: in use
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
	hp := &hostPool{p: p, host: h, busy: make(map[*h1Conn]struct{})}
	if !h.Pool.CompareAndSwap(nil, hp) {
		if cur := h.Pool.Load().(*hostPool); cur.p == p {
			return cur
		}
		h.Pool.Store(hp) // left by a proxy that is gone
	}
	p.pools.add(hp)
	return hp
}

// lease takes a connection of the wanted version to ep, dialing if none is free
// or fresh is demanded. No byte of a request was sent when it fails.
func (hp *hostPool) lease(ep *balance.Endpoint, set *resilience.Settings, st *backendState, multiplexed, fresh bool, deadline time.Time) (lease, error) {
	if multiplexed {
		return hp.leaseH2(ep, set, st, fresh, deadline)
	}
	origin := st.origin.Load()
	for {
		if !fresh {
			if c := hp.takeIdle(origin); c != nil {
				return lease{Client: c.Client(), reused: true}, nil
			}
		}
		if st.limits.AcquireConnection() == nil {
			break
		}
		if err := hp.p.wait(st, set, deadline); err != nil {
			return lease{}, err
		}
	}
	start := time.Now()
	conn, err := hp.p.connect(ep, set, origin, originate.Use{Protocols: originate.HTTP(false)}, deadline)
	if err != nil {
		st.connectionGone()
		return lease{}, err
	}
	c := &h1Conn{pool: hp, state: st, origin: origin, max: set.MaxRequestsPerConn, idle: or(set.IdleTimeout, defaultIdle), born: start, life: set.MaxConnectionDuration}
	c.ClientConn = http1.NewClientConn(conn, http1.ClientOptions{
		MaxHead:  hp.p.opts.MaxResponseHead,
		Released: func(_ *http1.ClientConn, reusable bool) { hp.put(c, reusable) },
	})
	hp.mu.Lock()
	hp.busy[c] = struct{}{}
	hp.mu.Unlock()
	return lease{Client: c.Client()}, nil
}

// wait waits for a connection of a backend that has as many as it may: Envoy's
// pending requests. A connection that idles at another endpoint makes room.
func (p *Proxy) wait(st *backendState, set *resilience.Settings, deadline time.Time) error {
	if p.pools.evictIdle(st) {
		return nil
	}
	if err := st.limits.AcquirePending(); err != nil {
		return err
	}
	defer st.limits.ReleasePending()
	if err := p.overload.Acquire(resilience.Pending, 1); err != nil {
		return err
	}
	defer p.overload.Release(resilience.Pending, 1)
	turn := st.waiting.join()
	if p.pools.evictIdle(st) { // freed while we joined
		st.waiting.leave(turn)
		return nil
	}
	limit := time.Now().Add(or(set.ConnectTimeout, defaultConnectTimeout))
	if !deadline.IsZero() && deadline.Before(limit) {
		limit = deadline
	}
	if !await(turn, p.ctx.Done(), limit) {
		st.waiting.leave(turn)
		return context.DeadlineExceeded
	}
	return nil
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
		hp.busy[c] = struct{}{}
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
	if !reusable || c.max != 0 && c.served >= c.max || c.life != 0 && now.Sub(c.born) >= c.life || hp.host.Gone.Load() {
		hp.drop(c)
		return
	}
	c.since = now
	hp.mu.Lock()
	delete(hp.busy, c)
	if hp.closed {
		hp.mu.Unlock()
		hp.drop(c)
		return
	}
	hp.idle = append(hp.idle, c)
	hp.mu.Unlock()
	c.state.waiting.wake()
}

// drop closes a connection that was taken out of idle, or is busy.
func (hp *hostPool) drop(c *h1Conn) {
	hp.mu.Lock()
	delete(hp.busy, c)
	hp.mu.Unlock()
	_ = c.Close()
	c.state.connectionGone()
}

// leaseH2 opens a stream on the connection with the fewest. One dial runs at a
// time; who finds no room waits for it.
func (hp *hostPool) leaseH2(ep *balance.Endpoint, set *resilience.Settings, st *backendState, fresh bool, deadline time.Time) (lease, error) {
	for {
		hp.mu.Lock()
		if c := hp.leastBusy(st.origin.Load()); c != nil && !fresh {
			n := c.served.Add(1)
			c.since = time.Time{}
			cl := c.Open()
			if c.max != 0 && n >= c.max {
				hp.retire(c)
			}
			hp.mu.Unlock()
			return lease{Client: cl, reused: n > 1}, nil
		}
		if wait := hp.dialing; wait != nil {
			hp.mu.Unlock()
			if !await(wait, hp.p.ctx.Done(), deadline) {
				return lease{}, context.DeadlineExceeded
			}
			fresh = false
			continue
		}
		done := make(chan struct{})
		hp.dialing = done
		hp.mu.Unlock()
		c, err := hp.dialH2(ep, set, st, deadline)
		hp.mu.Lock()
		hp.dialing = nil
		close(done)
		if err != nil {
			hp.mu.Unlock()
			return lease{}, err
		}
		cl := c.Open()
		c.served.Store(1)
		if hp.closed {
			_ = c.Close()
		}
		hp.multi = append(hp.multi, c)
		if c.max == 1 || hp.host.Gone.Load() {
			hp.retire(c)
		}
		hp.mu.Unlock()
		return lease{Client: cl}, nil
	}
}

func (hp *hostPool) dialH2(ep *balance.Endpoint, set *resilience.Settings, st *backendState, deadline time.Time) (*h2Conn, error) {
	for st.limits.AcquireConnection() != nil {
		if err := hp.p.wait(st, set, deadline); err != nil {
			return nil, err
		}
	}
	origin := st.origin.Load()
	born := time.Now()
	conn, err := hp.p.connect(ep, set, origin, originate.Use{Protocols: originate.HTTP(true)}, deadline)
	if err != nil {
		st.connectionGone()
		return nil, err
	}
	c := &h2Conn{origin: origin, max: set.MaxRequestsPerConn, streams: set.MaxConcurrentStreams, idle: or(set.IdleTimeout, defaultIdle), born: born, life: set.MaxConnectionDuration}
	c.ClientConn = http2.NewClientConn(newNetConn(conn, nil), hp.p.opts.H2)
	hp.p.wg.Go(func() {
		<-c.Done()
		_ = conn.Close()
		st.connectionGone()
	})
	return c, nil
}

// leastBusy returns a usable connection with room, the one with the fewest
// streams, made by origin; hp.mu is held.
func (hp *hostPool) leastBusy(origin *originate.Origin) *h2Conn {
	var best *h2Conn
	least := 0
	for i := 0; i < len(hp.multi); {
		c := hp.multi[i]
		if c.origin != origin || !c.Usable() || c.life != 0 && time.Since(c.born) >= c.life {
			hp.retire(c)
			continue
		}
		n, limit := c.OpenStreams(), c.StreamLimit()
		if c.streams != 0 {
			limit = min(limit, int(c.streams))
		}
		if n < limit && (best == nil || n < least) {
			best, least = c, n
		}
		i++
	}
	return best
}

// retire takes c out of the pool; its open streams finish, and the next sweep
// says GOAWAY. hp.mu is held.
func (hp *hostPool) retire(c *h2Conn) {
	for i, o := range hp.multi {
		if o == c {
			last := len(hp.multi) - 1
			hp.multi[i] = hp.multi[last]
			hp.multi[last] = nil
			hp.multi = hp.multi[:last]
			break
		}
	}
	hp.p.pools.retired(c)
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
			dead = append(dead, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(hp.idle[len(kept):])
	hp.idle = kept
	for i := 0; i < len(hp.multi); {
		c := hp.multi[i]
		if c.OpenStreams() > 0 {
			c.since = time.Time{}
		} else if c.since.IsZero() {
			c.since = now
		}
		if gone || !c.Usable() || !c.since.IsZero() && now.Sub(c.since) >= c.idle {
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

// evictIdle closes an idle connection that counts in st.
func (hp *hostPool) evictIdle(st *backendState) bool {
	hp.mu.Lock()
	var c *h1Conn
	if len(hp.idle) > 0 && hp.idle[0].state == st {
		c = hp.idle[0]
		hp.idle = append(hp.idle[:0], hp.idle[1:]...)
	}
	hp.mu.Unlock()
	if c == nil {
		return false
	}
	hp.drop(c)
	return true
}

// shut closes everything at once, busy connections too.
func (hp *hostPool) shut() {
	hp.mu.Lock()
	hp.closed = true
	idle, multi := hp.idle, hp.multi
	hp.idle, hp.multi = nil, nil
	busy := make([]*h1Conn, 0, len(hp.busy))
	for c := range hp.busy {
		busy = append(busy, c)
	}
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

// or returns d, or def when d is zero.
func or(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
