package balance

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Set is the endpoints of a backend, ready to be picked from. It is immutable:
// a change of endpoints or policy makes a new one, while ejections and requests
// in flight act on it as it is. A nil *Set has no endpoints.
type Set struct {
	// fixed after NewSet
	policy    Policy
	endpoints []*Endpoint
	byAddr    map[netip.AddrPort]*Endpoint // Passthrough only
	tables    []table                      // hashing kinds: by priority
	levels    [][]*Endpoint                // endpoints by priority
	random    func() uint64

	// changes counts ejections among the endpoints; shared by successive sets.
	changes *atomic.Uint64

	mu   sync.Mutex // one rebuild of view at a time
	view atomic.Pointer[view]
}

// NewSet makes the set of a backend's endpoints. prev is the backend's former
// set, or nil: hash tables are taken over from it when nothing they depend on
// changed. Endpoints without a Host get that of prev's endpoint with the same
// key, or a new one. Neither slice may be changed afterwards. Priorities need
// not be dense.
func NewSet(p Policy, endpoints []*Endpoint, prev *Set) *Set {
	s := &Set{policy: p.withDefaults(), endpoints: endpoints, random: p.Rand}
	if s.random == nil {
		s.random = rand.Uint64
	}
	if prev != nil {
		s.changes = prev.changes
	} else {
		s.changes = new(atomic.Uint64)
	}
	s.adoptHosts(prev)
	s.levels = byPriority(endpoints)
	if p.Kind == Passthrough {
		s.byAddr = make(map[netip.AddrPort]*Endpoint, len(endpoints))
		for _, e := range endpoints {
			if e.Addr.IsValid() {
				s.byAddr[e.Addr] = e
			}
		}
	}
	if s.policy.Kind.Hashing() {
		s.tables = make([]table, len(s.levels))
		for i, l := range s.levels {
			if t := prev.tableFor(i, &s.policy, l); t != nil {
				s.tables[i] = t.with(healthyOnly(l))
			} else {
				s.tables[i] = newTable(&s.policy, healthyOnly(l))
			}
		}
	}
	s.refresh()
	return s
}

// adoptHosts gives every endpoint its runtime state and moves the subscription
// to ejections from the hosts of prev to those of s.
func (s *Set) adoptHosts(prev *Set) {
	now := time.Now().UnixNano()
	var old map[string]*Host
	held := make(map[*Host]struct{}, len(s.endpoints))
	for _, e := range s.endpoints {
		if e.Host == nil && prev != nil && old == nil {
			old = make(map[string]*Host, len(prev.endpoints))
			for _, o := range prev.endpoints {
				old[o.Key] = o.Host
			}
		}
		if e.Host == nil {
			e.Host = old[e.Key]
		}
		if e.Host == nil {
			e.Host = new(Host)
		}
		e.Host.since.CompareAndSwap(0, now)
		e.Host.Ejected.subscribe(s.changes)
		held[e.Host] = struct{}{}
	}
	for _, o := range prev.Endpoints() {
		if _, ok := held[o.Host]; !ok {
			o.Host.Ejected.unsubscribe(s.changes)
		}
	}
}

// byPriority splits endpoints by priority, best first, without gaps.
func byPriority(endpoints []*Endpoint) [][]*Endpoint {
	var prios []uint32
	for _, e := range endpoints {
		if !slices.Contains(prios, e.Priority) {
			prios = append(prios, e.Priority)
		}
	}
	slices.Sort(prios)
	levels := make([][]*Endpoint, len(prios))
	for _, e := range endpoints {
		i, _ := slices.BinarySearch(prios, e.Priority)
		levels[i] = append(levels[i], e)
	}
	return levels
}

// healthyOnly returns the endpoints whose source calls them healthy.
func healthyOnly(l []*Endpoint) []*Endpoint {
	out := make([]*Endpoint, 0, len(l))
	for _, e := range l {
		if e.Health == Healthy {
			out = append(out, e)
		}
	}
	return out
}

// tableFor returns the table of a level of an older set if it would come out the
// same for the endpoints l.
func (s *Set) tableFor(level int, p *Policy, l []*Endpoint) table {
	if s == nil || level >= len(s.levels) || !s.policy.sameTables(p) {
		return nil
	}
	if slices.EqualFunc(s.levels[level], l, sameForTable) {
		return s.tables[level]
	}
	return nil
}

func sameForTable(a, b *Endpoint) bool {
	return a == b || a.Health == b.Health && a.weight() == b.weight() &&
		a.Locality == b.Locality && a.hashKey() == b.hashKey()
}

// Endpoints returns all endpoints, for reading only.
func (s *Set) Endpoints() []*Endpoint {
	if s == nil {
		return nil
	}
	return s.endpoints
}

// Policy returns the policy with its defaults filled in.
func (s *Set) Policy() Policy {
	if s == nil {
		return Policy{}.withDefaults()
	}
	return s.policy
}

// Available counts the endpoints that can be picked now: healthy and not ejected.
func (s *Set) Available() int {
	n := 0
	for _, e := range s.Endpoints() {
		if e.available() {
			n++
		}
	}
	return n
}

// ByAddr returns the endpoint at an address, for Passthrough; nil if there is
// none or the policy is another.
func (s *Set) ByAddr(a netip.AddrPort) *Endpoint {
	if s == nil {
		return nil
	}
	return s.byAddr[a]
}

// available reports whether the endpoint may be picked outside panic mode.
func (e *Endpoint) available() bool {
	return e.Health == Healthy && !e.Host.Ejected.Load()
}
