package h2

import "errors"

// OnReset has f called when the peer resets the stream or the connection ends,
// even while nobody reads or writes it. A half close is not that, nor is our own
// Reset or Close. f runs under the connection's lock: it must neither block nor
// use the connection. If the stream has failed already f is called at once.
// OnReset(nil) stops it: f does not run any more when that returns.
func (s *Stream) OnReset(f func()) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.onReset = f
	if f != nil && s.werr != nil {
		s.tellReset(s.werr)
	}
}

// OnEnd has f called when the peer ends its side of the stream, even while nobody
// reads; what it sent before may still lie there. It is otherwise as OnReset, but for
// a peer that has ended it already, of which f is not told.
func (s *Stream) OnEnd(f func()) {
	s.c.mu.Lock()
	s.onEnd = f
	s.c.mu.Unlock()
}

// tellEnd calls the function that OnEnd left, once. c.mu is held.
func (s *Stream) tellEnd() {
	if f := s.onEnd; f != nil {
		s.onEnd = nil
		f()
	}
}

// tellReset calls the function that OnReset left, unless err is our own doing.
// c.mu is held.
func (s *Stream) tellReset(err error) {
	f := s.onReset
	if f == nil || errors.Is(err, ErrReleased) {
		return
	}
	var se *StreamError
	if errors.As(err, &se) && !se.Remote {
		return
	}
	s.onReset = nil
	f()
}
