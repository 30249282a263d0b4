package http1

import (
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/internal/buf"
)

func TestMain(m *testing.M) {
	buf.SetPoison(true)
	goleak.VerifyTestMain(m)
}

// half is one direction of an in-memory connection.
type half struct {
	mu       sync.Mutex
	cond     *sync.Cond
	b        []byte
	eof      bool
	err      error
	deadline time.Time
	timer    *time.Timer
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) ready() bool { return len(h.b) > 0 || h.eof || h.err != nil }

func (h *half) expired() bool { return !h.deadline.IsZero() && !time.Now().Before(h.deadline) }

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.err != nil:
			return 0, h.err
		case h.expired():
			return 0, os.ErrDeadlineExceeded
		case p == nil && h.ready():
			return 0, nil
		case len(h.b) > 0:
			n := copy(p, h.b)
			h.b = h.b[n:]
			return n, nil
		case h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) setDeadline(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline = t
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
	if !t.IsZero() {
		h.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cond.Broadcast()
		})
	}
	h.cond.Broadcast()
}

func (h *half) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.eof = true
	} else if h.err == nil {
		h.err = err
	}
	if h.timer != nil {
		h.timer.Stop()
	}
	h.cond.Broadcast()
}

// pipe is one end of a buffered in-memory connection, with the optional methods
// of a tunnel.
type pipe struct {
	in, out *half
	writes  int
	grain   int // largest read; 0: any
}

func newPipe() (a, b *pipe) {
	x, y := newHalf(), newHalf()
	return &pipe{in: x, out: y}, &pipe{in: y, out: x}
}

func (p *pipe) Read(b []byte) (int, error) {
	if p.grain > 0 && len(b) > p.grain {
		b = b[:p.grain]
	}
	return p.in.read(b)
}

func (p *pipe) Write(b []byte) (int, error) {
	p.writes++
	h := p.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil || h.eof {
		return 0, io.ErrClosedPipe
	}
	h.b = append(h.b, b...)
	h.cond.Broadcast()
	return len(b), nil
}

func (p *pipe) WaitReadable() error { _, err := p.in.read(nil); return err }

func (p *pipe) Readable() bool {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	return p.in.ready()
}

func (p *pipe) CloseWrite() error { p.out.end(nil); return nil }

func (p *pipe) Close() error {
	p.out.end(nil)
	p.in.end(io.ErrClosedPipe)
	return nil
}

func (p *pipe) Reset() {
	p.out.end(io.ErrUnexpectedEOF)
	p.in.end(io.ErrClosedPipe)
}

func (p *pipe) SetDeadline(t time.Time) error      { p.in.setDeadline(t); return nil }
func (p *pipe) SetReadDeadline(t time.Time) error  { p.in.setDeadline(t); return nil }
func (p *pipe) SetWriteDeadline(t time.Time) error { return nil }

// bare hides the optional methods.
type bare struct{ p *pipe }

func (b bare) Read(p []byte) (int, error)         { return b.p.Read(p) }
func (b bare) Write(p []byte) (int, error)        { return b.p.Write(p) }
func (b bare) CloseWrite() error                  { return b.p.CloseWrite() }
func (b bare) Close() error                       { return b.p.Close() }
func (b bare) Reset()                             { b.p.Reset() }
func (b bare) SetDeadline(t time.Time) error      { return b.p.SetDeadline(t) }
func (b bare) SetReadDeadline(t time.Time) error  { return b.p.SetReadDeadline(t) }
func (b bare) SetWriteDeadline(t time.Time) error { return nil }

// script is a connection whose peer has said all it will say.
type script struct {
	in     []byte
	pos    int
	out    []byte
	grain  int
	closed bool
}

func (s *script) Read(p []byte) (int, error) {
	if s.pos == len(s.in) {
		return 0, io.EOF
	}
	if s.grain > 0 && len(p) > s.grain {
		p = p[:s.grain]
	}
	n := copy(p, s.in[s.pos:])
	s.pos += n
	return n, nil
}
func (s *script) Write(p []byte) (int, error)        { s.out = append(s.out, p...); return len(p), nil }
func (s *script) CloseWrite() error                  { return nil }
func (s *script) Close() error                       { s.closed = true; return nil }
func (s *script) Reset()                             { s.closed = true }
func (s *script) SetDeadline(t time.Time) error      { return nil }
func (s *script) SetReadDeadline(t time.Time) error  { return nil }
func (s *script) SetWriteDeadline(t time.Time) error { return nil }
