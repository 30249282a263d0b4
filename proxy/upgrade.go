package proxy

import (
	"strings"
	"time"

	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/telemetry"
)

// upgrade answers 101 and turns both connections into one byte stream.
func (x *exchange) upgrade(cl codec.Client, h *codec.ResponseHead) failure {
	from, ok1 := x.srv.(codec.Hijacker)
	to, ok2 := cl.(codec.Hijacker)
	if !ok1 || !ok2 || h.Upgrade == "" || h.Upgrade != x.in.Upgrade {
		// A switch that nobody asked for.
		x.giveUp(cl)
		x.fail(failProtocol, false)
		return failProtocol
	}
	x.replyHead(h)
	x.rec.Details = "via_upstream"
	x.reply = codec.ResponseHead{Status: h.Status, Fields: x.out, Upgrade: h.Upgrade}
	x.started = true
	if err := x.srv.WriteHead(&x.reply, 0); err != nil {
		return x.relayed(cl, err)
	}
	x.clockEnds(cl) // a route's timeout ends with the handshake
	x.clientClockEnds()
	x.t.mu.Lock()
	x.keep()
	x.t.hijacked = true
	x.t.mu.Unlock()
	x.markStreaming(codec.LengthUnknown)
	s := splice{client: from.Hijack(), backend: to.Hijack()}
	x.cancel.Lock()
	x.current, x.raw = nil, &s
	cut, gone := x.cut.Load(), x.gone.Load()
	x.cancel.Unlock()
	switch {
	case cut:
		s.end(endedCut)
	case gone: // while the 101 was on its way
		s.end(endedClient)
	}
	idle := x.idle
	if idle == 0 {
		idle = defaultTCPIdle
	}
	if due := x.upgraded(); !due.IsZero() {
		defer time.AfterFunc(time.Until(due), func() { s.end(endedLate) }).Stop()
	}
	s.run(&x.p.workers, idle)
	x.cancel.Lock()
	x.raw = nil
	x.cancel.Unlock()

	x.rawReceived, x.rawSent = s.received.Load(), s.sent.Load()
	switch s.ended.Load() {
	case endedIdle:
		x.rec.Flags |= telemetry.FlagSI
		x.rec.Details = "stream_idle_timeout"
	case endedClient:
		f := x.p.clientEnd()
		x.rec.Flags |= f.flag()
		if f == failStopped {
			x.rec.Details = f.details(true)
		}
	case endedBackend:
		x.rec.Flags |= telemetry.FlagUC
	case endedLate:
		f := x.whichTimeout()
		x.rec.Flags |= f.flag()
		x.rec.Details = f.details(true)
	case endedCut:
		x.rec.Flags |= failCut.flag()
		x.rec.Details = failCut.details(true)
		x.cutRecord()
	}
	_ = s.client.Close()
	_ = s.backend.Close()
	cl.Release()
	return failNone
}

// keep copies what the exchange still needs of its head, whose buffers go with
// the hijack; t.mu is held, since a change of policies reads it too.
func (x *exchange) keep() {
	r, q := &x.rec, &x.req
	for _, s := range []*string{&r.Method, &r.Path, &r.Authority, &r.UserAgent, &r.RequestID, &r.Forwarded,
		&q.Method, &q.Authority, &q.Path, &q.Query} {
		*s = strings.Clone(*s)
	}
	x.fields = append(x.fields[:0], cloneFields(x.fields)...)
	q.Headers = x.fields
}
