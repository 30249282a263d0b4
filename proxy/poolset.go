package proxy

import (
	"sync"
	"time"
)

// poolSet is all pools of a proxy, and the HTTP/2 connections that left theirs
// but still have streams.
type poolSet struct {
	mu      sync.Mutex
	pools   map[*hostPool]struct{} // guarded by mu
	leaving map[*h2Conn]struct{}   // guarded by mu
	closed  bool                   // guarded by mu
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
	s.mu.Lock()
	s.leaving[c] = struct{}{}
	s.mu.Unlock()
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
	s.mu.Lock()
	leaving := make([]*h2Conn, 0, len(s.leaving))
	for c := range s.leaving {
		select {
		case <-c.Done():
			delete(s.leaving, c)
		default:
			leaving = append(leaving, c)
		}
	}
	s.mu.Unlock()
	for _, c := range leaving {
		if c.goodbye.CompareAndSwap(false, true) {
			c.Shutdown()
		}
	}
}

// close closes everything at once.
func (s *poolSet) close() {
	s.mu.Lock()
	s.closed = true
	pools, leaving := s.pools, s.leaving
	s.init()
	s.mu.Unlock()
	for hp := range pools {
		hp.shut()
	}
	for c := range leaving {
		_ = c.Close()
	}
}

// evictIdle closes an idle connection that counts in st, if there is one.
func (s *poolSet) evictIdle(st *backendState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hp := range s.pools {
		if hp.evictIdle(st) {
			return true
		}
	}
	return false
}
