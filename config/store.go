package config

import (
	"sync"
	"sync/atomic"
)

// Store holds the snapshot that serves. The zero value is ready for use and
// serves nothing. Load is safe for concurrent use and costs one atomic read.
type Store struct {
	cur atomic.Pointer[Snapshot]

	mu       sync.Mutex // orders swaps and the calls of watchers
	watchers map[int]func(old, new *Snapshot)
	next     int
}

// Load returns the snapshot that serves, nil before the first Swap.
func (s *Store) Load() *Snapshot { return s.cur.Load() }

// Swap makes n serve: its chains, then the new endpoint sets; hosts that are no
// longer in any set are marked Gone after that, so that no request is sent to a
// host whose pool already drains. It returns the snapshot that served before.
func (s *Store) Swap(n *Snapshot) *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.cur.Swap(n)
	if n != nil {
		n.commit()
	}
	for _, f := range s.watchers {
		f(old, n)
	}
	return old
}

// Watch calls f after every Swap until stop is called; not concurrently, and not
// after stop returned. f must not call Swap, Watch or stop.
func (s *Store) Watch(f func(old, new *Snapshot)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = make(map[int]func(old, new *Snapshot))
	}
	id := s.next
	s.next++
	s.watchers[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, id)
	}
}
