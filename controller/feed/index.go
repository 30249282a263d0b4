package feed

import (
	"slices"

	"waypoint.dev/waypoint/config/kube"
)

// slot is the place of one object, whatever its version.
type slot struct {
	key  kube.Key
	name string  // of its resource
	obj  *object // nil while it is removed
}

// links of the present version.
func (sl *slot) links() kube.Links {
	if sl.obj == nil {
		return kube.Links{}
	}
	return sl.obj.links
}

// index files slots under their topics, and views under the topics they want.
type index struct {
	filed  map[kube.Topic]*set[*slot]
	wanted map[kube.Topic]*set[*view]
	// Of the pods that could show that their namespace's pods are marked only the
	// first is filed: one tells it all.
	witnesses map[kube.Topic]*set[*slot]
}

func newIndex() index {
	return index{filed: map[kube.Topic]*set[*slot]{}, wanted: map[kube.Topic]*set[*view]{}, witnesses: map[kube.Topic]*set[*slot]{}}
}

// file puts a slot under a topic, and into the views that want it.
func (x *index) file(t kube.Topic, sl *slot) {
	if t.By == kube.ByWitness {
		add(x.witnesses, t, sl)
		var first *slot
		x.filed[t].each(func(w *slot) { first = w })
		if first != nil {
			if first.name < sl.name {
				return
			}
			defer x.withdraw(t, first)
		}
	}
	add(x.filed, t, sl)
	x.wanted[t].each(func(v *view) { v.join(sl, t.By) })
}

// withdraw takes a slot from a topic whatever else it is.
func (x *index) withdraw(t kube.Topic, sl *slot) {
	drop(x.filed, t, sl)
	x.wanted[t].each(func(v *view) { v.leave(sl, t.By) })
}

// unfile takes a slot from a topic, and from the views that want it.
func (x *index) unfile(t kube.Topic, sl *slot) {
	if t.By == kube.ByWitness {
		drop(x.witnesses, t, sl)
		if !x.filed[t].has(sl) {
			return
		}
	}
	x.withdraw(t, sl)
	if t.By != kube.ByWitness {
		return
	}
	var next *slot
	x.witnesses[t].each(func(w *slot) {
		if next == nil || w.name < next.name {
			next = w
		}
	})
	if next != nil {
		x.file(t, next)
	}
}

// set holds one member without a map, as most topics have one.
type set[T comparable] struct {
	one  T
	more map[T]struct{} // nil: only one
}

func add[T comparable](m map[kube.Topic]*set[T], t kube.Topic, x T) {
	s := m[t]
	switch {
	case s == nil:
		m[t] = &set[T]{one: x}
	case s.more == nil:
		s.more = map[T]struct{}{s.one: {}, x: {}}
	default:
		s.more[x] = struct{}{}
	}
}

func drop[T comparable](m map[kube.Topic]*set[T], t kube.Topic, x T) {
	s := m[t]
	switch {
	case s == nil:
		return
	case s.more == nil:
		if s.one == x {
			delete(m, t)
		}
		return
	}
	if delete(s.more, x); len(s.more) == 0 {
		delete(m, t)
	}
}

// each calls f for every member. f must not change the set.
func (s *set[T]) each(f func(T)) {
	switch {
	case s == nil:
	case s.more == nil:
		f(s.one)
	default:
		for x := range s.more {
			f(x)
		}
	}
}

func (s *set[T]) has(x T) bool {
	switch {
	case s == nil:
		return false
	case s.more == nil:
		return s.one == x
	}
	_, ok := s.more[x]
	return ok
}

// relink gives a slot a new version, nil for none, and brings all views up to its
// links. mu is held.
//
// It goes by way of a version with the links of both: what only the new one wants
// joins before what only the old one wanted leaves, so that what both want stays
// where it is, and at every step a way in which the object is needed has counted
// exactly the wants of the version in its slot.
func (s *Store) relink(sl *slot, next *object) {
	old, new := sl.links(), kube.Links{}
	if next != nil {
		new = next.links
	}
	for _, v := range s.views {
		if v.members[sl] != nil {
			v.touch(sl)
		}
	}
	if slices.Equal(old.Tags, new.Tags) && slices.Equal(old.Wants, new.Wants) {
		sl.obj = next
		return
	}
	both := &object{links: kube.Links{Wants: slices.Concat(old.Wants, new.Wants)}}
	needs := s.needs(sl)
	sl.obj = both
	for _, n := range needs {
		n.view.want(new.Wants, n.ways)
	}
	for _, t := range new.Tags {
		if !slices.Contains(old.Tags, t) {
			s.index.file(t, sl)
		}
	}
	needs = s.needs(sl)
	sl.obj = next
	for _, n := range needs {
		n.view.unwant(old.Wants, n.ways)
	}
	for _, t := range old.Tags {
		if !slices.Contains(new.Tags, t) {
			s.index.unfile(t, sl)
		}
	}
}

// need is in which ways a view needs an object.
type need struct {
	view *view
	ways kube.Ways
}

func (s *Store) needs(sl *slot) (out []need) {
	for _, v := range s.views {
		if m := v.members[sl]; m != nil {
			out = append(out, need{v, m.ways()})
		}
	}
	return out
}
