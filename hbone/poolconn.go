package hbone

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

const (
	// sampleEvery is the least pause between two looks at how many bytes tunnels
	// moved, and bulkWindow the span that "recently" means.
	sampleEvery = 250 * time.Millisecond
	bulkWindow  = time.Second
)

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)

// poolConn is one connection of a pool.
type poolConn struct {
	// Fixed once it is up.
	pool   *Pool
	dest   *dest
	nc     net.Conn
	h2     *h2.Conn
	link   link
	verify identity.Verifier

	dead   atomic.Bool // a PING went unanswered: waiting CONNECTs go elsewhere
	proven atomic.Bool // the peer answered something: it took our certificate

	// Guarded by pool.mu.
	taken   int // slots: tunnels and CONNECTs on their way
	tunnels map[*Tunnel]struct{}
	waiting map[*h2.Stream]struct{} // CONNECTs not answered yet
	suspect bool                    // a PING is out: no new tunnels
	retired bool
	idle    *time.Timer // closes the connection when no slot is taken
	sampled time.Time
	bulk    bool
}

// serve reads the connection to its end.
func (c *poolConn) serve() {
	err := c.h2.Serve()
	_ = c.nc.Close()
	p := c.pool
	p.mu.Lock()
	delete(p.all, c)
	if c.idle != nil {
		c.idle.Stop()
	}
	c.leaveLocked()
	c.dest.pumpLocked()
	p.mu.Unlock()
	p.log.Debug("pooled connection ended", "addr", c.dest.key.addr, "error", err)
}

// leaveLocked takes c off the list of those that get new tunnels.
func (c *poolConn) leaveLocked() {
	c.retired = true
	d := c.dest
	if i := slices.Index(d.conns, c); i >= 0 {
		d.conns = slices.Delete(d.conns, i, i+1)
	}
}

// retire gives c no new tunnels; it ends behind the last of the open ones.
func (c *poolConn) retire(why string) {
	c.pool.mu.Lock()
	was := c.retired
	c.leaveLocked()
	c.dest.pumpLocked()
	c.pool.mu.Unlock()
	if !was {
		c.pool.stats.retired.Add(1)
		c.pool.log.Debug("retiring pooled connection", "addr", c.dest.key.addr, "reason", why)
	}
	c.h2.Shutdown()
}

// recheck retires c if the newest bundle trusts the peer's chain or ours no
// longer, and cuts it if the peer was revoked.
func (c *poolConn) recheck() {
	err := c.link.recheck(&c.verify, &c.pool.own)
	switch {
	case errors.Is(err, identity.ErrRevoked):
		c.pool.log.Warn("closing pooled connection, its peer was revoked", "addr", c.dest.key.addr, "peer", c.link.peer.URI)
		c.h2.Close(err)
	case err != nil && c.h2.Usable():
		c.pool.log.Info("retiring pooled connection, a certificate of its handshake is no longer trusted", "addr", c.dest.key.addr, "error", err)
		c.retire("trust")
	}
}

// takeLocked takes a slot.
func (c *poolConn) takeLocked() {
	c.taken++
	if c.idle != nil {
		c.idle.Stop()
	}
}

// release gives a slot back; t is the tunnel that had it, or nil.
func (c *poolConn) release(t *Tunnel) {
	p := c.pool
	p.mu.Lock()
	c.taken--
	if t != nil {
		delete(c.tunnels, t)
	}
	dead := c.dead.Load() && c.taken == 0
	c.idleLocked()
	c.dest.pumpLocked()
	p.mu.Unlock()
	if dead {
		c.h2.Close(errDead)
	}
}

// ended is release for tunnels.
func (c *poolConn) ended(t *Tunnel) { c.release(t) }

// idleLocked starts the idle clock when no slot is taken.
func (c *poolConn) idleLocked() {
	if c.taken > 0 || c.retired {
		return
	}
	if c.idle == nil {
		c.idle = time.AfterFunc(c.pool.cfg.IdleTimeout, c.expire)
	} else {
		c.idle.Reset(c.pool.cfg.IdleTimeout)
	}
}

// expire closes a connection that nobody used for a while.
func (c *poolConn) expire() {
	c.pool.mu.Lock()
	if c.taken > 0 {
		c.pool.mu.Unlock()
		return
	}
	c.leaveLocked()
	c.dest.tidyLocked()
	c.pool.mu.Unlock()
	c.h2.Shutdown()
}

// bulkLocked reports whether one of the tunnels moved BulkBytes within the last
// second, by the average since the last look at them.
func (c *poolConn) bulkLocked(now time.Time) bool {
	span := now.Sub(c.sampled)
	if span < sampleEvery {
		return c.bulk
	}
	c.sampled, c.bulk = now, false
	for t := range c.tunnels {
		n := t.BytesReceived() + t.BytesSent()
		moved := n - t.moved
		t.moved = n
		if span > bulkWindow {
			moved = int64(float64(moved) * float64(bulkWindow) / float64(span))
		}
		if moved >= c.pool.cfg.BulkBytes {
			c.bulk = true
		}
	}
	return c.bulk
}

// connect opens a tunnel in a slot that is taken already. When it fails, the
// slot is given back, and again says that another connection may do better.
func (c *poolConn) connect(ctx context.Context, authority string, hdr []attrs.Field) (t *Tunnel, again bool, err error) {
	st, err := c.h2.Open(&h2.Head{Method: methodConnect, Authority: authority, Fields: hdr}, 0)
	if err != nil {
		defer c.release(nil)
		return nil, true, c.explain(err)
	}
	h, err := c.answer(ctx, st)
	switch {
	case err != nil:
		again = c.mayRetry(err)
		err = c.explain(err)
	case h.Status != statusOK:
		c.pool.stats.refused.Add(1)
		err = &DialError{Stage: StageConnect, Status: h.Status, Err: errRefused}
	default:
		t = &Tunnel{st: st, link: &c.link, head: h, authority: authority, conn: c}
		t.addr, t.host, t.port, _ = ParseAuthority(authority)
		t.state.Store(accepted)
		c.pool.mu.Lock()
		c.tunnels[t] = struct{}{}
		c.pool.mu.Unlock()
		return t, false, nil
	}
	_ = st.Close()
	c.release(nil)
	return nil, again, err
}

// answer waits for the final head of st.
func (c *poolConn) answer(ctx context.Context, st *h2.Stream) (*h2.Head, error) {
	stop := context.AfterFunc(ctx, func() { _ = st.SetReadDeadline(past) })
	c.setWaiting(st, true)
	defer c.setWaiting(st, false)
	probeAt := time.Now().Add(c.pool.cfg.ProbeAfter)
	for {
		// The deadline first: whoever moves it to the past sets its flag before.
		_ = st.SetReadDeadline(probeAt)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if c.dead.Load() {
			stop()
			return nil, errDead
		}
		h, err := st.ReadHead()
		switch {
		case err == nil && h.Status < 200:
			c.proven.Store(true)
		case err == nil:
			c.proven.Store(true)
			if !stop() {
				return nil, ctx.Err()
			}
			_ = st.SetReadDeadline(time.Time{})
			return h, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() == nil && !time.Now().Before(probeAt) {
				c.probe()
				probeAt = time.Now().Add(c.pool.cfg.ProbeAfter)
			}
		default:
			stop()
			return nil, err
		}
	}
}

func (c *poolConn) setWaiting(st *h2.Stream, on bool) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if on {
		c.waiting[st] = struct{}{}
	} else {
		delete(c.waiting, st)
	}
}

// mayRetry reports whether a CONNECT that failed with err, and not by its
// answer, may succeed on another connection. The peer's reset of this one stream
// is an answer; everything else took the whole connection.
func (c *poolConn) mayRetry(err error) bool {
	if se := (*h2.StreamError)(nil); errors.As(err, &se) {
		return se.Unprocessed
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	// A connection that never answered anything is no stale one: dialing the same
	// again gives the same.
	return c.proven.Load() || errors.Is(err, errDead)
}

// explain tells a peer that did not take our certificate from other ends. With
// TLS 1.3 the client's handshake is over before the server has looked at it: the
// alert, or just the end of the connection, comes where the first answer is
// read.
func (c *poolConn) explain(err error) error {
	if c.proven.Load() {
		return err
	}
	if cause := c.h2.Err(); cause != nil && errors.Is(err, h2.ErrClosed) {
		err = cause
	}
	switch {
	case errors.As(err, new(*h2.StreamError)), errors.As(err, new(*h2.ConnError)),
		errors.Is(err, h2.ErrGoingAway), errors.Is(err, h2.ErrStreamLimit), errors.Is(err, errDead),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return &DialError{Stage: StageTLS, Err: err}
}

// probe asks the peer for a sign of life. Until it came no new tunnel is put
// here; if none comes the connection is given up for CONNECTs, while the tunnels
// that run are left to the keepalive, which is more patient.
func (c *poolConn) probe() {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.suspect || c.retired || p.closed {
		return
	}
	c.suspect = true
	p.wg.Go(func() {
		err := c.h2.Ping(p.cfg.ProbeTimeout)
		p.mu.Lock()
		if err == nil {
			c.proven.Store(true)
			c.suspect = false
			c.dest.pumpLocked()
			p.mu.Unlock()
			return
		}
		c.dead.Store(true)
		c.leaveLocked()
		for st := range c.waiting {
			_ = st.SetReadDeadline(past)
		}
		none := c.taken == 0
		c.dest.pumpLocked()
		p.mu.Unlock()
		p.stats.dead.Add(1)
		p.log.Warn("pooled connection does not answer, giving it up", "addr", c.dest.key.addr, "error", err)
		c.h2.Shutdown() // so that idle HTTP connections inside are not used again
		if none {
			c.h2.Close(errDead)
		}
	})
}
