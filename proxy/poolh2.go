package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/proxy/http2"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// h2Conn is an HTTP/2 connection to an endpoint.
type h2Conn struct {
	*http2.ClientConn
	origin  *originate.Origin // fixed: how it was made
	max     uint32            // fixed
	streams uint32            // fixed: limit of concurrent streams set by configuration; 0: the peer's
	idle    time.Duration     // fixed
	born    time.Time         // fixed
	life    time.Duration     // fixed
	leaves  <-chan struct{}   // fixed: see drainOf

	served  atomic.Uint32
	goodbye atomic.Bool // GOAWAY was said
	since   time.Time   // guarded by the pool's mu: no stream since; zero: in use
}

// leaseH2 opens a stream on the connection with the fewest. One dial runs at a
// time; who finds no room waits for it.
func (hp *hostPool) leaseH2(ep *balance.Endpoint, set *resilience.Settings, st *backendState, fresh bool, deadline time.Time) (lease, error) {
	if !fresh {
		hp.mu.Lock()
		l, ok := hp.openLocked(st)
		hp.mu.Unlock()
		if ok {
			return l, nil
		}
	}
	return hp.pendH2(ep, set, st, fresh, deadline)
}

// openLocked opens a stream on a connection that has room, if there is one.
func (hp *hostPool) openLocked(st *backendState) (lease, bool) {
	c := hp.leastBusy(st.origin.Load())
	if c == nil {
		return lease{}, false
	}
	n := c.served.Add(1)
	c.since = time.Time{}
	cl := c.Open()
	if c.max != 0 && n >= c.max {
		hp.retire(c)
	}
	return lease{Client: cl, reused: n > 1}, true
}

// pendH2 is leaseH2 where no connection had room: the request is pending until one
// has, its own or that of the dial under way.
func (hp *hostPool) pendH2(ep *balance.Endpoint, set *resilience.Settings, st *backendState, fresh bool, deadline time.Time) (lease, error) {
	if err := st.limits.AcquirePending(); err != nil {
		return lease{}, err
	}
	defer st.limits.ReleasePending()
	for {
		hp.mu.Lock()
		if !fresh {
			if l, ok := hp.openLocked(st); ok {
				hp.mu.Unlock()
				return l, nil
			}
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
	c := &h2Conn{origin: origin, max: set.MaxRequestsPerConn, streams: set.MaxConcurrentStreams, idle: or(set.IdleTimeout, defaultIdle), born: born, life: set.MaxConnectionDuration, leaves: drainOf(conn)}
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
		if c.origin != origin || !c.Usable() || drains(c.leaves) || c.life != 0 && time.Since(c.born) >= c.life {
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
