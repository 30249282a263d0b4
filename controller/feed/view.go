package feed

import (
	"math/bits"

	"waypoint.dev/waypoint/config/kube"
)

// owner names the Gateway of a view.
type owner struct{ namespace, name string }

// view is the set of objects that concern one waypoint, kept as the store changes.
// Its replicas share it. The store's mu guards it.
type view struct {
	owner    owner
	index    *index
	members  map[*slot]*member
	wants    map[kube.Topic]uint32 // by how many ways of how many members
	sessions map[*session]struct{}
	followed map[*Follower]struct{}
}

// member says in which ways an object is needed, and by how much.
type member struct{ counts []count }

type count struct {
	by kube.By
	n  uint32
}

func (m *member) ways() (w kube.Ways) {
	for _, c := range m.counts {
		w |= 1 << c.by
	}
	return w
}

// view returns the view of a Gateway, making it.
func (s *Store) view(o owner) *view {
	v := s.views[o]
	if v != nil {
		return v
	}
	v = &view{owner: o, index: &s.index, members: map[*slot]*member{}, wants: map[kube.Topic]uint32{}, sessions: map[*session]struct{}{}, followed: map[*Follower]struct{}{}}
	s.views[o] = v
	for _, t := range kube.Roots(s.scope, o.namespace, o.name) {
		v.wantTopic(t, 1)
	}
	return v
}

// release forgets a view that nobody asks for.
func (s *Store) release(v *view) {
	if len(v.sessions)+len(v.followed) > 0 {
		return
	}
	for t := range v.wants {
		drop(s.index.wanted, t, v)
	}
	delete(s.views, v.owner)
}

// want adds the wants of an object that is needed in these ways.
func (v *view) want(ws []kube.Want, via kube.Ways) {
	for i := range ws {
		if n := bits.OnesCount32(uint32(ws[i].Via & via)); n > 0 {
			v.wantTopic(v.mine(ws[i].Topic), uint32(n))
		}
	}
}

// unwant takes them back.
func (v *view) unwant(ws []kube.Want, via kube.Ways) {
	for i := range ws {
		n := uint32(bits.OnesCount32(uint32(ws[i].Via & via)))
		if n == 0 {
			continue
		}
		t := v.mine(ws[i].Topic)
		if v.wants[t] > n {
			v.wants[t] -= n
			continue
		}
		delete(v.wants, t)
		drop(v.index.wanted, t, v)
		v.index.filed[t].each(func(sl *slot) { v.leave(sl, t.By) })
	}
}

func (v *view) wantTopic(t kube.Topic, n uint32) {
	had := v.wants[t]
	v.wants[t] = had + n
	if had > 0 {
		return
	}
	add(v.index.wanted, t, v)
	v.index.filed[t].each(func(sl *slot) { v.join(sl, t.By) })
}

// mine puts the waypoint's namespace where a topic asks for it.
func (v *view) mine(t kube.Topic) kube.Topic {
	if t.Namespace == kube.Mine {
		t.Namespace = v.owner.namespace
	}
	return t
}

// join counts a topic by which an object is needed.
func (v *view) join(sl *slot, by kube.By) {
	m := v.members[sl]
	if m == nil {
		v.touch(sl)
		m = &member{}
		v.members[sl] = m
	}
	for i := range m.counts {
		if m.counts[i].by == by {
			m.counts[i].n++
			return
		}
	}
	m.counts = append(m.counts, count{by, 1})
	v.want(sl.links().Wants, 1<<by)
}

// leave takes such a topic back.
func (v *view) leave(sl *slot, by kube.By) {
	m := v.members[sl]
	for i := range m.counts {
		c := &m.counts[i]
		if c.by != by {
			continue
		}
		if c.n--; c.n > 0 {
			return
		}
		m.counts = append(m.counts[:i], m.counts[i+1:]...)
		if len(m.counts) == 0 {
			v.touch(sl)
			delete(v.members, sl)
		}
		v.unwant(sl.links().Wants, 1<<by)
		return
	}
}

// touch notes for each stream what it has of an object that is about to change,
// join or leave, and for each follower that it does.
func (v *view) touch(sl *slot) {
	for f := range v.followed {
		f.note(sl.key)
	}
	for x := range v.sessions {
		if _, noted := x.pending[sl.key]; noted {
			continue
		}
		var had *object
		if v.members[sl] != nil {
			had = sl.obj
		}
		x.pending[sl.key] = had
	}
}
