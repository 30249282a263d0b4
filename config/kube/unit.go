package kube

import (
	"cmp"
	"reflect"
	"slices"

	"waypoint.dev/waypoint/config"
)

// unit is what the model has of one served service, or of all workloads that chose
// the waypoint: computed as a whole, from the tables of the build.
type unit struct {
	service  *service // nil for workloads
	order    int      // among the units
	dests    []*config.Destination
	problems []config.Problem
	refs     []string // keys of the backends it uses
	told     []told
	keys     []Key    // of services it looked for
	hosts    []string // likewise
}

// told is what a unit has to say of a route.
type told struct {
	route *route
	f     func()
}

// backendUnit is one backend with what it is made of. Units share it.
type backendUnit struct {
	key      string
	service  *service
	port     *port
	sub      *Subset
	backend  *config.Backend
	problems []config.Problem
	uses     int      // by units
	filed    []string // what it reads, as it stands in bySlices
}

// reads are the services whose EndpointSlices the backend is made of, by
// "namespace/name"; of a ServiceEntry, whose workloads selectors choose, "".
func (u *backendUnit) reads() (out []string) {
	s := u.service
	switch {
	case s.guarded():
		out = append(out, s.waypoint.Namespace+"/"+s.waypoint.Name)
	case s.kube != nil:
		out = append(out, s.obj.Namespace+"/"+s.obj.Name)
	default:
		out = append(out, "")
	}
	return out
}

// former is what an earlier build made. What is equal takes its place, so that
// pointers tell what changed.
type former struct {
	destinations map[string]*config.Destination
	backends     map[string]*config.Backend
	workloads    map[string]*config.Workload
}

func (b *Builder) before() *former {
	f := &former{destinations: map[string]*config.Destination{}, workloads: map[string]*config.Workload{}}
	if b.last == nil {
		return f
	}
	for _, d := range b.last.model.Destinations {
		f.destinations[d.Key] = d
	}
	for _, w := range b.last.model.Workloads {
		f.workloads[w.UID] = w
	}
	f.backends = b.last.model.Backends
	return f
}

// add makes the unit of a served service.
func (r *build) add(s *service) {
	u := &unit{service: s, order: len(r.units)}
	r.units = append(r.units, u)
	r.unitOf[s] = u
	r.compute(u)
}

// serveWorkloads makes the unit of workloads.
func (r *build) serveWorkloads() {
	r.direct = &unit{order: -1}
	r.compute(r.direct)
}

// compute makes a unit, anew if it was there.
func (r *build) compute(u *unit) {
	olds, refs := u.dests, u.refs
	u.problems, u.refs, u.told, u.keys, u.hosts = nil, nil, nil, nil, nil
	r.unit = u
	r.into(&u.problems, func() {
		if u.service != nil {
			u.dests = r.serve(u.service)
		} else {
			u.dests = r.workloads()
		}
	})
	r.unit = nil
	r.changed.destinations = r.changed.destinations || len(olds) != len(u.dests)
	for i, d := range u.dests {
		var old *config.Destination
		switch {
		case i < len(olds) && olds[i].Key == d.Key:
			old = olds[i]
		default:
			if j := slices.IndexFunc(olds, func(o *config.Destination) bool { return o.Key == d.Key }); j >= 0 {
				old = olds[j]
			} else {
				old = r.former.destinations[d.Key]
			}
		}
		if old != nil && reflect.DeepEqual(old, d) {
			u.dests[i] = old
		}
		if i >= len(olds) || u.dests[i] != olds[i] {
			r.changed.destinations = true
		}
	}
	for _, key := range refs {
		r.release(key)
	}
}

// refer notes that the unit that is being computed uses a backend.
func (r *build) refer(key string) {
	if !slices.Contains(r.unit.refs, key) {
		r.unit.refs = append(r.unit.refs, key)
		r.backends[key].uses++
	}
}

// release forgets a backend that no unit uses any more.
func (r *build) release(key string) {
	u := r.backends[key]
	if u.uses--; u.uses > 0 {
		return
	}
	delete(r.backends, key)
	delete(r.stale, u)
	r.unfile(u)
	r.former.backends[key] = u.backend // another unit may want it yet
	r.changed.backends = true
}

// file notes whose EndpointSlices a backend is made of.
func (r *build) file(u *backendUnit) {
	u.filed = u.reads()
	for _, s := range u.filed {
		r.bySlices[s] = append(r.bySlices[s], u)
	}
}

func (r *build) unfile(u *backendUnit) {
	for _, s := range u.filed {
		if r.bySlices[s] = slices.DeleteFunc(r.bySlices[s], func(x *backendUnit) bool { return x == u }); len(r.bySlices[s]) == 0 {
			delete(r.bySlices, s)
		}
	}
}

// addBackend makes a backend, anew if it was there.
func (r *build) addBackend(key string, s *service, p *port, sub *Subset) {
	u := r.backends[key]
	if u == nil {
		u = &backendUnit{key: key}
		r.backends[key] = u
	}
	if u.service != s {
		r.unfile(u)
		u.service = s
		r.file(u)
	}
	u.port, u.sub = p, sub
	delete(r.stale, u)
	r.refresh(u)
}

// refresh computes a backend from the tables as they are.
func (r *build) refresh(u *backendUnit) {
	old := u.backend
	if old == nil {
		old = r.former.backends[u.key]
	}
	u.problems = nil
	var b *config.Backend
	r.into(&u.problems, func() { b = r.newBackend(u.key, u.service, u.port, u.sub) })
	if old != nil && reflect.DeepEqual(old, b) {
		b = old
	}
	if u.backend != b {
		u.backend, r.changed.backends = b, true
	}
}

// changes say which parts of a model are not as they were.
type changes struct{ destinations, backends, workloads bool }

// assemble makes the model of what the build holds, sharing the parts that did not
// change with the one before.
func (r *build) assemble() {
	m := &config.Model{Mesh: r.mesh}
	if r.model != nil {
		m.Destinations, m.Backends, m.Workloads = r.model.Destinations, r.model.Backends, r.model.Workloads
	}
	if r.changed.destinations || r.model == nil {
		m.Destinations = make([]*config.Destination, 0, len(r.units))
		for _, u := range r.units {
			m.Destinations = append(m.Destinations, u.dests...)
		}
		if r.direct != nil {
			m.Destinations = append(m.Destinations, r.direct.dests...)
		}
	}
	if r.changed.backends || r.model == nil {
		m.Backends = make(map[string]*config.Backend, len(r.backends))
		for key, u := range r.backends {
			m.Backends[key] = u.backend
		}
	}
	if r.changed.workloads || r.model == nil {
		m.Workloads = make([]*config.Workload, len(r.list))
		for i, w := range r.list {
			m.Workloads[i] = w.Workload
		}
	}
	m.Problems = r.allProblems()
	r.model, r.changed, r.former = m, changes{}, nil
}

func (r *build) allProblems() []config.Problem {
	out := r.objs.Problems()
	for _, ps := range [][]config.Problem{r.problems.base, r.problems.rules, r.problems.policies} {
		out = append(out, ps...)
	}
	for _, ps := range r.notes {
		out = append(out, ps...)
	}
	for _, s := range r.services {
		out = append(append(out, s.said...), s.open...)
	}
	for _, x := range r.routes {
		out = append(out, x.said...)
	}
	for _, u := range r.units {
		out = append(out, u.problems...)
	}
	if r.direct != nil {
		out = append(out, r.direct.problems...)
	}
	for _, u := range r.backends {
		out = append(out, u.problems...)
	}
	sortProblems(out)
	return slices.CompactFunc(out, func(a, b config.Problem) bool { return a == b })
}

// sole returns the service and port that a backend of this name is made of: of
// several services of one host one that is served, else the first that has the port.
func (r *build) sole(s *service, n uint16) (*service, *port) {
	var first *service
	for _, x := range r.byHost[s.host] {
		if x.port(int32(n)) == nil {
			continue
		}
		if x.served {
			return x, x.port(int32(n))
		}
		first = cmp.Or(first, x)
	}
	return first, first.port(int32(n))
}

// servicesOf are the services of an object: the hosts of a ServiceEntry.
func (r *build) servicesOf(k Key) []*service { return r.ofObject[k] }
