package balance

import "time"

// view is what picking needs that changes with ejections: who is available, and
// how the load spreads over priorities and localities. It is rebuilt in O(n) by
// the first pick after an ejection or a return; picks meanwhile use the old one
// and check the endpoint they get.
type view struct {
	// fixed after refresh
	changes uint64 // value of Set.changes it was built for
	levels  []level
	base    []uint32 // percent of the load by level, 100 in all; nil: nobody can serve
}

// level is one priority.
type level struct {
	health  uint32 // 0..100, available share times overprovisioning
	panic   bool   // health is ignored
	groups  []*group
	cumul   []uint64 // running sum of the groups' effective weights, scaled by weightScale
	table   table    // hashing kinds
	members int      // endpoints of any health
}

// weightScale keeps fractions of effective locality weights as integers.
const weightScale = 1 << 16

// current returns the view, rebuilt if an ejection changed since.
func (s *Set) current() *view {
	v := s.view.Load()
	if v.changes == s.changes.Load() {
		return v
	}
	if !s.mu.TryLock() {
		return v // someone else is at it; an ejected endpoint is passed over anyway
	}
	defer s.mu.Unlock()
	return s.refresh()
}

// refresh builds the view. The caller holds mu, or owns the set.
func (s *Set) refresh() *view {
	// The counter is read first: a change during the scan makes the view stale, never wrongly fresh.
	v := &view{changes: s.changes.Load(), levels: make([]level, len(s.levels))}
	avail := make([]int, len(s.levels))
	normal := uint32(0)
	for i, eps := range s.levels {
		for _, e := range eps {
			if e.available() {
				avail[i]++
			}
		}
		l := &v.levels[i]
		l.members = len(eps)
		l.health = min(100, uint32(uint64(s.policy.Overprovisioning)*uint64(avail[i])/uint64(len(eps))))
		normal = min(100, normal+l.health)
	}
	all := len(v.levels) > 0
	for i := range v.levels {
		l := &v.levels[i]
		l.panic = normal != 100 && 100*avail[i] < int(s.policy.PanicThreshold)*l.members
		all = all && l.panic
	}
	now := time.Now().UnixNano()
	for i := range v.levels {
		s.fill(&v.levels[i], s.levels[i], i, now)
	}
	switch {
	case all:
		v.base = loadByMembers(v.levels)
	case normal > 0:
		v.base = make([]uint32, len(v.levels))
		v.spread(0, v.base)
	}
	s.view.Store(v)
	return v
}

// fill makes the groups of a level.
func (s *Set) fill(l *level, eps []*Endpoint, index int, now int64) {
	usable := eps
	if !l.panic {
		usable = make([]*Endpoint, 0, len(eps))
		for _, e := range eps {
			if e.available() {
				usable = append(usable, e)
			}
		}
	}
	if s.policy.Kind.Hashing() {
		l.table = s.tables[index]
		if l.panic {
			l.table = newTable(&s.policy, eps)
		}
	}
	if s.policy.LocalityWeighted && s.fillLocalities(l, eps, usable, now) {
		return
	}
	l.groups = []*group{newGroup(s, usable, now)}
	l.cumul = []uint64{1}
}

// fillLocalities makes a group for each locality; it reports false when none has
// a weight, which Envoy answers by ignoring localities.
func (s *Set) fillLocalities(l *level, eps, usable []*Endpoint, now int64) bool {
	type place struct{ region, zone, subzone string }
	key := func(e *Endpoint) place {
		return place{e.Locality.Region, e.Locality.Zone, e.Locality.Subzone}
	}
	total := make(map[place]int)
	for _, e := range eps {
		total[key(e)]++
	}
	members := make(map[place][]*Endpoint)
	var order []place
	for _, e := range usable {
		k := key(e)
		if members[k] == nil {
			order = append(order, k)
		}
		members[k] = append(members[k], e)
	}
	sum := uint64(0)
	for _, k := range order {
		m := members[k]
		// Envoy's effective locality weight: full until fewer than 100/140 are healthy.
		share := min(1, float64(s.policy.Overprovisioning)/100*float64(len(m))/float64(total[k]))
		w := uint64(float64(m[0].Locality.Weight) * share * weightScale)
		if w == 0 {
			continue
		}
		sum += w
		l.groups = append(l.groups, newGroup(s, m, now))
		l.cumul = append(l.cumul, sum)
	}
	return sum > 0
}

// loadByMembers spreads the load when every priority is in panic: by size alone.
func loadByMembers(levels []level) []uint32 {
	total := 0
	for i := range levels {
		total += levels[i].members
	}
	base := make([]uint32, len(levels))
	left := uint32(100)
	for i := range levels {
		base[i] = uint32(100 * levels[i].members / total)
		left -= base[i]
	}
	base[0] += left // rounding
	return base
}

// share returns a level's availability without the excluded ones.
func (v *view) share(i int, excluded uint64) uint32 {
	if i < 64 && excluded&(1<<uint(i)) != 0 {
		return 0
	}
	return v.levels[i].health
}

// spread computes Envoy's load per priority: the best priorities take what their
// health allows, the first available one also what rounding leaves (rest). first is
// -1 when none is available; normal is their health in all, at most 100. out, if
// not nil, receives the loads.
func (v *view) spread(excluded uint64, out []uint32) (rest uint32, first int, normal uint32) {
	first = -1
	for i := range v.levels {
		if h := v.share(i, excluded); h > 0 {
			if first < 0 {
				first = i
			}
			normal = min(100, normal+h)
		}
	}
	if first < 0 {
		return 0, -1, 0
	}
	rest = 100
	for i := range v.levels {
		l := min(rest, v.share(i, excluded)*100/normal)
		rest -= l
		if out != nil {
			out[i] = l
		}
	}
	if out != nil {
		out[first] += rest
	}
	return rest, first, normal
}

// choose picks a level by a hash, as Envoy's choosePriority does. excluded is a
// bit set of levels to pass over; with all of them excluded it is ignored. It
// returns -1 when nobody can serve.
func (v *view) choose(h uint64, excluded uint64) int {
	if v.base == nil {
		return -1
	}
	if len(v.levels) == 1 {
		return 0
	}
	at := uint32(h%100) + 1
	if excluded != 0 {
		if rest, first, normal := v.spread(excluded, nil); first >= 0 {
			left, sum := uint32(100), uint32(0)
			for i := range v.levels {
				l := min(left, v.share(i, excluded)*100/normal)
				left -= l
				sum += l
				if i == first {
					sum += rest
				}
				if at <= sum {
					return i
				}
			}
		}
	}
	sum := uint32(0)
	for i, l := range v.base {
		if sum += l; at <= sum {
			return i
		}
	}
	return 0
}
