package watch

import (
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var crdResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// definition is what matters of a CustomResourceDefinition.
type definition struct {
	name        string
	gk          groupKind
	resource    string
	served      []string
	established bool
}

// GetObjectMeta lets client-go's stores compute its key.
func (d *definition) GetObjectMeta() metav1.Object { return &metav1.ObjectMeta{Name: d.name} }

func defined(obj any) (*definition, error) {
	if d, ok := obj.(*definition); ok {
		return d, nil
	}
	u, err := as[*unstructured.Unstructured](obj)
	if err != nil {
		return nil, err
	}
	d := &definition{name: u.GetName()}
	d.gk.group, _, _ = unstructured.NestedString(u.Object, "spec", "group")
	d.gk.kind, _, _ = unstructured.NestedString(u.Object, "spec", "names", "kind")
	d.resource, _, _ = unstructured.NestedString(u.Object, "spec", "names", "plural")
	if d.gk.group == "" || d.gk.kind == "" || d.resource == "" {
		return nil, fmt.Errorf("watch: CustomResourceDefinition %s names no group, kind or plural", d.name)
	}
	versions, _, _ := unstructured.NestedSlice(u.Object, "spec", "versions")
	for _, v := range versions {
		if m, ok := v.(map[string]any); ok && m["served"] == true {
			if name, ok := m["name"].(string); ok {
				d.served = append(d.served, name)
			}
		}
	}
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
			d.established = true
		}
	}
	return d, nil
}

// kind returns at which version to watch the kind, if it can be.
func (d *definition) kind(versions []string) (Kind, bool) {
	if !d.established {
		return Kind{}, false
	}
	for _, v := range versions {
		if slices.Contains(d.served, v) {
			return Kind{d.gk.group, v, d.gk.kind, d.resource}, true
		}
	}
	return Kind{}, false
}

// definitions is the store of the reflector of CustomResourceDefinitions. It keeps
// the kinds that can be watched and tells when they change.
type definitions struct {
	wanted  map[groupKind][]string
	refused func(error)
	changed chan struct{} // holds one; told after each change

	mu    sync.Mutex
	kinds map[groupKind]Kind // guarded by mu; nil until listed
}

func (s *definitions) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return defined(obj) }
}

func (s *definitions) Add(obj any) error {
	d, err := defined(obj)
	if err != nil {
		s.refused(err)
		return nil
	}
	s.mu.Lock()
	if k, ok := d.kind(s.wanted[d.gk]); ok {
		s.kinds[d.gk] = k
	} else {
		delete(s.kinds, d.gk)
	}
	s.mu.Unlock()
	s.tell()
	return nil
}

func (s *definitions) Update(obj any) error { return s.Add(obj) }

func (s *definitions) Delete(obj any) error {
	if x, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = x.Obj
	}
	d, err := defined(obj)
	if err != nil {
		s.refused(err)
		return nil
	}
	s.mu.Lock()
	delete(s.kinds, d.gk)
	s.mu.Unlock()
	s.tell()
	return nil
}

func (s *definitions) Replace(objs []any, _ string) error {
	kinds := map[groupKind]Kind{}
	for _, obj := range objs {
		d, err := defined(obj)
		if err != nil {
			s.refused(err)
			continue
		}
		if k, ok := d.kind(s.wanted[d.gk]); ok {
			kinds[d.gk] = k
		}
	}
	s.mu.Lock()
	s.kinds = kinds
	s.mu.Unlock()
	s.tell()
	return nil
}

func (s *definitions) Resync() error { return nil }

func (s *definitions) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// snapshot returns the kinds to watch, nil before the first list.
func (s *definitions) snapshot() map[groupKind]Kind {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds == nil {
		return nil
	}
	out := make(map[groupKind]Kind, len(s.kinds))
	for gk, k := range s.kinds {
		out[gk] = k
	}
	return out
}
