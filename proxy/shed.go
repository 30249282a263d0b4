package proxy

import (
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
)

const (
	// holdFor is how long a tunnel without room waits for some. A refusal that comes
	// at once is followed by the next try at once, and refusing costs nearly as much
	// as serving: held back, a crowd costs nothing. Short beside the 10 s in which a
	// node proxy wants its answer.
	holdFor = 500 * time.Millisecond
	// maxHeld is how many wait: a goroutine each.
	maxHeld = 4096
	// maxInside is how many tunnels over the limit are answered inside at a time. A
	// refused CONNECT becomes a reset at the node proxy and tells the app nothing, so
	// the first of a crowd hear a 503.
	maxInside = 64
)

// takeRoom takes a place among the tunnels, for which it may wait. It reports
// false, and counts, when there is none.
func (t *tunnel) takeRoom() bool {
	p := t.p
	if p.overload.Try(resilience.Streams, 1) {
		return true
	}
	defer p.held.Add(-1)
	if p.held.Add(1) <= maxHeld {
		end := time.NewTimer(holdFor)
		defer end.Stop()
		for waiting := true; waiting; {
			select {
			case <-p.freed:
				if p.overload.Try(resilience.Streams, 1) {
					return true
				}
			case <-end.C:
				waiting = false
			case <-p.ctx.Done():
				waiting = false
			}
		}
	}
	return p.overload.Acquire(resilience.Streams, 1) == nil
}

// refuseInside reports whether a tunnel for which there is no room is taken all
// the same, for the one 503 that its app can read. Only where HTTP is declared: a
// tunnel that may be anything waits for its first bytes.
func (t *tunnel) refuseInside(c *config.Chain) bool {
	switch c.Spec.Protocol {
	case config.ProtocolTCP, config.ProtocolTLS, config.ProtocolAuto:
		return false
	}
	if t.p.inside.Add(1) > maxInside {
		t.p.inside.Add(-1)
		return false
	}
	t.over = true
	return true
}

// giveRoom returns what admit took.
func (t *tunnel) giveRoom() {
	p := t.p
	if t.over {
		p.inside.Add(-1)
		return
	}
	p.overload.Release(resilience.Streams, 1)
	if p.held.Load() > 0 {
		select {
		case p.freed <- struct{}{}:
		default: // enough are told already
		}
	}
}

// room takes a place among the requests under way, or sheds the request, before
// any work is done for it.
func (x *exchange) room() bool {
	if x.dry {
		return true
	}
	if x.t.over {
		x.shedFor(resilience.Streams)
		return false
	}
	if x.p.overload.Acquire(resilience.Requests, 1) != nil {
		x.shedFor(resilience.Requests)
		return false
	}
	x.placed = true
	return true
}

// giveRoom returns the place that room took. A second call does nothing.
func (x *exchange) giveRoom() {
	if x.placed {
		x.placed = false
		x.p.overload.Release(resilience.Requests, 1)
	}
}
