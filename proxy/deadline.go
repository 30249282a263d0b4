package proxy

import (
	"sync"
	"time"

	"waypoint.dev/waypoint/proxy/codec"
)

// clock holds the deadlines of an exchange. Its clock starts when the request
// has been received (Envoy: onRequestComplete), which the pump may notice while
// the response is already being read; hence the lock.
type clock struct {
	timed bool          // some timeout is set; fixed once the route is known
	over  time.Time     // end of the exchange since its head arrived, zero: none; fixed like timed
	most  time.Duration // of one attempt, 0: none; fixed during an attempt

	mu       sync.Mutex
	deadline time.Time // guarded by mu while a pump runs: end of the whole exchange
	tryBy    time.Time // guarded by mu: end of the attempt's wait for a head
	streamBy time.Time // guarded by mu: end of the attempt
	headSeen bool      // guarded by mu
	received bool      // guarded by mu: the request is complete
	last     time.Time // guarded by mu: last progress, for the idle timeout
}

// clockStarts is called before the first attempt.
func (x *exchange) clockStarts() {
	if d := x.result.Rule.Rule.MaxDuration; d > 0 {
		x.over = x.rec.Start.Add(d)
	}
	x.most = x.target.Spec.Load().Settings.MaxStreamDuration
	x.timed = x.timeout > 0 || x.tryTimeout > 0 || x.idle > 0 || x.most > 0 || !x.over.IsZero()
	if !x.timed {
		return
	}
	x.clock.mu.Lock()
	x.last = time.Now()
	if x.in.Length == 0 {
		x.receivedLocked(x.last)
	}
	x.clock.mu.Unlock()
}

func (x *exchange) receivedLocked(now time.Time) {
	x.received = true
	if x.timeout > 0 {
		x.deadline = now.Add(x.timeout)
	}
}

// requestSent is called when the whole request went to cl.
func (x *exchange) requestSent(cl codec.Client) {
	if !x.timed {
		return
	}
	x.clock.mu.Lock()
	defer x.clock.mu.Unlock()
	now := time.Now()
	if !x.received {
		x.receivedLocked(now)
	}
	x.last = now
	if x.tryTimeout > 0 && !x.headSeen {
		x.tryBy = now.Add(x.tryTimeout)
	}
	_ = cl.SetReadDeadline(x.boundLocked())
}

// newAttempt forgets the last attempt's timer.
func (x *exchange) newAttempt() {
	if !x.timed {
		return
	}
	x.clock.mu.Lock()
	x.tryBy, x.headSeen, x.last = time.Time{}, false, time.Now()
	if x.streamBy = (time.Time{}); x.most > 0 {
		x.streamBy = x.last.Add(x.most)
	}
	x.clock.mu.Unlock()
}

// progressed is called when bytes moved. cl is the reader to be bounded anew.
func (x *exchange) progressed(cl codec.Client, head bool) {
	if !x.timed {
		return
	}
	x.clock.mu.Lock()
	defer x.clock.mu.Unlock()
	if head {
		x.headSeen, x.tryBy = true, time.Time{}
		// A client too slow to take the answer is bounded by the same timeouts.
		if d := x.endLocked(); !d.IsZero() {
			_ = x.srv.SetWriteDeadline(d)
		}
	} else if x.idle == 0 && x.most == 0 && x.over.IsZero() {
		return
	}
	x.last = time.Now()
	_ = cl.SetReadDeadline(x.boundLocked())
}

// boundLocked is when the next read of the response must have returned.
func (x *exchange) boundLocked() time.Time {
	d := earlier(x.endLocked(), x.tryBy)
	if x.idle > 0 {
		d = earlier(d, x.last.Add(x.idle))
	}
	return d
}

// endLocked is when the attempt must be over whatever happens.
func (x *exchange) endLocked() time.Time { return earlier(earlier(x.deadline, x.streamBy), x.over) }

// earlier returns the earlier of two times; zero is no time.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// whichTimeout says which of the deadlines passed.
func (x *exchange) whichTimeout() failure {
	x.clock.mu.Lock()
	defer x.clock.mu.Unlock()
	now := time.Now()
	switch {
	case !x.deadline.IsZero() && !now.Before(x.deadline):
		return failTimeout
	case !x.over.IsZero() && !now.Before(x.over):
		return failDuration
	case !x.streamBy.IsZero() && !now.Before(x.streamBy):
		return failStreamDuration
	case !x.tryBy.IsZero() && !now.Before(x.tryBy):
		return failTryTimeout
	case x.idle > 0:
		return failIdle
	}
	return failTimeout
}

// due is the end of the whole exchange, zero while none is known.
func (x *exchange) due() time.Time {
	if !x.timed {
		return time.Time{}
	}
	x.clock.mu.Lock()
	defer x.clock.mu.Unlock()
	return earlier(x.deadline, x.over)
}

// upgraded ends the route's timeouts, which are for the handshake. What is left is
// when the byte stream has to end, zero: never.
func (x *exchange) upgraded() time.Time {
	x.clock.mu.Lock()
	defer x.clock.mu.Unlock()
	x.deadline, x.tryBy = time.Time{}, time.Time{}
	return earlier(x.over, x.streamBy)
}

// expired reports whether the whole exchange is out of time.
func (x *exchange) expired() bool {
	d := x.due()
	return !d.IsZero() && !time.Now().Before(d)
}

// clockEnds takes the deadline off a connection that is to be kept.
func (x *exchange) clockEnds(cl codec.Client) {
	if x.timed {
		x.clock.mu.Lock()
		_ = cl.SetReadDeadline(time.Time{})
		x.clock.mu.Unlock()
	}
}

// clientClockEnds does the same on the client's side.
func (x *exchange) clientClockEnds() {
	if x.timed {
		_ = x.srv.SetWriteDeadline(time.Time{})
	}
}

func (c *clock) reset() {
	c.timed, c.headSeen, c.received, c.most = false, false, false, 0
	c.over, c.deadline, c.tryBy, c.streamBy, c.last = time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
}
