package h2

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memPipe is one direction of an in-memory connection.
type memPipe struct {
	mu       sync.Mutex
	cond     sync.Cond
	buf      []byte
	off      int
	limit    int  // writers block above this; 0: never
	closed   bool // no more writes; readers drain, then EOF
	broken   bool // the reader is gone
	deadline time.Time
	timer    *time.Timer
}

func newMemPipe(limit int) *memPipe {
	p := &memPipe{limit: limit}
	p.cond.L = &p.mu
	return p
}

func (p *memPipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(b) > 0 {
		if p.closed || p.broken {
			return n, net.ErrClosed
		}
		room := len(b)
		if p.limit > 0 {
			room = min(room, p.limit-(len(p.buf)-p.off))
		}
		if room <= 0 {
			p.cond.Wait()
			continue
		}
		if p.off == len(p.buf) {
			p.buf, p.off = p.buf[:0], 0
		}
		p.buf = append(p.buf, b[:room]...)
		n += room
		b = b[room:]
		p.cond.Broadcast()
	}
	return n, nil
}

func (p *memPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.broken:
			return 0, net.ErrClosed
		case p.off < len(p.buf):
			n := copy(b, p.buf[p.off:])
			p.off += n
			p.cond.Broadcast()
			return n, nil
		case p.closed:
			return 0, io.EOF
		case !p.deadline.IsZero() && !time.Now().Before(p.deadline):
			return 0, os.ErrDeadlineExceeded
		}
		p.cond.Wait()
	}
}

func (p *memPipe) end(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.broken = p.broken || broken
	if p.timer != nil {
		p.timer.Stop()
	}
	p.cond.Broadcast()
}

func (p *memPipe) setDeadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	if p.timer != nil {
		p.timer.Stop()
	}
	if !t.IsZero() && !p.closed {
		p.timer = time.AfterFunc(time.Until(t), func() {
			p.mu.Lock()
			p.cond.Broadcast()
			p.mu.Unlock()
		})
	}
	p.cond.Broadcast()
}

// memConn is one end of an in-memory connection.
type memConn struct {
	in, out *memPipe
	writes  int
}

// memPair returns two connected ends; limit bounds what either way buffers.
func memPair(limit int) (a, b *memConn) {
	x, y := newMemPipe(limit), newMemPipe(limit)
	return &memConn{in: x, out: y}, &memConn{in: y, out: x}
}

func (c *memConn) Read(p []byte) (int, error) { return c.in.read(p) }

func (c *memConn) Write(p []byte) (int, error) {
	c.writes++ // the engine never writes from two goroutines at once
	return c.out.write(p)
}

func (c *memConn) CloseWrite() error {
	c.out.end(false)
	return nil
}

func (c *memConn) Close() error {
	c.in.end(true)
	c.out.end(false)
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}

func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
