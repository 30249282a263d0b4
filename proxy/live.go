package proxy

import (
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/telemetry"
)

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
		x.abortCurrent()
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

// markStreaming notes a response with no end in sight: a change of policies may
// cut it.
func (x *exchange) markStreaming(h *codec.ResponseHead) {
	if h.Length >= 0 && h.Status != 101 {
		return
	}
	x.t.mu.Lock()
	x.streaming = true
	x.t.mu.Unlock()
}

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
		_ = t.in.SetReadDeadline(time.Now().Add(http1.DrainGrace)) // idle since it was accepted
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
		if d := c.Conn.CheckConn(&t.conn); !d.Allowed {
			t.tcp.cut(d)
		} else if c.HTTPOnly && !t.tcp.declared {
			t.tcp.cutFor("http_only")
		}
		return
	}
	for x := t.live; x != nil; x = x.next {
		if x.streaming && !x.stillAllowed(c) {
			x.streaming = false
			x.told.Add(1)
			t.p.workers.do(&x.cutting)
		}
	}
}

// stillAllowed asks the policies about a request that is under way. Its head is
// as it was when they were asked first.
func (x *exchange) stillAllowed(c *config.Chain) bool {
	for i := range c.Stages {
		st := &c.Stages[i]
		if st.Kind == config.StageAuthz && !st.Authz.Check(&x.req).Allowed {
			return false
		}
	}
	return true
}
