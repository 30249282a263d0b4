package proxy

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/internal/buf"
)

// duplex is a byte stream that can end each way on its own.
type duplex interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// splice copies bytes both ways between two streams until both ways have ended.
// Each copy writes before it reads on, so a slow reader slows its sender.
type splice struct {
	client, backend duplex
	ahead           []byte // of the client, read before; borrowed until run returns

	received, sent atomic.Int64 // bytes from and to the client

	mu    sync.Mutex
	timer *time.Timer // guarded by mu
	seen  int64       // guarded by mu: bytes at the timer's last look
	quiet int         // guarded by mu: looks since they moved
	done  bool        // guarded by mu
	ended atomic.Uint32
}

// How a splice ended.
const (
	endedClean uint32 = iota
	endedIdle
	endedClient  // the client's side failed
	endedBackend // the backend's side failed
	endedCut
	endedLate // its time was up
)

// upward is the copy from client to backend, run by a worker.
type upward struct {
	s    *splice
	done chan struct{}
}

func (u *upward) run() {
	defer close(u.done)
	u.s.copy(u.s.backend, u.s.client, &u.s.received, u.s.ahead, endedClient, endedBackend)
}

// run copies until the end. idle is the longest both ways may be silent.
func (s *splice) run(w *workers, idle time.Duration) {
	if idle > 0 {
		s.mu.Lock()
		pause := max(idle/looks, 1)
		s.timer = time.AfterFunc(pause, func() { s.look(pause) })
		s.mu.Unlock()
	}
	up := &upward{s: s, done: make(chan struct{})}
	w.do(up)
	s.copy(s.client, s.backend, &s.sent, nil, endedBackend, endedClient)
	<-up.done
	s.mu.Lock()
	s.done = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
}

// looks is how often the timer looks while a splice may be silent, which may end it
// later by one pause. So no deadline has to be set for each piece copied.
const looks = 8

// look ends the splice if nothing moved for so many looks.
func (s *splice) look(pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return
	}
	if n := s.received.Load() + s.sent.Load(); n != s.seen {
		s.seen, s.quiet = n, 0
		s.timer.Reset(pause)
		return
	}
	if s.quiet++; s.quiet < looks {
		s.timer.Reset(pause)
		return
	}
	s.end(endedIdle)
}

// end ends both ways at once, for the reason that comes first.
func (s *splice) end(why uint32) {
	s.ended.CompareAndSwap(endedClean, why)
	abort(s.client)
	abort(s.backend)
}

// abort resets d if it can, else closes it.
func abort(d duplex) {
	if r, ok := d.(interface{ Reset() }); ok {
		r.Reset()
		return
	}
	_ = d.Close()
}

// meter counts what is written through it, and remembers whether the writer failed.
type meter struct {
	w      io.Writer
	n      *atomic.Int64
	failed bool
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.n.Add(int64(n))
	if err != nil {
		m.failed = true
	}
	return n, err
}

// copy moves one way to its end and passes the half close on. A failure ends
// both ways.
func (s *splice) copy(dst, src duplex, n *atomic.Int64, ahead []byte, srcFailed, dstFailed uint32) {
	m := &meter{w: dst, n: n}
	var err error
	if len(ahead) > 0 {
		_, err = m.Write(ahead)
	}
	if err == nil {
		if wt, ok := src.(io.WriterTo); ok {
			_, err = wt.WriteTo(m)
		} else {
			err = copyBytes(m, src)
		}
	}
	if err == nil || errors.Is(err, io.EOF) && !m.failed {
		if dst.CloseWrite() != nil {
			s.end(dstFailed)
		}
		return
	}
	if m.failed {
		s.end(dstFailed)
	} else {
		s.end(srcFailed)
	}
}

func copyBytes(dst io.Writer, src io.Reader) error {
	b := buf.Take(chunkSize)
	defer b.Release()
	for {
		n, err := src.Read(b.B)
		if n > 0 {
			if _, werr := dst.Write(b.B[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
