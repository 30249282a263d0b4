package proxy

import (
	"sync"

	"waypoint.dev/waypoint/config"
)

// tunnelSet is the open tunnels, grouped by the connection they came on, whose
// drain is theirs.
type tunnelSet struct {
	mu     sync.Mutex
	groups map[<-chan struct{}]*tunnelGroup // guarded by mu
	n      int                              // guarded by mu
	drains bool                             // guarded by mu: all new ones drain at once
	closed bool                             // guarded by mu
	wg     sync.WaitGroup
}

// tunnelGroup is the tunnels of one connection. One goroutine waits for its
// drain, however many there are.
type tunnelGroup struct {
	tunnels map[*tunnel]struct{} // guarded by tunnelSet.mu
	empty   chan struct{}        // closed with the last tunnel
}

func (s *tunnelSet) init() { s.groups = make(map[<-chan struct{}]*tunnelGroup) }

func (s *tunnelSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *tunnelSet) add(t *tunnel) {
	s.mu.Lock()
	g := s.groups[t.drained]
	if g == nil {
		g = &tunnelGroup{tunnels: make(map[*tunnel]struct{}), empty: make(chan struct{})}
		s.groups[t.drained] = g
		s.wg.Go(func() { s.watch(t.drained, g) })
	}
	g.tunnels[t] = struct{}{}
	s.n++
	drain, closed := s.drains, s.closed
	s.mu.Unlock()
	select {
	case <-t.drained:
		drain = true // its group may have been told already
	default:
	}
	if closed {
		t.in.Reset()
	}
	if drain {
		t.drain()
	}
}

func (s *tunnelSet) remove(t *tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[t.drained]
	delete(g.tunnels, t)
	s.n--
	if len(g.tunnels) == 0 {
		close(g.empty)
		delete(s.groups, t.drained)
	}
}

// watch drains the tunnels of a connection when it drains.
func (s *tunnelSet) watch(drained <-chan struct{}, g *tunnelGroup) {
	select {
	case <-g.empty:
		return
	case <-drained:
	}
	s.mu.Lock()
	list := make([]*tunnel, 0, len(g.tunnels))
	for t := range g.tunnels {
		list = append(list, t)
	}
	s.mu.Unlock()
	for _, t := range list {
		t.drain()
	}
}

// all returns the open tunnels.
func (s *tunnelSet) all() []*tunnel {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*tunnel, 0, s.n)
	for _, g := range s.groups {
		for t := range g.tunnels {
			list = append(list, t)
		}
	}
	return list
}

func (s *tunnelSet) drain() {
	s.mu.Lock()
	s.drains = true
	s.mu.Unlock()
	for _, t := range s.all() {
		t.drain()
	}
}

func (s *tunnelSet) recheck(c *config.Snapshot) {
	for _, t := range s.all() {
		t.recheck(c)
	}
}

// reportBytes brings the byte counters of TCP connections up to date.
func (s *tunnelSet) reportBytes() {
	for _, t := range s.all() {
		t.mu.Lock()
		if t.tcp != nil {
			t.tcp.report()
		}
		t.mu.Unlock()
	}
}

// close resets every tunnel.
func (s *tunnelSet) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, t := range s.all() {
		t.in.Reset()
	}
}
