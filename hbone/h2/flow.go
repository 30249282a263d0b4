package h2

import "time"

// Receive windows. A window is granted again when half of it was consumed, so
// that its sender never runs dry while the consumer keeps up. If that half went
// within one round trip, the window and not the network or the consumer sets the
// pace (the sender moves at most a window a round trip): it doubles. That needs
// no probes; the round trip is the least one seen for SETTINGS and PING.

// grows says whether half a window consumed within ns asks for a larger one.
func (c *Conn) grows(ns int64) bool {
	return ns < max(c.rtt.Load(), int64(growFloor))
}

// credit notes that n bytes of s were consumed and returns what to grant now.
// s.mu is held.
func (s *Stream) credit(n int) uint32 {
	s.unacked += int64(n)
	if s.eof || s.rerr != nil || s.released || s.unacked < s.window/2 {
		return 0
	}
	inc := s.unacked
	s.unacked = 0
	now := s.c.now()
	if limit := int64(s.c.cfg.MaxStreamWindow); s.window < limit && s.granted != 0 && s.c.grows(now-s.granted) {
		grown := min(2*s.window, limit)
		inc += grown - s.window
		s.window = grown
	}
	s.granted = now
	inc = min(inc, maxWindow-s.avail)
	s.avail += inc
	return uint32(inc)
}

// creditConn notes that n bytes were consumed on any stream and returns what to
// grant the connection now.
func (c *Conn) creditConn(n int) uint32 {
	w := c.recvWindow.Load()
	if c.recvUnacked.Add(int64(n)) < w/2 {
		return 0
	}
	inc := c.recvUnacked.Swap(0)
	if inc == 0 {
		return 0 // another goroutine granted it
	}
	now := c.now()
	last := c.recvGrant.Swap(now)
	if limit := int64(c.cfg.MaxConnWindow); w < limit && last != 0 && c.grows(now-last) {
		if grown := min(2*w, limit); c.recvWindow.CompareAndSwap(w, grown) {
			inc += grown - w
		}
	}
	c.recvAvail.Add(inc)
	return uint32(inc)
}

// extendConn raises the connection's window when stalled streams hold most of
// it, up to its limit: one slow consumer must not stop the other streams. With
// the default windows a hundred stalled streams fit.
func (c *Conn) extendConn() {
	w := c.recvWindow.Load()
	limit := int64(c.cfg.MaxConnWindow)
	if w >= limit || c.recvAvail.Load() >= w/4 {
		return
	}
	grown := min(2*w, limit)
	if !c.recvWindow.CompareAndSwap(w, grown) {
		return
	}
	c.recvAvail.Add(grown - w)
	c.mu.Lock()
	c.appendWindowUpdate(0, uint32(grown-w))
	c.mu.Unlock()
}

// consumed grants n bytes of s again, to the stream (inc, from credit) and to
// the connection, and sends that if it is due.
func (c *Conn) consumed(s *Stream, n int, inc uint32) {
	cinc := c.creditConn(n)
	if inc|cinc == 0 {
		return
	}
	c.mu.Lock()
	c.appendCredits(s, inc, cinc)
	c.flush()
	c.mu.Unlock()
}

func (c *Conn) appendCredits(s *Stream, inc, cinc uint32) {
	if cinc > 0 {
		c.appendWindowUpdate(0, cinc)
	}
	if inc > 0 && c.streams[s.id] == s {
		c.appendWindowUpdate(s.id, inc)
	}
}

// creditStream grants s n bytes that held no payload. Used by the reader, which
// leaves the flush to beforeRead.
func (c *Conn) creditStream(s *Stream, n int) {
	s.mu.Lock()
	inc := s.credit(n)
	s.mu.Unlock()
	if inc > 0 {
		c.mu.Lock()
		c.appendCredits(s, inc, 0)
		c.mu.Unlock()
	}
}

// noteRTT takes a sample of the round trip.
func (c *Conn) noteRTT(d time.Duration) {
	if d <= 0 {
		return
	}
	if old := c.rtt.Load(); old == 0 || int64(d) < old {
		c.rtt.Store(int64(d))
	}
}
