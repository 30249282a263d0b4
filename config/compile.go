package config

import "net/netip"

// Env gives Compile what lies above this package. All hooks may be nil.
type Env struct {
	// Stage makes what runs a stage of a kind that this package does not compile
	// itself (JWT, external authorization, rate limit, fault, CORS). prev is what it
	// made for the same stage before, nil if there was none. On an error the chain
	// keeps prev, or without one is Broken.
	Stage func(d *Destination, st *Stage, prev any) (any, error)

	// State makes the runtime state of a backend: limits, breakers, outlier
	// detection. prev is its previous state, which it may return.
	State func(b *Backend, prev any) any

	// Reports makes what writes the records of destinations as their source asks.
	// Problems name what is done otherwise than asked.
	Reports func(t *Telemetry) (run any, problems []Problem)
}

// Compile turns a model into a snapshot, reusing from prev whatever did not
// change: the chain of an unchanged *Destination pointer, the target of an equal
// backend, the host of an endpoint that keeps its key, address and identity. It
// never fails as a whole; what is wrong with an object is a Problem.
//
// prev is the last snapshot compiled, or nil. Endpoint sets of shared targets
// change when the result is given to [Store.Swap] or is the prev of another
// Compile, not before. One goroutine compiles at a time.
func Compile(m *Model, prev *Snapshot, env Env) (*Snapshot, []Problem) {
	c := &compiler{env: env, prev: prev}
	if prev != nil {
		prev.commit()
	} else {
		c.prev = &Snapshot{}
	}
	c.next = &Snapshot{Version: c.prev.Version + 1, Mesh: m.Mesh}
	c.workloads(m.Workloads)
	c.targets(m.Backends)
	c.destinations(m.Destinations)
	c.retire()
	c.next.found = c.problems
	c.next.Problems = append(append([]Problem(nil), m.Problems...), c.problems...)
	return c.next, c.problems
}

type compiler struct {
	env        Env
	prev, next *Snapshot
	problems   []Problem
	renamed    bool // the set of targets is another one
	listed     bool // the tables of chains were made anew
}

// compiled reports whether the chains are those of a list.
func (s *Snapshot) compiled(list []*Destination) bool {
	if s.byKey == nil || s.doubled || len(s.chains) != len(list) {
		return false
	}
	for i, ch := range s.chains {
		if ch.Spec != list[i] {
			return false
		}
	}
	return true
}

// destinations compiles all chains, or takes over the tables of the same list when
// nothing that chains hang on was replaced.
func (c *compiler) destinations(list []*Destination) {
	s, p := c.next, c.prev
	if !c.renamed && p.compiled(list) && (!p.direct || same(s.source, p.source)) {
		s.chains, s.byKey, s.byAddr, s.byHost, s.bySuffix, s.byPrefix, s.direct = p.chains, p.byKey, p.byAddr, p.byHost, p.bySuffix, p.byPrefix, p.direct
		c.problems = append(c.problems, p.found...)
		return
	}
	s.chains = make([]*Chain, 0, len(list))
	s.byKey = make(map[string]*Chain, len(list))
	s.byAddr = make(map[netip.AddrPort]*Chain, len(list))
	s.byHost = make(map[hostPort]*Chain, len(list))
	s.bySuffix = make(map[hostPort]*Chain)
	for _, d := range list {
		s.direct = s.direct || d.Workload
		c.destination(d)
	}
	c.listed = true
	told := make(map[*Telemetry]bool) // most destinations share theirs
	for _, ch := range s.chains {
		if t := ch.Spec.Telemetry; !told[t] {
			told[t] = true
			c.problems = append(c.problems, ch.unheard...)
		}
	}
}

// retire closes what the previous snapshot alone had.
func (c *compiler) retire() {
	for key, t := range c.prev.targets {
		if !c.renamed {
			break
		}
		if c.next.targets[key] != nil {
			continue
		}
		u := update{target: t}
		for _, e := range t.Spec.Load().Endpoints {
			u.gone = append(u.gone, e.Host)
		}
		c.next.pending = append(c.next.pending, u)
	}
	for key, ch := range c.prev.byKey {
		if !c.listed {
			break
		}
		if ch.direct == nil {
			continue
		}
		if n := c.next.byKey[key]; n == nil || n.direct != ch.direct {
			c.next.closing = append(c.next.closing, ch.direct)
		}
	}
}

// destination compiles or takes over one chain and enters it in the tables.
func (c *compiler) destination(d *Destination) {
	if c.next.byKey[d.Key] != nil {
		c.problem(d, "", "two destinations have this key; the first one serves")
		c.next.doubled = true
		return
	}
	ch := c.prev.byKey[d.Key]
	if ch == nil || !c.reusable(ch, d) {
		ch = c.chain(d, ch)
	}
	c.problems = append(c.problems, ch.Problems...)
	c.next.byKey[d.Key] = ch
	c.next.chains = append(c.next.chains, ch)
	c.enter(ch)
}

// reusable reports whether a chain compiled from d before still holds.
func (c *compiler) reusable(ch *Chain, d *Destination) bool {
	if ch.Spec != d || ch.Workload != c.workload(d) {
		return false
	}
	for i, key := range d.Refs {
		if ch.targets[i] != c.next.targets[key] {
			return false
		}
	}
	return d.Backend == "" || ch.Default == c.next.targets[d.Backend]
}

func (c *compiler) problem(d *Destination, field, msg string) {
	c.problems = append(c.problems, problemOf(d, field, msg))
}

func (ch *Chain) problem(field, msg string) {
	ch.Problems = append(ch.Problems, problemOf(ch.Spec, field, msg))
}

func problemOf(d *Destination, field, msg string) Problem {
	return Problem{
		Severity: Error, Kind: "Destination", Namespace: d.Service.Namespace, Name: d.Key,
		Field: field, Message: msg, Reason: "Invalid",
	}
}
