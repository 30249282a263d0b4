package proxy

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/resilience"
)

const (
	// replayPerRequest is how much of one body is kept for another attempt:
	// Envoy's default per_request_buffer_limit_bytes, 1 MiB.
	replayPerRequest = 1 << 20
	// chunkSize is what a body is read and kept by: one HTTP/2 DATA frame of the
	// usual size (RFC 9113 section 4.2).
	chunkSize = 16 << 10
)

// errStale tells the pump of an attempt that was given up to end.
var errStale = errors.New("proxy: attempt given up")

// source is the request body. One attempt after another can read it from its
// start: what was read is kept until the request can no longer be retried.
//
// Locks are taken in the order reading, mu, turn.
type source struct {
	// fixed behind reset
	srv     codec.Server
	budget  *resilience.ReplayBudget
	mirrors []*mirror // they get a copy of what is read
	guarded []string  // names that no trailer may have, set before the body is forwarded

	// reading is held while the client is read: what the pump of an attempt that
	// was given up still receives is kept for the next one.
	reading sync.Mutex
	count   *messageCount // guarded by reading; nil unless gRPC

	mu     sync.Mutex
	chunks []chunk // guarded by mu: kept, from offset 0 on
	end    int64   // guarded by mu: bytes read from the client
	eof    bool    // guarded by mu
	err    error   // guarded by mu: the client's, sticky
	held   int     // guarded by mu: charged to budget
	pinned int64   // guarded by mu: so many bytes are kept without the budget, see gather

	turn sync.Mutex // held for moments only, never around I/O
	gen  int        // guarded by turn: the attempt whose pump reads
	lost bool       // guarded by turn: the start is not kept, no further attempt

	complete atomic.Bool // eof was read
	failed   atomic.Bool // err is set
}

type chunk struct {
	b *buf.Buf
	n int
}

// reset prepares s for the body of srv.
func (s *source) reset(srv codec.Server, b *resilience.ReplayBudget) {
	s.srv, s.budget = srv, b
	s.gen, s.lost = 0, false
	s.complete.Store(false)
	s.failed.Store(false)
	s.end, s.eof, s.err = 0, false, nil
	s.count, s.mirrors = nil, nil
	s.pinned = 0
}

// drop releases what is kept, once no pump runs any more.
func (s *source) drop() {
	s.mu.Lock()
	s.free()
	s.srv, s.mirrors = nil, nil
	s.mu.Unlock()
	// A request without a body does not reset s: it must not find another's end.
	s.complete.Store(false)
	s.failed.Store(false)
}

func (s *source) free() {
	for i := range s.chunks {
		s.chunks[i].b.Release()
		s.chunks[i] = chunk{}
	}
	s.chunks = s.chunks[:0]
	if s.held > 0 {
		s.budget.Release(s.held)
		s.held = 0
	}
}

// again gives the body to a new attempt and returns its number, or false when
// the start of the body is gone.
func (s *source) again() (gen int, ok bool) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.lost || s.failed.Load() {
		return 0, false
	}
	s.gen++
	return s.gen, true
}

// forget says that no further attempt will come.
func (s *source) forget() {
	s.turn.Lock()
	s.lost = true
	s.turn.Unlock()
}

// next copies the bytes at offset pos into p for attempt gen: kept ones if there
// are any, else from the client, for which it may block. io.EOF may come with
// the last bytes.
func (s *source) next(p []byte, pos int64, gen int) (int, error) {
	if n, err, ok := s.kept(p, pos, gen, false); ok {
		return n, err
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	// The pump before may have read on meanwhile.
	if n, err, ok := s.kept(p, pos, gen, true); ok {
		return n, err
	}
	n, err := s.srv.Read(p)
	if s.count != nil {
		s.count.add(p[:n])
	}
	for _, m := range s.mirrors {
		m.offer(p[:n])
		switch {
		case err == io.EOF:
			m.end(s.trailers())
		case err != nil:
			m.stop()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took(p[:n], gen)
	switch {
	case err == io.EOF:
		s.eof = true
		s.complete.Store(true)
	case err != nil:
		s.err = err
		s.failed.Store(true)
	}
	return n, err
}

// kept answers next without the client, if it can. reader says that the client
// is read if it cannot.
func (s *source) kept(p []byte, pos int64, gen int, reader bool) (n int, err error, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn.Lock()
	stale, lost := gen != s.gen, s.lost
	s.turn.Unlock()
	switch {
	case stale:
		return 0, errStale, true
	case pos < s.end:
		if n = s.copyKept(p, pos); pos+int64(n) == s.end && s.eof {
			err = io.EOF
		}
		return n, err, true
	case s.eof:
		return 0, io.EOF, true
	case s.err != nil:
		return 0, s.err, true
	case lost && reader:
		s.free() // this attempt has read it all and none follows
	}
	return 0, nil, false
}

// clientError is why the client could not be read, nil if it could.
func (s *source) clientError() error {
	if !s.failed.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *source) copyKept(p []byte, pos int64) int {
	for i := range s.chunks {
		c := &s.chunks[i]
		if pos < int64(c.n) {
			return copy(p, c.b.B[pos:c.n])
		}
		pos -= int64(c.n)
	}
	return 0
}

// took accounts for bytes that attempt gen has read, and keeps them if another
// attempt may need them. An attempt that was given up meanwhile always keeps
// them, whatever the bounds: its successor has no other way to get them. mu is
// held.
func (s *source) took(p []byte, gen int) {
	s.end += int64(len(p))
	s.turn.Lock()
	lost := s.lost
	s.turn.Unlock()
	if (lost || s.end > max(replayPerRequest, s.pinned)) && s.lose(gen) {
		return
	}
	if n := len(s.chunks); n > 0 {
		c := &s.chunks[n-1]
		m := copy(c.b.B[c.n:], p)
		c.n += m
		p = p[m:]
	}
	for len(p) > 0 {
		b := buf.Take(min(len(p), chunkSize))
		if s.end <= s.pinned {
			// its room was taken ahead
		} else if s.budget.Acquire(len(b.B)) {
			s.held += len(b.B)
		} else if s.lose(gen) {
			b.Release()
			return
		}
		n := copy(b.B, p)
		s.chunks = append(s.chunks, chunk{b, n})
		p = p[n:]
	}
}

// lose gives up on sending the body again, unless attempt gen was itself given
// up. mu is held.
func (s *source) lose(gen int) bool {
	s.turn.Lock()
	current := gen == s.gen
	s.lost = s.lost || current
	s.turn.Unlock()
	if current {
		s.free()
	}
	return current
}
