package h2

import (
	"errors"
	"os"
	"time"
)

var errDeadline = os.ErrDeadlineExceeded

// A deadline is armed only while somebody waits, so moving one that nothing
// waits for costs no timer. Guarded by the lock of its side of the stream.
type deadline struct {
	at      int64 // as Conn.now; 0: none
	armed   int64 // when the timer fires; 0: it does not
	waiting int   // goroutines in a wait
	expired bool
	timer   *time.Timer
}

// set moves the deadline and says whether waiters must look again.
func (d *deadline) set(at, now int64, s *Stream) bool {
	d.at = at
	d.expired = at != 0 && at <= now
	if d.expired {
		return true
	}
	if d.waiting > 0 {
		d.arm(now, s)
	}
	return false
}

// wait prepares for waiting. It returns false, and sets expired, if it is too
// late for that; else the caller waits and then lowers waiting.
func (d *deadline) wait(s *Stream) bool {
	d.waiting++
	if d.at == 0 {
		return true
	}
	now := s.c.now()
	if d.at <= now {
		d.waiting--
		d.expired = true
		return false
	}
	d.arm(now, s)
	return true
}

func (d *deadline) arm(now int64, s *Stream) {
	if d.at == 0 || d.armed != 0 && d.armed <= d.at {
		return
	}
	d.armed = d.at
	switch {
	case d.timer != nil:
		d.timer.Reset(time.Duration(d.at - now))
	case d == &s.rd:
		d.timer = time.AfterFunc(time.Duration(d.at-now), s.readTimeout)
	default:
		d.timer = time.AfterFunc(time.Duration(d.at-now), s.writeTimeout)
	}
}

// fired handles the timer and says whether waiters must look again.
func (d *deadline) fired(s *Stream) bool {
	d.armed = 0
	if d.at == 0 || d.waiting == 0 {
		return false
	}
	now := s.c.now()
	if d.at <= now {
		d.expired = true
		return true
	}
	d.arm(now, s)
	return false
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at, d.armed = 0, 0
}

// at turns a deadline into connection time; the zero Time is none.
func (c *Conn) at(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(1, int64(t.Sub(c.start)))
}

// SetReadDeadline bounds Read, WriteTo's waits and ReadHead. Like that of a
// net.Conn it may be moved at any time, and the zero Time means none.
func (s *Stream) SetReadDeadline(t time.Time) error {
	at := s.c.at(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return ErrReleased
	}
	if s.rd.set(at, s.c.now(), s) {
		s.rcond.Broadcast()
	}
	return nil
}

// SetWriteDeadline bounds the waits of writes for windows and room.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	c := s.c
	at := c.at(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(s.werr, ErrReleased) {
		return ErrReleased
	}
	if s.wd.set(at, c.now(), s) {
		s.wcond.Broadcast()
		c.room.Broadcast()
	}
	return nil
}

// SetDeadline sets both.
func (s *Stream) SetDeadline(t time.Time) error {
	err := s.SetReadDeadline(t)
	if werr := s.SetWriteDeadline(t); err == nil {
		err = werr
	}
	return err
}

func (s *Stream) readTimeout() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rd.fired(s) {
		s.rcond.Broadcast()
	}
}

func (s *Stream) writeTimeout() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.wd.fired(s) {
		s.wcond.Broadcast()
		s.c.room.Broadcast()
	}
}
