package feed

import (
	"fmt"
	"sync"

	"waypoint.dev/waypoint/config/kube"
)

// Object is one object as it is put into a Store.
type Object struct {
	Key     kube.Key
	Version string // metadata.resourceVersion
	JSON    []byte // with apiVersion and kind; not kept, and not changed
}

// Store is a set of objects. Make it with NewStore.
type Store struct {
	mu     sync.Mutex
	m      map[kube.Key]*Object // guarded by mu
	synced bool                 // guarded by mu
}

// NewStore returns an empty store, not synced.
func NewStore() *Store { return &Store{m: map[kube.Key]*Object{}} }

// Put adds or replaces an object. It fails when the JSON is none, or of another
// object; the store then keeps what it has. Kinds that no waypoint reads are
// dropped without an error.
func (s *Store) Put(o Object) error {
	if o.Key.Kind == "" || o.Key.Name == "" {
		return fmt.Errorf("feed: an object needs a kind and a name")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[o.Key] = &o
	return nil
}

// Delete removes an object; one that is not there is no error.
func (s *Store) Delete(k kube.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
}

// Replace makes objs all there is of a kind, as a watch that starts again lists
// it: others are removed, those that are the same stay untouched. Objects that
// cannot be taken are named in the error; the others are taken.
func (s *Store) Replace(group, kind string, objs []Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.m {
		if k.Group == group && k.Kind == kind {
			delete(s.m, k)
		}
	}
	for i := range objs {
		s.m[objs[i].Key] = &objs[i]
	}
	return nil
}

// SetSynced says that the store holds all there is, which it does from then on.
// Before that nothing is sent: an object that was not read yet would look deleted.
func (s *Store) SetSynced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = true
}

// Len returns the number of objects.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m)
}
