package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/xds/objects"
)

// Object is one object as it is put into a Store.
type Object struct {
	Key     kube.Key
	Version string // metadata.resourceVersion
	JSON    []byte // with apiVersion and kind; not kept, and not changed
}

// Store is a set of objects with the index of what refers to what. Make it with
// NewStore.
type Store struct {
	scope kube.Scope // fixed after NewStore

	mu     sync.Mutex
	synced bool               // guarded by mu, as all below
	slots  map[kube.Key]*slot // of objects that are there, or were and are still wanted
	index  index
	views  map[owner]*view
	early  map[*session]struct{} // streams that came before synced
	round  uint64                // counts the states that were sent
	bytes  int64                 // of all payloads
	count  int                   // of objects
}

// Mesh says what references mean in the mesh; empty fields get Istio's defaults.
type Mesh struct {
	RootNamespace string // "istio-system"
	Domain        string // "cluster.local"
}

// NewStore returns an empty store, not synced.
func NewStore(m Mesh) *Store {
	if m.RootNamespace == "" {
		m.RootNamespace = "istio-system"
	}
	if m.Domain == "" {
		m.Domain = "cluster.local"
	}
	return &Store{
		scope: kube.Scope{RootNamespace: m.RootNamespace, Domain: m.Domain},
		slots: map[kube.Key]*slot{}, early: map[*session]struct{}{}, index: newIndex(), views: map[owner]*view{},
	}
}

// object is one version of an object, immutable.
type object struct {
	version string
	payload []byte // a google.protobuf.BytesValue with the trimmed JSON
	links   kube.Links
	at      time.Time // when it was put

	// form is the decoded object while a follower has it: one for all of them.
	form atomic.Pointer[weak.Pointer[kube.Object]]
}

// read makes the stored form; nil for a kind that no waypoint reads.
func (s *Store) read(o *Object) (*object, error) {
	raw, ok, err := kube.Trim(o.JSON)
	if err != nil {
		return nil, fmt.Errorf("feed: %s: %w", o.Key, err)
	}
	if !ok {
		return nil, nil
	}
	k, err := kube.Decode(raw, o.Key.String())
	if err != nil {
		return nil, fmt.Errorf("feed: %s: %w", o.Key, err)
	}
	if k.Key != o.Key {
		return nil, fmt.Errorf("feed: %s: the JSON is that of %s", o.Key, k.Key)
	}
	return &object{version: o.Version, payload: payload(raw), links: kube.LinksOf(k, s.scope), at: time.Now()}, nil
}

// payload is the wire form of a BytesValue: field 1, length-delimited.
func payload(raw []byte) []byte {
	out := make([]byte, 0, len(raw)+1+binary.MaxVarintLen64)
	out = append(out, 1<<3|2)
	out = binary.AppendUvarint(out, uint64(len(raw)))
	return append(out, raw...)
}

// Put adds or replaces an object. It fails when the JSON is none, or of another
// object; the store then keeps what it has. Kinds that no waypoint reads are
// dropped without an error. A version that differs only in what no waypoint reads
// is not sent.
func (s *Store) Put(o Object) error {
	x, err := s.read(&o)
	if err != nil || x == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(o.Key, x)
	s.wake()
	return nil
}

func (s *Store) put(k kube.Key, x *object) {
	sl := s.slots[k]
	if sl == nil {
		sl = &slot{key: k, name: objects.Name(k.Kind, k.Namespace, k.Name)}
		s.slots[k] = sl
	}
	old := sl.obj
	if old != nil && bytes.Equal(old.payload, x.payload) {
		return
	}
	if old == nil {
		s.count++
	} else {
		s.bytes -= int64(len(old.payload))
	}
	s.bytes += int64(len(x.payload))
	s.relink(sl, x)
}

// Delete removes an object; one that is not there is no error.
func (s *Store) Delete(k kube.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(k)
	s.wake()
}

func (s *Store) remove(k kube.Key) {
	sl := s.slots[k]
	if sl == nil {
		return
	}
	s.count--
	s.bytes -= int64(len(sl.obj.payload))
	s.relink(sl, nil)
	delete(s.slots, k)
}

// Replace makes objs all there is of a kind, as a watch that starts again lists
// it: others are removed, those that are the same stay untouched. Objects that
// cannot be taken are named in the error, and keep the version they had; the
// others are taken.
func (s *Store) Replace(group, kind string, objs []Object) error {
	var errs []error
	read := make([]*object, len(objs))
	named := make(map[kube.Key]bool, len(objs))
	for i := range objs {
		named[objs[i].Key] = true
		if objs[i].Key.Group != group || objs[i].Key.Kind != kind {
			errs = append(errs, fmt.Errorf("feed: %s is not a %s", objs[i].Key, kind))
			continue
		}
		x, err := s.read(&objs[i])
		read[i] = x
		errs = append(errs, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.slots {
		if k.Group == group && k.Kind == kind && !named[k] {
			s.remove(k)
		}
	}
	for i, x := range read {
		if x != nil {
			s.put(objs[i].Key, x)
		}
	}
	s.wake()
	return errors.Join(errs...)
}

// SetSynced says that the store holds all there is, which it does from then on.
// Before that nothing is sent: an object that was not read yet would look deleted.
func (s *Store) SetSynced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = true
	for x := range s.early {
		x.push()
	}
	for _, v := range s.views {
		for f := range v.followed {
			f.tell()
		}
	}
}

// Synced reports whether SetSynced was called.
func (s *Store) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced
}

// Len returns the number of objects.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// wake gives every stream that waits what has changed. mu is held.
func (s *Store) wake() {
	if !s.synced {
		return
	}
	for _, v := range s.views {
		for x := range v.sessions {
			x.push()
		}
		for f := range v.followed {
			f.tell()
		}
	}
}
