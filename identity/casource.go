package identity

import (
	"fmt"
	"sync"
	"time"
)

// retryAfter is the pause after an Issue that failed.
const retryAfter = time.Second

// caSource is a [Source] that a [CA] feeds. It rotates at half life, as istiod's
// agents do (SECRET_GRACE_PERIOD_RATIO 0.5).
type caSource struct {
	Store

	// Fixed after Source.
	ca     *CA
	ns, sa string
	ttl    time.Duration

	mu     sync.Mutex // serializes rotations
	timer  *time.Timer
	closed bool
}

// Source returns an identity that renews itself at half of ttl. It panics when
// ns and sa cannot stand in a SPIFFE id, or ttl is not positive.
func (ca *CA) Source(ns, sa string, ttl time.Duration) Source {
	if ttl <= 0 {
		panic("identity: ttl must be positive")
	}
	svid, err := ca.Issue(ns, sa, ttl)
	if err != nil {
		panic(fmt.Sprintf("identity: %v", err))
	}
	s := &caSource{ca: ca, ns: ns, sa: sa, ttl: ttl}
	ca.mu.Lock()
	s.Set(svid, ca.bundleLocked())
	ca.sources[s] = struct{}{}
	ca.mu.Unlock()
	s.mu.Lock()
	s.timer = time.AfterFunc(ttl/2, s.rotate)
	s.mu.Unlock()
	return s
}

// rotate issues the next certificate and plans the one after.
func (s *caSource) rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	svid, err := s.ca.Issue(s.ns, s.sa, s.ttl)
	if err != nil {
		s.timer.Reset(min(retryAfter, s.ttl/2))
		return
	}
	s.Set(svid, nil)
	s.timer.Reset(s.ttl / 2)
}

// Close implements [Source].
func (s *caSource) Close() error {
	s.ca.mu.Lock()
	delete(s.ca.sources, s)
	s.ca.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
	return nil
}
