package proxy

import (
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/telemetry"
)

// firstGrace is how long a tunnel that drains may still send its first byte. Unlike
// one that idles between requests it was opened for one, which is on its way: it
// gets as long as a server that shuts down goes on accepting.
const firstGrace = 5 * time.Second

// exchange serves one request; false ends its HTTP/1 connection.
func (t *tunnel) exchange(srv codec.Server) (more bool) {
	x := exchanges.Get().(*exchange)
	x.begin(t, srv)
	done := false
	defer func() {
		if done {
			return
		}
		// A panic: the exchange is not used again, whoever else still looks at it.
		r := recover()
		t.p.panicked("exchange", r)
		srv.Abort(codec.AbortInternal)
		x.abortCurrent(endedCut)
		x.rec.Flags |= telemetry.FlagLR
		x.rec.Details = "internal_error"
		x.report()
		t.leave(x)
		more = false
	}()
	x.serve()
	x.end()
	done = true
	exchanges.Put(x)
	return true
}

// enter and leave keep the list of exchanges under way, for the check at a
// change of policies.
func (t *tunnel) enter(x *exchange) {
	t.mu.Lock()
	x.next = t.live
	if t.live != nil {
		t.live.prev = x
	}
	t.live = x
	t.mu.Unlock()
}

func (t *tunnel) leave(x *exchange) {
	x.giveRoom()
	t.mu.Lock()
	if x.prev != nil {
		x.prev.next = x.next
	} else if t.live == x {
		t.live = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	}
	x.next, x.prev, x.streaming = nil, nil, false
	if t.live == nil && t.ended != nil {
		select {
		case <-t.ended: // a stream that began while the connection ended
		default:
			close(t.ended)
		}
	}
	t.mu.Unlock()
}

// markStreaming notes that the end of the exchange is not in sight: a change of
// policies may cut it from here on. length is of what is still to come, in either
// direction; below chunkSize the end is on its way. It may be called again.
func (x *exchange) markStreaming(length int64) {
	if length >= 0 && length <= chunkSize {
		return
	}
	t := x.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.denial.Load() != nil {
		return
	}
	x.streaming = true
	if x.overtaken() {
		// The change came between the check and here, and found nothing to cut.
		if c := t.p.opts.Store.Load().Lookup(t.conn.Dest, t.conn.DestHost, t.conn.DestPort); c != nil {
			x.cutIfDenied(c)
		}
	}
}

// overtaken reports whether policies may have changed since they were asked
// about x. The counter moves before recheck looks for streams.
func (x *exchange) overtaken() bool { return x.asked != x.p.changes.Load() }

// drain ends what can end without loss.
func (t *tunnel) drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return
	}
	t.draining = true
	switch {
	case t.h1 != nil:
		t.h1.SetDraining()
	case t.h2 != nil:
		t.h2.SetDraining()
	case t.sniffing:
		_ = t.in.SetReadDeadline(time.Now().Add(firstGrace))
	}
}

// recheck cuts what the policies of s deny.
func (t *tunnel) recheck(s *config.Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tcp == nil && t.live == nil {
		return
	}
	c := s.Lookup(t.conn.Dest, t.conn.DestHost, t.conn.DestPort)
	if c == nil {
		return // nothing is left that could deny; the destination's own end will come
	}
	if t.tcp != nil {
		if d := t.connDenial(c); d != nil {
			t.tcp.cut(*d)
		} else if c.HTTPOnly && !t.tcp.declared {
			t.tcp.cutFor("http_only")
		}
		return
	}
	for x := t.live; x != nil; x = x.next {
		if x.streaming {
			x.cutIfDenied(c)
		}
	}
}

// connDenial is what the policies of c say against an open connection, short of
// asking external authorizers; nil: nothing.
func (t *tunnel) connDenial(c *config.Chain) *authz.Decision {
	if d := c.Conn.CheckConn(&t.conn); !d.Allowed {
		return &d
	}
	if provider, d, _, ok := c.Conn.CustomConn(&t.conn, 0); ok && provider == "" {
		return &d
	}
	return nil
}

// cutIfDenied cuts x if the policies of c deny it; t.mu is held.
func (x *exchange) cutIfDenied(c *config.Chain) {
	d := x.requestDenial(c)
	if d == nil {
		return
	}
	x.streaming = false
	x.denial.Store(d)
	x.told.Add(1)
	x.p.workers.do(&x.cutting)
}

// requestDenial is what the policies of c say against a request that is under
// way, short of asking external authorizers; nil: nothing. Its head is as it was
// when they were asked first.
func (x *exchange) requestDenial(c *config.Chain) *authz.Decision {
	for i := range c.Stages {
		switch st := &c.Stages[i]; st.Kind {
		case config.StageAuthz:
			if d := st.Authz.Check(&x.req); !d.Allowed {
				return &d
			}
		case config.StageCustom:
			if provider, d, ok := st.Authz.Custom(&x.req); ok && provider == "" {
				return &d
			}
		}
	}
	return nil
}

// cutRecord writes the denial that cut x into its record.
func (x *exchange) cutRecord() {
	if d := x.denial.Load(); d != nil {
		x.decided(*d)
	}
}
