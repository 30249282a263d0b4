package hbone

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
)

// dest is one address and expected identity. Its fields but key are guarded by
// the pool's mu.
type dest struct {
	pool *Pool
	key  destKey

	conns   []*poolConn // that may take tunnels
	dialing int
	waiters []chan grant // oldest first
	stage   Stage        // where the latest dial is, for those who run out of time
	until   time.Time    // the latest deadline of those who waited, which dials keep to
	gone    bool         // evicted: what is dialed for it is thrown away
}

// grant answers a waiter: a connection with a slot taken on it, or why not.
type grant struct {
	c   *poolConn
	err error
}

// acquire takes a slot on a connection to key, dialing one if it must. Callers
// share dials; each waits by its own ctx, and a dial goes on without its callers
// since the next will want it.
func (p *Pool) acquire(ctx context.Context, key destKey) (*poolConn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, &DialError{Stage: StagePool, Err: ErrPoolClosed}
	}
	d := p.dests[key]
	if d == nil {
		d = &dest{pool: p, key: key}
		p.dests[key] = d
	}
	if c := d.pickLocked(false); c != nil {
		c.takeLocked()
		if c.taken > p.cfg.SpreadStreams && d.dialing == 0 && len(d.conns) < p.cfg.SpreadConns {
			d.dialLocked()
		}
		p.mu.Unlock()
		return c, nil
	}
	if len(d.waiters) >= p.cfg.MaxWaiting {
		p.mu.Unlock()
		return nil, &DialError{Stage: StagePool, Err: ErrPoolFull}
	}
	if end, ok := ctx.Deadline(); ok && end.After(d.until) {
		d.until = end
	}
	w := make(chan grant, 1)
	d.waiters = append(d.waiters, w)
	d.pumpLocked()
	p.mu.Unlock()

	select {
	case g := <-w:
		return g.c, g.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	at := StagePool // every connection is full
	if d.dialing > 0 {
		at = d.stage
	}
	if i := slices.Index(d.waiters, w); i >= 0 {
		d.waiters = slices.Delete(d.waiters, i, i+1)
		d.tidyLocked()
		p.mu.Unlock()
	} else {
		p.mu.Unlock()
		switch g := <-w; {
		case g.c != nil:
			g.c.release(nil)
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, g.err // it knows better what took so long
		}
	}
	return nil, dialError(ctx, at, errors.New("waiting for a connection: "+ctx.Err().Error()))
}

// pickLocked returns the connection with the fewest tunnels that may take one
// more, or nil.
func (d *dest) pickLocked(evenBulk bool) *poolConn {
	var best *poolConn
	var now time.Time
	for _, c := range d.conns {
		if c.suspect || best != nil && c.taken >= best.taken {
			continue
		}
		if !c.h2.Usable() || c.taken >= min(d.pool.cfg.MaxStreams, c.h2.StreamLimit()) {
			continue
		}
		if !evenBulk && c.taken > 0 {
			if now.IsZero() {
				now = time.Now()
			}
			if c.bulkLocked(now) {
				continue
			}
		}
		best = c
	}
	return best
}

// pumpLocked serves waiters from the connections there are, and dials for the
// rest.
func (d *dest) pumpLocked() {
	d.conns = slices.DeleteFunc(d.conns, func(c *poolConn) bool { return !c.h2.Usable() })
	full := len(d.conns)+d.dialing >= d.pool.cfg.MaxConns
	d.serveLocked(full)
	for len(d.waiters) > d.dialing*d.pool.cfg.MaxStreams && len(d.conns)+d.dialing < d.pool.cfg.MaxConns {
		d.dialLocked()
	}
	d.tidyLocked()
}

// serveLocked grants slots to waiters, oldest first. With evenBulk the
// connections that carry bulk count too: better a slow tunnel than none.
func (d *dest) serveLocked(evenBulk bool) {
	for len(d.waiters) > 0 {
		c := d.pickLocked(evenBulk)
		if c == nil {
			return
		}
		c.takeLocked()
		d.waiters[0] <- grant{c: c}
		d.waiters = slices.Delete(d.waiters, 0, 1)
	}
}

// failLocked answers every waiter with err.
func (d *dest) failLocked(err error) {
	for _, w := range d.waiters {
		w <- grant{err: err}
	}
	d.waiters = nil
}

// abandonLocked cuts d off from the pool; its connections are the caller's.
func (d *dest) abandonLocked(err error) {
	d.gone = true
	d.conns = nil
	d.failLocked(err)
	d.tidyLocked()
}

// tidyLocked forgets a destination of which nothing is left.
func (d *dest) tidyLocked() {
	if d.gone || len(d.conns)+d.dialing+len(d.waiters) == 0 {
		if d.pool.dests[d.key] == d {
			delete(d.pool.dests, d.key)
		}
	}
}

// dialLocked starts one dial.
func (d *dest) dialLocked() {
	d.dialing++
	d.stage = StageTCP
	d.pool.stats.dials.Add(1)
	d.pool.wg.Go(d.dial)
}

// dial connects, and serves the connection to its end.
func (d *dest) dial() {
	p := d.pool
	ctx, stop := d.patience()
	c, err := d.connect(ctx)
	stop()

	p.mu.Lock()
	d.dialing--
	if err == nil && (d.gone || p.closed) {
		err = &DialError{Stage: StagePool, Err: ErrEvicted}
		_ = c.nc.Close()
	}
	if err != nil {
		p.stats.dialErrors.Add(1)
		d.serveLocked(true)
		if d.dialing == 0 {
			d.failLocked(err)
		}
		d.tidyLocked()
		p.mu.Unlock()
		p.log.Debug("dial failed", "addr", d.key.addr, "identity", d.key.identity, "error", err)
		return
	}
	d.conns = append(d.conns, c)
	p.all[c] = struct{}{}
	p.wg.Go(c.serve)
	d.pumpLocked()
	c.idleLocked() // nobody may have wanted it in the end
	p.mu.Unlock()
	c.recheck() // the roots may have changed since the handshake looked at them
}

// patience returns the context of a dial: it ends behind the pool's timeout, or later
// while somebody waits who has more time.
func (d *dest) patience() (ctx context.Context, stop func()) {
	p := d.pool
	ctx, cancel := context.WithCancelCause(p.ctx)
	var timer *time.Timer
	p.mu.Lock() // who sets timer comes before who reads it
	defer p.mu.Unlock()
	timer = time.AfterFunc(cmp.Or(p.cfg.ConnectTimeout, defaultConnectTimeout), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if rest := time.Until(d.until); rest > 0 && len(d.waiters) > 0 {
			timer.Reset(rest)
			return
		}
		cancel(context.DeadlineExceeded)
	})
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}

// connect makes one connection: TCP, TLS, identity.
func (d *dest) connect(ctx context.Context) (*poolConn, error) {
	p := d.pool
	nc, err := p.cfg.DialTCP(ctx, d.key.addr)
	if err != nil {
		return nil, dialError(ctx, StageTCP, err)
	}
	p.mu.Lock()
	d.stage = StageTLS
	p.mu.Unlock()
	var want []string
	if d.key.identity != "" {
		want = []string{d.key.identity}
	}
	opts := identity.WithRevoked(p.cfg.Revoked)
	own := p.cfg.TLS.SVID()
	src := source(nc)
	tc := tls.Client(src, identity.ClientTLS(p.cfg.TLS, want, opts))
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, dialError(ctx, StageTLS, err)
	}
	cs := tc.ConnectionState()
	peer, err := identity.PeerPrincipal(&cs)
	if err != nil {
		_ = nc.Close()
		return nil, dialError(ctx, StageIdentity, err)
	}
	c := &poolConn{
		pool: p, dest: d, nc: nc,
		h2: h2.NewClient(withRecords(tc, src), p.cfg.H2),
		link: link{
			peer: peer, chain: cs.PeerCertificates, own: own,
			peerAddr: addrPort(nc.RemoteAddr()), localAddr: addrPort(nc.LocalAddr()),
		},
		verify: identity.Verifier{
			Source: p.cfg.TLS, Usage: x509.ExtKeyUsageServerAuth, Want: want, Revoked: p.cfg.Revoked,
		},
		tunnels: make(map[*Tunnel]struct{}),
		waiting: make(map[*h2.Stream]struct{}),
	}
	return c, nil
}
