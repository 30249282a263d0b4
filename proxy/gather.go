package proxy

import (
	"io"

	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/telemetry"
)

// gathered is the part of a request body that was read before the request was
// routed, for an external authorizer. It stands in the exchange's source, from
// which attempts read it as if it had not been touched.
type gathered struct {
	on   bool  // the source was started
	room int64 // charged to the process's bound of buffered bytes
}

// gather reads the body until it ends or exceeds limit. It reports whether the
// request goes on; otherwise it is answered.
func (x *exchange) gather(limit int, partial bool) bool {
	if x.in.Length == 0 || x.in.Upgrade != "" {
		return true
	}
	if x.in.Length > int64(limit) && !partial {
		x.tooLarge()
		return false
	}
	want := int64(limit)
	if x.in.Length > 0 {
		want = min(want, x.in.Length)
	}
	want += chunkSize // by which the last read may go over
	if more := want - x.gathered.room; more > 0 {
		if err := x.p.overload.Acquire(resilience.Bytes, more); err != nil {
			x.shedFor(resilience.Bytes)
			return false
		}
		x.gathered.room = want
	}
	s := &x.src
	if !x.gathered.on {
		x.gathered.on = true
		s.reset(x.srv, x.p.replay)
		if x.grpc {
			s.count = &x.reqCount
		}
	}
	s.pinned = x.gathered.room
	b := buf.Take(chunkSize)
	defer b.Release()
	for !s.complete.Load() && s.end <= int64(limit) && !(partial && s.end == int64(limit)) {
		if _, err := s.next(b.B, s.end, 0); err != nil && err != io.EOF {
			x.left()
			return false
		}
	}
	if s.end > int64(limit) && !partial {
		x.tooLarge()
		return false
	}
	return true
}

// tooLarge is Envoy's answer to a body over max_request_bytes.
func (x *exchange) tooLarge() {
	x.answer(reply{status: 413, fields: x.ownFields(nil), body: "Payload Too Large", details: "request_payload_too_large"})
}

// shedFor answers for a process that has no room.
func (x *exchange) shedFor(r resilience.Resource) {
	x.rec.Reason = r.String()
	x.answer(reply{status: 503, flags: telemetry.FlagUO, details: r.String(), fields: overloaded})
}

// bytes returns the first limit bytes of what was gathered, and whether there is
// more of the body. The slice is the caller's.
func (g *gathered) bytes(limit int, s *source) (body []byte, partial bool) {
	if !g.on {
		return nil, false
	}
	n := int(min(s.end, int64(limit)))
	body = make([]byte, 0, n)
	for i := range s.chunks {
		c := &s.chunks[i]
		body = append(body, c.b.B[:min(c.n, n-len(body))]...)
	}
	return body, !s.complete.Load() || s.end > int64(n)
}

// resume goes on with a body of which a part was gathered.
func (s *source) resume(mirrors []*mirror) {
	s.mirrors = mirrors
	for _, m := range mirrors {
		for i := range s.chunks {
			m.offer(s.chunks[i].b.B[:s.chunks[i].n])
		}
		if s.eof {
			m.end(s.trailers())
		}
	}
}

// release gives the room back, when the source was dropped.
func (g *gathered) release(o *resilience.Overload) {
	if g.room > 0 {
		o.Release(resilience.Bytes, g.room)
	}
	*g = gathered{}
}
