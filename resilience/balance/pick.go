package balance

// repicks is how often a choice that was tried before is made again before the
// rest is looked through (Istio's host_selection_retry_max_attempts).
const repicks = 5

// choice is what one call of Pick asks of an endpoint.
type choice struct {
	skip  []*Endpoint
	panic bool
}

// usable reports whether e may serve at all.
func (c *choice) usable(e *Endpoint) bool { return c.panic || e.available() }

// tried reports whether e is among the hosts to avoid. The same host may stand
// behind another Endpoint when the set was replaced between tries.
func (c *choice) tried(e *Endpoint) bool {
	for _, t := range c.skip {
		if t == e || t != nil && t.Host == e.Host {
			return true
		}
	}
	return false
}

func (c *choice) accepts(e *Endpoint) bool { return c.usable(e) && !c.tried(e) }

// Pick chooses the endpoint for one try of a request. It returns nil when no
// endpoint can serve.
//
// hash is that of [HashKey], 0 when there is no key: ring hash and Maglev then
// choose at random, the other kinds ignore it. skip lists hosts already tried:
// another is chosen while there is one, in any priority; without one a tried
// host may come again. shift is how many of the first entries of skip exclude
// their whole priority (resilience's Retry.Shift); 0 for none.
//
// Pick does not count the request: the caller adds it to Host.Active at once.
func (s *Set) Pick(hash uint64, skip []*Endpoint, shift int) *Endpoint {
	return s.PickBeyond(hash, skip, skip[:max(0, min(shift, len(skip)))])
}

// PickBeyond is [Set.Pick] where the endpoints whose priorities are excluded are
// not among those to skip: a policy may want another locality and yet not mind a
// host that was tried.
func (s *Set) PickBeyond(hash uint64, skip, far []*Endpoint) *Endpoint {
	if s == nil {
		return nil
	}
	v := s.current()
	h := hash
	if h == 0 || !s.policy.Kind.Hashing() {
		h = s.random()
	}
	var excluded uint64
	if len(far) > 0 {
		excluded = s.prioritiesOf(far)
	}
	first := v.choose(h, excluded)
	if first < 0 {
		return nil
	}
	c := choice{skip: skip, panic: v.levels[first].panic}
	e := s.pickIn(&v.levels[first], h, &c)
	if e != nil && c.accepts(e) {
		return e
	}
	// All of this priority were tried, or fell out just now: any other will do.
	again := e
	for i := range v.levels {
		if i == first {
			continue
		}
		c.panic = v.levels[i].panic
		if o := s.pickIn(&v.levels[i], h, &c); o != nil {
			if c.accepts(o) {
				return o
			}
			if again == nil {
				again = o
			}
		}
	}
	return again
}

// prioritiesOf returns the levels that endpoints stand in, as a bit set.
func (s *Set) prioritiesOf(tried []*Endpoint) uint64 {
	var bits uint64
	for _, t := range tried {
		if t == nil {
			continue
		}
		for i, l := range s.levels {
			if i < 64 && len(l) > 0 && l[0].Priority == t.Priority {
				bits |= 1 << uint(i)
			}
		}
	}
	return bits
}

// pickIn chooses in one level. The result is acceptable if one of the level is,
// else it is a usable endpoint that was tried, or nil.
func (s *Set) pickIn(l *level, h uint64, c *choice) *Endpoint {
	if l.table != nil {
		return l.table.lookup(h, c)
	}
	first := 0
	if len(l.groups) > 1 {
		first = l.locality(s.random())
	}
	var again *Endpoint
	for i := range l.groups {
		e := l.groups[(first+i)%len(l.groups)].pick(s, c)
		if e != nil {
			if c.accepts(e) {
				return e
			}
			if again == nil {
				again = e
			}
		}
	}
	return again
}

// locality chooses a group by effective weight.
func (l *level) locality(r uint64) int {
	at := r % l.cumul[len(l.cumul)-1]
	lo, hi := 0, len(l.cumul)-1
	for lo < hi {
		mid := (lo + hi) / 2
		if at < l.cumul[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
