package http1

import (
	"errors"
	"io"
	"os"
	"time"

	"waypoint.dev/waypoint/proxy/codec"
)

// waitIdle waits for the first byte of a head while owning no buffer. What comes
// before and behind the wait has frames of its own, which are gone meanwhile: an
// idle connection's goroutine is mostly its stack.
func (s *ServerConn) waitIdle() error {
	if err := s.beginIdle(); err != nil {
		return err
	}
	if s.in.err == nil && s.in.wait != nil {
		return s.endIdle(s.in.wait.WaitReadable())
	}
	return s.endIdle(s.firstByte())
}

//go:noinline
func (s *ServerConn) beginIdle() error {
	s.in.endExchange()
	s.out.release()
	s.freeScratch()
	if s.opts.IdleTimeout > 0 {
		if err := s.c.SetReadDeadline(time.Now().Add(s.opts.IdleTimeout)); err != nil {
			return io.EOF
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		// The drain came behind the head of the last response, which so did not say
		// that it was the last.
		if s.c.SetReadDeadline(time.Now().Add(DrainGrace)) != nil {
			return io.EOF
		}
	}
	s.idle = true
	return nil
}

//go:noinline
func (s *ServerConn) endIdle(err error) error {
	s.mu.Lock()
	s.idle = false
	s.mu.Unlock()
	if err != nil && s.draining.Load() && s.readable() {
		// The request had arrived before the drain did: it is served.
		err = nil
		s.c.SetReadDeadline(time.Time{})
	} else if err == nil && (s.draining.Load() || s.opts.IdleTimeout > 0) {
		s.c.SetReadDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded):
		return io.EOF
	}
	return ioError(err, codec.ConnClosed)
}

// firstByte returns when a read has brought something.
//
//go:noinline
func (s *ServerConn) firstByte() error {
	if s.in.err != nil {
		return s.in.err
	}
	n, err := s.c.Read(s.tiny[:])
	if n > 0 {
		s.in.push(s.tiny[:n])
		if err != nil {
			s.in.fail(err)
		}
		return nil
	}
	return err
}

// readable reports whether something waits behind a deadline that passed.
func (s *ServerConn) readable() bool {
	r, ok := s.c.(interface{ Readable() bool })
	return ok && r.Readable()
}

// Idle reports whether the connection waits for the first byte of a head.
func (s *ServerConn) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle
}

// DrainGrace is how long an idle connection that drains waits for a last request.
// A client that is busy sends one within it and learns from the response that it
// must go elsewhere; closed at once, its request could cross the close, and no
// client may send a POST again (RFC 9112 section 9.5). Short beside a drain.
const DrainGrace = time.Second

// SetDraining makes the next response say Connection: close and be the last. An
// idle connection has [DrainGrace] for that; then Next returns io.EOF, unless a
// request has arrived. May be called from any goroutine, repeatedly.
func (s *ServerConn) SetDraining() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Swap(true) {
		return
	}
	if s.idle {
		s.c.SetReadDeadline(time.Now().Add(DrainGrace))
	}
}
