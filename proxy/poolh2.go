package proxy

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/proxy/http2"
	"waypoint.dev/waypoint/proxy/originate"
)

// h2Conn is an HTTP/2 connection to an endpoint.
type h2Conn struct {
	*http2.ClientConn
	pool    *hostPool         // fixed
	state   *backendState     // fixed: where it counts
	origin  *originate.Origin // fixed: how it was made
	max     uint32            // fixed
	streams uint32            // fixed: limit of concurrent streams set by configuration; 0: the peer's
	idle    time.Duration     // fixed
	born    time.Time         // fixed
	life    time.Duration     // fixed
	leaves  <-chan struct{}   // fixed: see drainOf

	goodbye atomic.Bool // GOAWAY was said

	// guarded by pool.mu
	served  uint32
	leased  int       // streams that were promised and not given back
	since   time.Time // no stream since; when leased is 0
	retired bool      // it gets no new streams
}

// dialing is a dial of an HTTP/2 connection, which belongs to nobody: it goes on
// when the request that began it has left, and who waits for it fails with it.
type dialing struct {
	done chan struct{} // closed at its end

	// fixed then
	conn *h2Conn // with a stream for the request that began it, unless that left
	err  error

	left bool // guarded by the pool's mu
}

// openLocked reserves a stream on a connection that has room, if there is one.
func (hp *hostPool) openLocked(st *backendState) (lease, bool) {
	c := hp.leastBusy(st.origin.Load())
	if c == nil {
		return lease{}, false
	}
	c.reserve()
	return hp.openOn(c), true
}

// reserve promises a stream of c; the pool's mu is held.
func (c *h2Conn) reserve() {
	if c.leased++; c.leased == 1 && !c.retired {
		c.state.idle.Add(-1)
	}
}

// openOn opens the stream of c that is reserved; hp.mu is held.
func (hp *hostPool) openOn(c *h2Conn) lease {
	c.served++
	l := lease{Client: c.Open(), reused: c.served > 1}
	if c.max != 0 && c.served >= c.max || hp.host.Gone.Load() {
		hp.retire(c)
	}
	return l
}

// released takes a stream of c back.
func (c *h2Conn) released() {
	hp := c.pool
	hp.mu.Lock()
	c.leased--
	hp.streams = uint32(c.StreamLimit())
	idle := c.leased == 0
	last := idle && c.retired
	if idle {
		c.since = time.Now()
		if !last {
			c.state.idle.Add(1)
		}
	}
	hp.mu.Unlock()
	switch {
	case last:
		c.leave() // its place is free when it has ended
	case idle:
		c.state.waiting.wake(nil) // anybody may have its place
	default:
		c.state.waiting.wake(hp)
	}
}

// takeH2 is take of a stream on the connection with the fewest. One dial runs at a
// time; who finds no room waits for it.
func (hp *hostPool) takeH2(ctx context.Context, w *want) (lease, bool, error) {
	for {
		hp.mu.Lock()
		if !w.fresh {
			if l, ok := hp.openLocked(w.st); ok {
				hp.mu.Unlock()
				return l, true, nil
			}
		}
		d := hp.dialing
		mine := d == nil
		if mine {
			if !w.room() {
				hp.mu.Unlock()
				return lease{}, false, nil
			}
			d = &dialing{done: make(chan struct{})}
			hp.dialing = d
			hp.p.wg.Go(func() { hp.dialH2(d, *w) })
		}
		hp.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
			if mine {
				hp.disown(d)
			}
			return lease{}, false, waitError(ctx)
		}
		if d.err != nil {
			return lease{}, false, d.err
		}
		w.fresh = false // what there is now is new
		hp.mu.Lock()
		c := d.conn
		if mine || !c.retired && c.room() > 0 {
			if !mine {
				c.reserve()
			}
			l := hp.openOn(c)
			hp.mu.Unlock()
			return l, true, nil
		}
		hp.mu.Unlock()
	}
}

// disown lets the dial d go on without the request that began it.
func (hp *hostPool) disown(d *dialing) {
	hp.mu.Lock()
	d.left = true
	reserved := hp.dialing != d && d.err == nil // it has ended meanwhile
	hp.mu.Unlock()
	if reserved {
		d.conn.released()
	}
}

// dialH2 makes the connection that d is for; its place among the backend's is taken.
func (hp *hostPool) dialH2(d *dialing, w want) {
	defer func() {
		if r := recover(); r != nil {
			hp.p.panicked("dial", r)
			d.err = errDialPanicked
		}
		if d.err != nil {
			w.st.connectionGone()
		}
		hp.mu.Lock()
		hp.dialing = nil
		if d.err == nil {
			hp.multi = append(hp.multi, d.conn)
			w.st.idle.Add(1)
			if !d.left {
				d.conn.reserve()
			}
			if hp.closed {
				_ = d.conn.Close()
			}
		}
		hp.mu.Unlock()
		close(d.done)
		if d.err == nil {
			w.st.waiting.wake(hp) // who came before there was a place to dial
		}
	}()
	origin := w.st.origin.Load()
	born := time.Now()
	conn, err := hp.p.connect(hp.p.ctx, w.ep, w.set, origin, originate.Use{Protocols: originate.HTTP(true)})
	if err != nil {
		d.err = err
		return
	}
	c := &h2Conn{pool: hp, state: w.st, origin: origin, max: w.set.MaxRequestsPerConn, streams: w.set.MaxConcurrentStreams,
		idle: or(w.set.IdleTimeout, defaultIdle), born: born, since: time.Now(), life: w.set.MaxConnectionDuration, leaves: drainOf(conn)}
	cfg := hp.p.opts.H2
	hp.mu.Lock()
	if len(hp.multi) > 0 {
		hp.streams = uint32(hp.multi[0].StreamLimit())
	}
	cfg.PeerStreams = hp.streams // before its SETTINGS a burst could only guess
	hp.mu.Unlock()
	c.ClientConn = http2.NewClientConn(newNetConn(conn, nil), cfg, c.released)
	d.conn = c
	hp.p.wg.Go(func() {
		<-c.Done()
		_ = conn.Close()
		w.st.connectionGone()
	})
}

var errDialPanicked = errors.New("proxy: dialing failed")

// room is how many more streams c may have; hp.mu is held.
func (c *h2Conn) room() int {
	limit := c.StreamLimit()
	if c.streams != 0 {
		limit = min(limit, int(c.streams))
	}
	return limit - c.leased
}

// leastBusy returns a usable connection with room, the one with the fewest
// streams, made by origin; hp.mu is held.
func (hp *hostPool) leastBusy(origin *originate.Origin) *h2Conn {
	var best *h2Conn
	for i := 0; i < len(hp.multi); {
		c := hp.multi[i]
		if c.origin != origin || !c.Usable() || drains(c.leaves) || c.life != 0 && time.Since(c.born) >= c.life {
			hp.retire(c)
			continue
		}
		if (best == nil || c.leased < best.leased) && c.room() > 0 {
			best = c
		}
		i++
	}
	return best
}

// retire takes c out of the pool; it says GOAWAY behind its last stream. hp.mu is
// held.
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
	was := c.retired
	c.retired = true
	hp.p.pools.retired(c)
	if c.leased == 0 && !was {
		c.state.idle.Add(-1)
		hp.p.workers.do(leavingConn{c}) // not under the lock
	}
}

// leavingConn is the task that ends a connection without streams.
type leavingConn struct{ c *h2Conn }

func (l leavingConn) run() { l.c.leave() }

// leave says GOAWAY, once; the connection ends behind its last stream.
func (c *h2Conn) leave() {
	if c.goodbye.CompareAndSwap(false, true) {
		c.Shutdown()
	}
}
