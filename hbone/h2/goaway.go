package h2

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"golang.org/x/net/http2"
)

// jitter spreads d by 10 % either way, so that connections opened together do
// not end together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
}

// Shutdown ends the connection gracefully: no new streams, and Done closes after
// the last one. A server says so twice (RFC 9113 section 6.8): first with the
// highest possible id, so that streams under way to us are still served, then,
// a PING round trip or a second later, with the last that was. It returns at
// once; calling it again does nothing.
func (c *Conn) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != stateOpen || c.shutdown {
		return
	}
	c.shutdown = true
	c.noteDraining()
	if !c.server {
		// The peer opens no streams, so there is nothing to warn about twice.
		c.appendGoAway(0, http2.ErrCodeNo, "")
		c.maybeFinish()
		c.kick()
		return
	}
	c.appendGoAway(maxStreamID, http2.ErrCodeNo, "")
	p := c.newPing(c.finalGoAway)
	c.appendPing(false, p.data)
	c.goAwayTimer = time.AfterFunc(goAwayWait, func() {
		c.mu.Lock()
		c.finalGoAway(nil)
		c.mu.Unlock()
	})
	c.kick()
}

// finalGoAway names the last stream that is served. c.mu is held.
func (c *Conn) finalGoAway(error) {
	if c.finalGoing || c.state != stateOpen {
		return
	}
	c.finalGoing = true
	c.goAwayTimer.Stop()
	c.appendGoAway(c.maxPeerID, http2.ErrCodeNo, "")
	c.maybeFinish()
	c.kick()
}

// A ping waits for its answer.
type ping struct {
	data [8]byte
	sent time.Time
	done func(error) // called once with c.mu held; nil after that
}

func (p *ping) answer(err error) {
	if f := p.done; f != nil {
		p.done = nil
		f(err)
	}
}

// newPing registers a PING; done runs with c.mu held when it is answered, or
// with an error when the connection ends. c.mu is held.
func (c *Conn) newPing(done func(error)) *ping {
	c.pingSeq++
	p := &ping{sent: time.Now(), done: done}
	binary.BigEndian.PutUint64(p.data[:], c.pingSeq)
	c.pings = append(c.pings, p)
	return p
}

func (c *Conn) dropPing(p *ping) {
	for i, q := range c.pings {
		if p == q {
			c.pings = append(c.pings[:i], c.pings[i+1:]...)
			return
		}
	}
}

func (c *Conn) onPong(data [8]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pings {
		if p.data == data {
			c.dropPing(p)
			c.noteRTT(time.Since(p.sent))
			p.answer(nil)
			return
		}
	}
}

// Ping sends a PING and waits for the answer. It fails with
// os.ErrDeadlineExceeded after timeout and with ErrClosed when the connection
// ends; it does not close the connection.
func (c *Conn) Ping(timeout time.Duration) error {
	got := make(chan error, 1)
	c.mu.Lock()
	if c.state != stateOpen {
		c.mu.Unlock()
		return ErrClosed
	}
	p := c.newPing(func(err error) { got <- err })
	c.appendPing(false, p.data)
	c.kick() // never blocks: a stalled network is what the caller looks for
	c.mu.Unlock()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case err := <-got:
		return err
	case <-t.C:
		c.mu.Lock()
		c.dropPing(p)
		c.mu.Unlock()
		return errDeadline
	}
}

// checkKeepalive runs when the connection may have been idle for the interval,
// and when the PING sent then should have been answered.
func (c *Conn) checkKeepalive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != stateOpen {
		return
	}
	idle := time.Duration(c.now() - c.lastRead.Load())
	if c.keepPing != nil && c.keepPing.done != nil {
		// An answer may queue behind much DATA; silence is what counts.
		if rest := c.cfg.KeepaliveTimeout - idle; rest > 0 && time.Since(c.keepPing.sent) > idle {
			c.keepalive.Reset(rest)
			return
		}
		c.closeLocked(&ConnError{Code: http2.ErrCodeNo, Reason: "keepalive PING not answered"})
		return
	}
	c.keepPing = nil
	if rest := c.cfg.KeepaliveInterval - idle; rest > 0 {
		c.keepalive.Reset(rest)
		return
	}
	c.keepPing = c.newPing(func(err error) {
		if err == nil {
			c.keepalive.Reset(c.cfg.KeepaliveInterval)
		}
	})
	c.appendPing(false, c.keepPing.data)
	c.keepalive.Reset(c.cfg.KeepaliveTimeout)
	c.kick()
}
