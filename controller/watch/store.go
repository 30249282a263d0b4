package watch

import (
	"sync"
	"sync/atomic"

	"k8s.io/client-go/tools/cache"

	"waypoint.dev/waypoint/config/kube"
)

// Sink takes what a Watcher sees. Its methods must not block for long. For one kind
// they are called in order by one goroutine, for different kinds at the same time.
type Sink interface {
	// Put adds or replaces an object. content is false if only its status or its
	// version changed, not its JSON.
	Put(it *Item, content bool)
	Delete(key kube.Key)
	// Replace says that these are all objects of a kind that there are.
	Replace(group, kind string, items []*Item)
	// Synced says, once, that every kind that exists was listed.
	Synced()
}

// store is what a reflector fills. It keeps of each object only what tells whether
// it changed.
type store struct {
	kind    Kind
	sink    Sink
	convert func(any) (*Item, error)
	refused func(error)   // is told of objects that could not be read
	first   chan struct{} // closed with the first list
	lists   *atomic.Int64

	once sync.Once
	mu   sync.Mutex
	have map[kube.Key]seen // guarded by mu
}

type seen struct {
	version string
	sum     uint64
}

var _ cache.TransformingStore = (*store)(nil)

// Transformer cuts objects down as they stream in.
func (s *store) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return s.item(obj) }
}

func (s *store) item(obj any) (*Item, error) {
	if it, ok := obj.(*Item); ok {
		return it, nil
	}
	return s.convert(obj)
}

// Add is called for objects that are new or changed.
func (s *store) Add(obj any) error {
	it, err := s.item(obj)
	if err != nil {
		s.refused(err)
		return nil // the next one may be sound; the reflector would end the watch
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.have[it.Key]
	content := !known || old.sum != it.sum
	if known && old.version == it.Version {
		return nil
	}
	s.have[it.Key] = seen{it.Version, it.sum}
	s.sink.Put(it, content)
	return nil
}

// Update is Add.
func (s *store) Update(obj any) error { return s.Add(obj) }

// Delete is called for objects that are gone.
func (s *store) Delete(obj any) error {
	if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = d.Obj
	}
	it, err := s.item(obj)
	if err != nil {
		s.refused(err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.have[it.Key]; known {
		delete(s.have, it.Key)
		s.sink.Delete(it.Key)
	}
	return nil
}

// Replace is called with a list: the first one, or that after a watch expired.
func (s *store) Replace(objs []any, _ string) error {
	items := make([]*Item, 0, len(objs))
	for _, obj := range objs {
		it, err := s.item(obj)
		if err != nil {
			s.refused(err)
			continue
		}
		items = append(items, it)
	}
	s.mu.Lock()
	s.have = make(map[kube.Key]seen, len(items))
	for _, it := range items {
		s.have[it.Key] = seen{it.Version, it.sum}
	}
	s.sink.Replace(s.kind.Group, s.kind.Kind, items)
	s.mu.Unlock()
	s.lists.Add(1)
	s.once.Do(func() { close(s.first) })
	return nil
}

// Resync has nothing to do.
func (s *store) Resync() error { return nil }

func (s *store) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.have)
}
