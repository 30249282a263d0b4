package istiod

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"waypoint.dev/waypoint/config"
)

// World holds what istiod sent.
type World struct {
	// Fixed after NewWorld.
	opts Options

	versions map[string]map[string]string // by type and name

	clusters    map[string]*cluster
	assignments map[string]*assignment
	extensions  map[string]extension
	secrets     map[string]*config.Secret
	workloads   map[string]*workload // by UID
	names       map[string]string    // resource name -> UID, as both may differ
	byAddr      map[netip.Addr][]*workload
	users       map[netip.Addr][]*assignment // assignments with an endpoint there
	touched     []*assignment                // stale since the last model
	fed         map[string][]*cluster        // clusters by the assignment they name; nil: to be made anew
	moved       map[string]bool              // workloads changed since the last model, by UID
	main        mainListener
	terminate   *terminate
	inline      *interner

	// What the last model was made of.
	stale  stale
	model  config.Model
	listed []*config.Workload // in order of their UIDs
	dests  map[string]*destEntry
	absent map[string]*program // chains that the matcher names and nobody sent
	hashes map[string]hashHint
}

// stale says which parts of the model have to be made anew.
type stale struct {
	chains    bool // destinations: chains, matcher, workloads behind direct chains, services
	backends  bool // every backend is looked at; else those of World.touched
	workloads bool
	problems  bool
}

// extension is a TypedExtensionConfig.
type extension struct {
	cfg    *anyMessage
	digest digest
}

// NewWorld returns an empty world.
func NewWorld(o Options) *World {
	return &World{
		opts:        o,
		versions:    make(map[string]map[string]string),
		clusters:    make(map[string]*cluster),
		assignments: make(map[string]*assignment),
		extensions:  make(map[string]extension),
		secrets:     make(map[string]*config.Secret),
		workloads:   make(map[string]*workload),
		names:       make(map[string]string),
		byAddr:      make(map[netip.Addr][]*workload),
		users:       make(map[netip.Addr][]*assignment),
		moved:       make(map[string]bool),
		inline:      newInterner(),
		dests:       make(map[string]*destEntry),
		absent:      make(map[string]*program),
		stale:       stale{chains: true, backends: true, workloads: true, problems: true},
	}
}

// Apply takes the resources of one response. Resources that cannot be decoded are
// returned as errors and keep their previous version; all others apply.
func (w *World) Apply(typeURL string, upserts []Resource, removals []string) []*ResourceError {
	var errs []*ResourceError
	for i := range upserts {
		r := &upserts[i]
		if err := w.upsert(typeURL, r); err != nil {
			errs = append(errs, &ResourceError{Type: typeURL, Name: r.Name, Err: err})
			continue
		}
		v := w.versions[typeURL]
		if v == nil {
			v = make(map[string]string)
			w.versions[typeURL] = v
		}
		v[r.Name] = r.Version
	}
	for _, name := range removals {
		if _, known := w.versions[typeURL][name]; known {
			delete(w.versions[typeURL], name)
			w.remove(typeURL, name)
		}
	}
	return errs
}

func (w *World) upsert(typeURL string, r *Resource) error {
	switch typeURL {
	case ClusterType:
		return w.setCluster(r)
	case EndpointsType:
		return w.setAssignment(r)
	case ListenerType:
		return w.setListener(r)
	case WorkloadType:
		return w.setWorkload(r, decodeWorkload)
	case AddressType:
		return w.setWorkload(r, decodeAddress)
	case ExtensionType:
		return w.setExtension(r)
	case SecretType:
		return w.setSecret(r)
	}
	return errString("this type is not subscribed to")
}

func (w *World) remove(typeURL, name string) {
	switch typeURL {
	case ClusterType:
		delete(w.clusters, name)
		w.fed = nil
		w.stale.backends, w.stale.chains, w.stale.problems = true, true, true
	case EndpointsType:
		if a := w.assignments[name]; a != nil {
			w.unuse(a)
			delete(w.assignments, name)
			w.stale.backends, w.stale.problems = true, true
		}
	case ListenerType:
		w.removeListener(name)
	case WorkloadType, AddressType:
		w.removeWorkload(name)
	case ExtensionType:
		delete(w.extensions, name)
		w.retranslate(name)
	case SecretType:
		delete(w.secrets, name)
		w.stale.backends, w.stale.problems = true, true
	}
}

func (w *World) setCluster(r *Resource) error {
	if old := w.clusters[r.Name]; old != nil && old.digest == digestOf(r.Body) {
		return nil
	}
	c, err := decodeCluster(r.Body)
	if err != nil {
		return err
	}
	old := w.clusters[r.Name]
	if old == nil || old.spec.Service != c.spec.Service {
		w.stale.chains = true // destinations are named after their cluster's service
	}
	if c.static != nil {
		w.use(c.static)
	}
	if old != nil {
		if old.static != nil {
			w.unuse(old.static)
		}
		c.backend, c.from = old.backend, nil
	}
	w.clusters[r.Name] = c
	w.fed = nil
	w.stale.backends, w.stale.problems = true, true
	return nil
}

func (w *World) setAssignment(r *Resource) error {
	old := w.assignments[r.Name]
	if old != nil && old.digest == digestOf(r.Body) {
		return nil
	}
	a, err := decodeAssignment(r.Body)
	if err != nil {
		return err
	}
	if old != nil {
		w.unuse(old)
		a.before = old.eps // equal endpoints keep their pointers
		w.stale.problems = w.stale.problems || !slices.Equal(old.problems, a.problems)
	} else {
		w.stale.problems = w.stale.problems || len(a.problems) > 0
	}
	w.use(a)
	a.name = r.Name
	w.assignments[r.Name] = a
	w.touched = append(w.touched, a)
	return nil
}

func (w *World) setExtension(r *Resource) error {
	d := digestOf(r.Body)
	if old, ok := w.extensions[r.Name]; ok && old.digest == d {
		return nil
	}
	var c corev3.TypedExtensionConfig
	if err := proto.Unmarshal(r.Body, &c); err != nil {
		return err
	}
	w.extensions[r.Name] = extension{c.GetTypedConfig(), d}
	w.retranslate(r.Name)
	return nil
}

// Versions returns the versions held of a type, for initial_resource_versions.
// The caller must not change it; it is valid until the next Apply.
func (w *World) Versions(typeURL string) map[string]string { return w.versions[typeURL] }

// Wanted names the resources of a type that others refer to, in order:
// EndpointsType, ExtensionType, SecretType. Other types are subscribed to as a
// whole and give nil.
func (w *World) Wanted(typeURL string) []string {
	set := make(map[string]bool)
	switch typeURL {
	case EndpointsType:
		for _, c := range w.clusters {
			if c.eds != "" {
				set[c.eds] = true
			}
		}
	case ExtensionType:
		for _, c := range w.main.chains {
			for _, n := range c.uses {
				set[n] = true
			}
		}
	case SecretType:
		for _, c := range w.clusters {
			for _, n := range c.secrets {
				set[n] = true
			}
		}
	default:
		return nil
	}
	return sorted(set)
}
