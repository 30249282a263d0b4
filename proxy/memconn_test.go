package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"waypoint.dev/waypoint/hbone"
)

// memConn is one end of an in-memory byte stream with half close, reset,
// deadlines and a bounded buffer. It works inside synctest bubbles.
type memConn struct {
	r, w *memPipe
}

var (
	_ hbone.Conn = (*memConn)(nil)
	_ net.Conn   = (*memConn)(nil)
)

// memPair returns the two ends; limit bounds the bytes under way each way.
func memPair(limit int) (*memConn, *memConn) {
	a, b := newMemPipe(limit), newMemPipe(limit)
	return &memConn{r: a, w: b}, &memConn{r: b, w: a}
}

type memPipe struct {
	mu     sync.Mutex
	cond   *sync.Cond
	data   []byte
	limit  int
	eof    bool  // writer closed
	err    error // reset
	closed bool  // reader closed
	onEnd  func()

	rd, wd         time.Time
	rtimer, wtimer *time.Timer
}

func newMemPipe(limit int) *memPipe {
	p := &memPipe{limit: limit}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (p *memPipe) wait(wait func() bool, deadline *time.Time) error {
	for wait() {
		if past(*deadline) {
			return os.ErrDeadlineExceeded
		}
		p.cond.Wait()
	}
	return nil
}

func (p *memPipe) empty() bool { return len(p.data) == 0 && !p.eof && p.err == nil && !p.closed }

func (p *memPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if past(p.rd) {
		return 0, os.ErrDeadlineExceeded
	}
	if err := p.wait(p.empty, &p.rd); err != nil {
		return 0, err
	}
	switch {
	case p.closed:
		return 0, net.ErrClosed
	case len(p.data) > 0:
		n := copy(b, p.data)
		p.data = append(p.data[:0], p.data[n:]...)
		p.cond.Broadcast()
		return n, nil
	case p.err != nil:
		return 0, p.err
	}
	return 0, io.EOF
}

func (p *memPipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		if past(p.wd) {
			return n, os.ErrDeadlineExceeded
		}
		full := func() bool { return len(p.data) >= p.limit && !p.eof && p.err == nil && !p.closed }
		if err := p.wait(full, &p.wd); err != nil {
			return n, err
		}
		switch {
		case p.err != nil:
			return n, p.err
		case p.eof || p.closed:
			return n, io.ErrClosedPipe
		}
		m := min(len(b), p.limit-len(p.data))
		p.data = append(p.data, b[:m]...)
		b, n = b[m:], n+m
		p.cond.Broadcast()
	}
	return n, nil
}

func (p *memPipe) set(f func()) {
	p.mu.Lock()
	f()
	p.cond.Broadcast()
	p.mu.Unlock()
}

func (p *memPipe) deadline(d *time.Time, timer **time.Timer, t time.Time) {
	p.set(func() {
		*d = t
		if *timer != nil {
			(*timer).Stop()
			*timer = nil
		}
		if !t.IsZero() {
			*timer = time.AfterFunc(time.Until(t), func() { p.set(func() {}) })
		}
	})
}

func (c *memConn) Read(b []byte) (int, error)      { return c.r.read(b) }
func (c *memConn) Write(b []byte) (int, error)     { return c.w.write(b) }
func (c *memConn) WriteMore(b []byte) (int, error) { return c.w.write(b) }

// end ends what the writer says.
func (p *memPipe) end() {
	p.set(func() {
		if p.eof = true; p.onEnd != nil {
			p.onEnd()
		}
	})
}

// OnEnd and OnReset make it one that a tunnel is watched by; a reset is not told.
func (c *memConn) OnEnd(f func()) {
	c.r.set(func() { c.r.onEnd = f })
}
func (c *memConn) OnReset(func()) {}

func (c *memConn) CloseWrite() error {
	c.w.end()
	return nil
}

func (c *memConn) Close() error {
	c.w.end()
	c.r.set(func() { c.r.closed = true })
	_ = c.SetDeadline(time.Time{})
	return nil
}

func (c *memConn) Reset() {
	for _, p := range []*memPipe{c.r, c.w} {
		p.set(func() {
			if p.err == nil {
				p.err = errMemReset // what was sent before still arrives
			}
		})
	}
	_ = c.SetDeadline(time.Time{})
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.r.deadline(&c.r.rd, &c.r.rtimer, t)
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.w.deadline(&c.w.wd, &c.w.wtimer, t)
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memConn) WaitReadable() error {
	p := c.r
	p.mu.Lock()
	defer p.mu.Unlock()
	if past(p.rd) {
		return os.ErrDeadlineExceeded
	}
	return p.wait(p.empty, &p.rd)
}

func (c *memConn) Readable() bool {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	return !c.r.empty()
}

func (c *memConn) WriteTo(w io.Writer) (n int64, err error) {
	b := make([]byte, 4<<10)
	for {
		m, err := c.Read(b)
		if m > 0 {
			k, werr := w.Write(b[:m])
			n += int64(k)
			if werr != nil {
				return n, werr
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func (c *memConn) LocalAddr() net.Addr  { return tunnelAddr{} }
func (c *memConn) RemoteAddr() net.Addr { return tunnelAddr{} }

type memError string

func (e memError) Error() string { return string(e) }

const errMemReset = memError("mem: reset")
