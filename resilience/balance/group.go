package balance

import (
	"sync/atomic"
	"time"
)

// group is a flat list of endpoints that one algorithm runs over: a priority, or
// one locality of it.
type group struct {
	// fixed after newGroup
	eps   []*Endpoint
	equal bool   // all weights are the same
	alias *alias // Random with unequal weights
	sched *edf   // RoundRobin, LeastRequest: unequal weights or warm-up

	warmUntil int64       // Unix nanoseconds; the last warm-up ends there
	warm      atomic.Bool // a warm-up may still run
	turn      atomic.Uint64
}

func newGroup(s *Set, eps []*Endpoint, now int64) *group {
	g := &group{eps: eps, equal: true}
	for _, e := range eps {
		if e.weight() != eps[0].weight() {
			g.equal = false
		}
		if d := s.policy.Warmup.Duration; d > 0 {
			g.warmUntil = max(g.warmUntil, e.Host.since.Load()+int64(d))
		}
	}
	g.turn.Store(s.random() >> 1)
	switch s.policy.Kind {
	case Random, Passthrough:
		if !g.equal {
			g.alias = newAlias(eps)
		}
	case RoundRobin, LeastRequest:
		g.warm.Store(g.warmUntil > now)
		if !g.equal || g.warm.Load() {
			g.sched = newEDF(eps, &s.policy, now, s.random)
		}
	}
	return g
}

// pick returns an acceptable endpoint if there is one, else a usable one, else
// nil.
func (g *group) pick(s *Set, c *choice) *Endpoint {
	if len(g.eps) == 0 {
		return nil
	}
	var again *Endpoint
	for range 1 + repicks {
		e := g.next(s)
		if c.accepts(e) {
			return e
		}
		if again == nil && c.usable(e) {
			again = e
		}
		if len(g.eps) == 1 {
			return again
		}
	}
	// Few can be refused (the tried, and those ejected since the view was built),
	// so this ends soon.
	from := int(s.random() % uint64(len(g.eps)))
	for i := range g.eps {
		at := from + i
		if at >= len(g.eps) {
			at -= len(g.eps)
		}
		e := g.eps[at]
		if c.accepts(e) {
			return e
		}
		if again == nil && c.usable(e) {
			again = e
		}
	}
	return again
}

// next is one step of the algorithm.
func (g *group) next(s *Set) *Endpoint {
	n := uint64(len(g.eps))
	if n == 1 {
		return g.eps[0]
	}
	switch s.policy.Kind {
	case RoundRobin:
		if now, ok := g.scheduled(); ok {
			return g.eps[g.sched.next(g.eps, &s.policy, now)]
		}
		return g.eps[g.turn.Add(1)%n]
	case LeastRequest:
		if now, ok := g.scheduled(); ok {
			return g.eps[g.sched.next(g.eps, &s.policy, now)]
		}
		// Two different candidates: with replacement, as in Envoy, the busier of
		// two endpoints would still get a quarter of the requests.
		r := s.random()
		i := uint64(uint32(r)) % n
		j := (i + 1 + (r>>32)%(n-1)) % n
		a, b := g.eps[i], g.eps[j]
		if b.Host.Active.Load() < a.Host.Active.Load() {
			return b
		}
		return a
	default:
		r := s.random()
		if g.alias != nil {
			return g.eps[g.alias.pick(r)]
		}
		return g.eps[r%n]
	}
}

// scheduled reports whether weights differ at the moment. now is 0 without a
// warm-up, so that the clock is only read during one.
func (g *group) scheduled() (now int64, ok bool) {
	if g.sched == nil {
		return 0, false
	}
	if g.warm.Load() {
		now = time.Now().UnixNano()
		if now < g.warmUntil {
			return now, true
		}
		g.warm.Store(false)
	}
	return 0, !g.equal
}
