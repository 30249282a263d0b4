package feed

import (
	"encoding/binary"
	"fmt"
	"weak"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
)

// Follower gets in this process what a waypoint gets by its stream: the objects that
// concern one Gateway, as they change. Take and Stop are for one goroutine.
type Follower struct {
	// Fixed after Follow.
	store *Store
	view  *view
	reads func(group, kind string) bool
	wake  func()

	// Guarded by the store's mu.
	changed map[kube.Key]struct{} // since the last Take
	told    bool                  // wake was called since
}

// Change is what became of one object: its new version, or nil if it is gone or
// concerns the Gateway no more. Followers of several Gateways get the same pointer,
// which must not be changed.
type Change struct {
	Key    kube.Key
	Object *kube.Object
}

// Follow begins to follow the objects of the kinds that reads says yes to. wake is
// called once before each Take that has something to return, with a lock held: it
// must not block and not call the store. Nothing is told before the store is synced.
// The Follower must be stopped.
func (s *Store) Follow(gw config.Owner, reads func(group, kind string) bool, wake func()) *Follower {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &Follower{store: s, view: s.view(owner{gw.Namespace, gw.Name}), reads: reads, wake: wake, changed: map[kube.Key]struct{}{}}
	f.view.followed[f] = struct{}{}
	for sl := range f.view.members {
		f.note(sl.key)
	}
	if s.synced {
		f.tell()
	}
	return f
}

// Stop ends it.
func (f *Follower) Stop() {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	delete(f.view.followed, f)
	f.store.release(f.view)
}

// Take returns what changed since the last call, at first everything, in no order.
// Before the store is synced that is nothing.
func (f *Follower) Take() []Change {
	keys, objs := f.take()
	out := make([]Change, len(keys))
	for i, k := range keys {
		out[i].Key = k
		if objs[i] != nil {
			out[i].Object = objs[i].decode(k)
		}
	}
	return out
}

func (f *Follower) take() (keys []kube.Key, objs []*object) {
	s := f.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.told = false; !s.synced || len(f.changed) == 0 {
		return nil, nil
	}
	keys, objs = make([]kube.Key, 0, len(f.changed)), make([]*object, 0, len(f.changed))
	for k := range f.changed {
		var now *object
		if sl := s.slots[k]; sl != nil && f.view.members[sl] != nil {
			now = sl.obj
		}
		keys, objs = append(keys, k), append(objs, now)
	}
	f.changed = map[kube.Key]struct{}{}
	return keys, objs
}

func (f *Follower) note(k kube.Key) {
	if f.reads(k.Group, k.Kind) {
		f.changed[k] = struct{}{}
	}
}

func (f *Follower) tell() {
	if len(f.changed) > 0 && !f.told {
		f.told = true
		f.wake()
	}
}

// decode returns the object of a payload, the one that another follower has if it
// still does.
func (x *object) decode(k kube.Key) *kube.Object {
	if p := x.form.Load(); p != nil {
		if o := p.Value(); o != nil {
			return o
		}
	}
	_, n := binary.Uvarint(x.payload[1:])
	o, err := kube.Decode(x.payload[1+n:], k.String())
	if err != nil {
		panic(fmt.Sprintf("feed: %s: %v", k, err)) // it was read when it was put
	}
	p := weak.Make(o)
	x.form.Store(&p)
	return o
}
