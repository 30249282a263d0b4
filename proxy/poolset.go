package proxy

import (
	"sync"
	"time"
)

// poolSet is all pools of a proxy, and the HTTP/2 connections that left theirs
// but still have streams.
//
// mu comes before the mutex of a pool, and away behind it.
type poolSet struct {
	mu     sync.Mutex
	pools  map[*hostPool]struct{} // guarded by mu
	closed bool                   // guarded by mu

	away    sync.Mutex
	leaving map[*h2Conn]struct{} // guarded by away
}

func (s *poolSet) init() {
	s.pools = make(map[*hostPool]struct{})
	s.leaving = make(map[*h2Conn]struct{})
}

func (s *poolSet) add(hp *hostPool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		hp.shut()
		return
	}
	s.pools[hp] = struct{}{}
	s.mu.Unlock()
}

// retired takes over a connection that gets no new streams.
func (s *poolSet) retired(c *h2Conn) {
	s.away.Lock()
	s.leaving[c] = struct{}{}
	s.away.Unlock()
}

// sweep closes what has idled too long, died, or lost its endpoint, and says
// GOAWAY to the connections that left.
func (s *poolSet) sweep(now time.Time) {
	s.mu.Lock()
	pools := make([]*hostPool, 0, len(s.pools))
	for hp := range s.pools {
		pools = append(pools, hp)
	}
	s.mu.Unlock()
	for _, hp := range pools {
		if hp.sweep(now) {
			s.mu.Lock()
			delete(s.pools, hp)
			s.mu.Unlock()
		}
	}
	s.away.Lock()
	leaving := make([]*h2Conn, 0, len(s.leaving))
	for c := range s.leaving {
		select {
		case <-c.Done():
			delete(s.leaving, c)
		default:
			leaving = append(leaving, c)
		}
	}
	s.away.Unlock()
	for _, c := range leaving {
		c.leave() // its streams may go on for long
	}
}

// close closes everything at once.
func (s *poolSet) close() {
	s.mu.Lock()
	s.closed = true
	pools := s.pools
	s.pools = make(map[*hostPool]struct{})
	s.mu.Unlock()
	for hp := range pools {
		hp.shut()
	}
	s.away.Lock()
	leaving := s.leaving
	s.leaving = make(map[*h2Conn]struct{})
	s.away.Unlock()
	for c := range leaving {
		_ = c.Close()
	}
}

// evictIdle closes an idle connection that counts in st, if there is one, to make
// room for another endpoint's.
func (s *poolSet) evictIdle(st *backendState) bool {
	if st.idle.Load() == 0 { // mostly: it is busy
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for hp := range s.pools {
		if hp.evictIdle(st) {
			return true
		}
	}
	return false
}
