package proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

const (
	// mirrorAhead is how far a mirror may fall behind the request it copies. The
	// request never waits for it: a mirror that is too slow is given up.
	mirrorAhead = 256 << 10
	// maxMirrors bounds the copies under way, so that a mirror that hangs cannot
	// hold more and more; further ones are not made.
	maxMirrors = 1024
	// mirrorWait is how long the answer to a mirror is waited for when the route
	// has no timeout.
	mirrorWait = time.Minute
)

// mirror is one copy of a request on its way to another backend. Its answer is
// dropped.
type mirror struct {
	p       *Proxy
	target  *config.Target
	head    codec.RequestHead // owned copies
	h2      bool              // the client spoke HTTP/2
	timeout time.Duration
	hasBody bool

	mu       sync.Mutex
	wake     sync.Cond
	queue    []chunk // guarded by mu
	held     int     // guarded by mu: bytes in queue
	trailers []attrs.Field
	eof      bool // guarded by mu
	gone     bool // guarded by mu: the request ended early, or the mirror did
}

// mirrorCount counts copies under way.
type mirrorCount struct{ n, dropped atomic.Int64 }

// mirror starts the copies that the matched rule and the backend ask for.
func (x *exchange) mirror() {
	if x.up.Upgrade != "" {
		return // a byte stream has no copy
	}
	x.picked = x.backend.AppendMirrors(x.picked[:0], rand.Uint64())
	for _, m := range x.picked {
		target := x.chain.Target(m.Ref)
		if target == nil || target.Spec.Load().Missing != "" {
			continue
		}
		if x.p.mirrors.n.Add(1) > maxMirrors {
			x.p.mirrors.n.Add(-1)
			x.p.mirrors.dropped.Add(1)
			continue
		}
		c := &mirror{p: x.p, target: target, h2: x.in.Version == codec.HTTP2, timeout: or(x.timeout, mirrorWait), hasBody: x.in.Length != 0}
		c.wake.L = &c.mu
		c.head = cloneHead(&x.up)
		if c.hasBody {
			x.mirrors = append(x.mirrors, c)
		}
		x.p.workers.do(c)
	}
	clear(x.picked)
}

// cloneHead copies a borrowed head.
func cloneHead(h *codec.RequestHead) codec.RequestHead {
	c := *h
	c.Expect = false // nobody waits for the mirror's consent
	c.Method, c.Scheme, c.Authority, c.Target = strings.Clone(h.Method), strings.Clone(h.Scheme), strings.Clone(h.Authority), strings.Clone(h.Target)
	c.Fields = cloneFields(h.Fields)
	return c
}

func cloneFields(fs []attrs.Field) []attrs.Field {
	out := make([]attrs.Field, len(fs))
	for i, f := range fs {
		out[i] = attrs.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)}
	}
	return out
}

// offer gives the mirror a copy of p. It never blocks.
func (m *mirror) offer(p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone || len(p) == 0 {
		return
	}
	if m.held+len(p) > mirrorAhead {
		m.stopLocked()
		m.p.mirrors.dropped.Add(1)
		return
	}
	m.held += len(p)
	for len(p) > 0 {
		b := buf.Take(min(len(p), chunkSize))
		n := copy(b.B, p)
		m.queue = append(m.queue, chunk{b, n})
		p = p[n:]
	}
	m.wake.Signal()
}

// end says that the body is complete.
func (m *mirror) end(trailers []attrs.Field) {
	m.mu.Lock()
	if !m.gone {
		m.eof, m.trailers = true, cloneFields(trailers)
	}
	m.wake.Signal()
	m.mu.Unlock()
}

// stop ends the mirror of a request that did not come to its end.
func (m *mirror) stop() {
	m.mu.Lock()
	if !m.eof {
		m.stopLocked()
	}
	m.mu.Unlock()
}

func (m *mirror) stopLocked() {
	m.gone = true
	for i := range m.queue {
		m.queue[i].b.Release()
	}
	m.queue = nil
	m.wake.Signal()
}

// run implements task.
func (m *mirror) run() {
	defer m.p.mirrors.n.Add(-1)
	defer func() {
		if r := recover(); r != nil {
			m.p.panicked("mirror", r)
		}
		m.mu.Lock()
		m.stopLocked()
		m.mu.Unlock()
	}()
	st := stateOf(m.target)
	ep := m.target.Set.Load().Pick(0, nil, 0)
	if ep == nil || st.limits.AcquireRequest() != nil {
		return
	}
	defer st.limits.ReleaseRequest()
	ep.Host.Active.Add(1)
	defer ep.Host.Active.Add(-1)
	spec := m.target.Spec.Load()
	l, err := m.p.poolOf(ep.Host).lease(m, want{ep: ep, set: &spec.Settings, st: st, multiplexed: multiplexed(spec, m.h2), deadline: time.Now().Add(m.timeout)})
	if err != nil {
		return
	}
	if err := m.send(l.Client); err != nil {
		l.Abort(codec.AbortCancel)
	}
	l.Release()
}

// interruptible implements lessee: nobody waits for a mirror, and none leaves.
func (m *mirror) interruptible() (context.Context, func()) { return m.p.ctx, func() {} }

// send writes the request as it comes in and reads the answer away.
func (m *mirror) send(cl codec.Client) error {
	f := codec.More
	if !m.hasBody {
		f = codec.End
	}
	if err := cl.SetWriteDeadline(time.Now().Add(m.timeout)); err != nil {
		return err
	}
	if err := cl.WriteHead(&m.head, f); err != nil {
		return err
	}
	for last := !m.hasBody; !last; {
		c, end, ok := m.take()
		if !ok {
			return errStale
		}
		last = end
		f = 0
		if last && len(m.trailers) == 0 {
			f = codec.End
		}
		// Each piece has the mirror's time anew: the client sets the pace.
		if err := cl.SetWriteDeadline(time.Now().Add(m.timeout)); err != nil {
			c.b.Release()
			return err
		}
		var p []byte
		if c.b != nil {
			p = c.b.B[:c.n]
		}
		err := cl.WriteBody(p, f)
		c.b.Release()
		if err != nil {
			return err
		}
		if last && len(m.trailers) > 0 {
			if err := cl.WriteTrailers(m.trailers); err != nil {
				return err
			}
		}
	}
	if err := cl.SetReadDeadline(time.Now().Add(m.timeout)); err != nil {
		return err
	}
	for {
		h, err := cl.ReadHead()
		if err != nil {
			return err
		}
		if h.Status >= 200 {
			break
		}
	}
	b := buf.Take(chunkSize)
	defer b.Release()
	for {
		if _, err := cl.Read(b.B); err == io.EOF {
			_ = cl.SetWriteDeadline(time.Time{})
			return cl.SetReadDeadline(time.Time{})
		} else if err != nil {
			return err
		}
	}
}

// take waits for the next piece of the body. end says that it is the last one.
func (m *mirror) take() (c chunk, end, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) == 0 && !m.eof && !m.gone {
		m.wake.Wait()
	}
	if m.gone {
		return c, false, false
	}
	if len(m.queue) > 0 {
		c = m.queue[0]
		m.queue[0] = chunk{}
		m.queue = m.queue[1:]
		m.held -= c.n
	}
	return c, m.eof && len(m.queue) == 0, true
}
