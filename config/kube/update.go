package kube

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
)

// maxUpdate bounds the changes that an update takes: from some hundred on building
// anew costs no more.
const maxUpdate = 512

// update brings the build up to changed objects. It returns false when it cannot;
// the build is then of no more use. Endpoints, pods, routes and security policies,
// which change all the time, are followed; what decides who is served by whom, and
// what else acts everywhere, is not.
func (r *build) update(keys []Key) bool {
	if len(keys) > maxUpdate || r.gw == nil {
		return false
	}
	d := newDirty()
	seen := make(map[Key]bool, len(keys))
	for _, k := range keys {
		if seen[k] {
			continue
		}
		seen[k] = true
		info := kinds[groupKind{k.Group, k.Kind}]
		switch {
		case info == nil || info.decode == nil || k.Kind == "ServiceAccount":
			// It only has problems.
		case k.Kind == "ConfigMap" && (k.Namespace != r.mesh.RootNamespace || k.Name != "istio"):
		case k.Kind == "EndpointSlice":
			r.updateSlice(k, d)
		case k.Kind == "Pod":
			if !r.updatePod(k, d) {
				return false
			}
		case isRoute(k.Kind):
			if r.ownTargets[k] {
				return false // policies see whether it is there
			}
			r.updateRoute(k, d)
		case k.Group == groupSecurity:
			d.security[k] = true
		default:
			return false
		}
	}
	r.repair(d)
	return true
}

// updateSlice follows an EndpointSlice.
func (r *build) updateSlice(k Key, d *dirty) {
	spoil := func(service string) {
		for _, u := range r.bySlices[service] {
			d.backends[u] = true
		}
	}
	if of, ok := r.sliceOf[k]; ok {
		list := r.slices[of]
		i := slices.IndexFunc(list, func(o *Object) bool { return o.Key == k })
		r.use(list[i], of, false)
		if list = slices.Delete(list, i, i+1); len(list) == 0 {
			delete(r.slices, of)
		} else {
			r.slices[of] = list
		}
		delete(r.sliceOf, k)
		spoil(of)
	}
	o := r.objs.Get(k)
	if o == nil || o.Meta.Labels[labelService] == "" {
		return
	}
	of := o.Namespace + "/" + o.Meta.Labels[labelService]
	list := r.slices[of]
	i, _ := slices.BinarySearchFunc(list, k, func(o *Object, k Key) int { return compareKeys(o.Key, k) })
	r.slices[of], r.sliceOf[k] = slices.Insert(list, i, o), of
	r.use(o, of, true)
	spoil(of)
}

// use notes which pods and addresses the EndpointSlices of a service name, or takes
// it back.
func (r *build) use(o *Object, service string, now bool) {
	if r.users == nil {
		return
	}
	s := o.Body.(*EndpointSlice)
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		id := ""
		if t := e.TargetRef; t != nil && t.Kind == "Pod" {
			id = podID(t.Namespace, o.Namespace, t.Name)
		} else if len(e.Addresses) > 0 {
			id = addressID(e.Addresses[0])
		}
		if id == "" {
			continue
		}
		if now {
			r.users[id] = append(r.users[id], service)
			continue
		}
		if i := slices.Index(r.users[id], service); i >= 0 {
			if r.users[id] = slices.Delete(r.users[id], i, i+1); len(r.users[id]) == 0 {
				delete(r.users, id)
			}
		}
	}
}

func podID(ns, own, name string) string {
	if ns == "" {
		ns = own
	}
	return ns + "/" + name
}

// addressID is that of an address; no pod's name has its first character.
func addressID(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return ""
	}
	return "@" + a.String()
}

// collectUsers finds who uses which pod. Only changes of pods need it.
func (r *build) collectUsers() {
	if r.users != nil {
		return
	}
	r.users = make(map[string][]string, len(r.pods))
	for of, list := range r.slices {
		for _, o := range list {
			r.use(o, of, true)
		}
	}
}

// updatePod follows a pod. It returns false when others hang on it in a way that
// only a whole build follows.
func (r *build) updatePod(k Key, d *dirty) bool {
	o, id := r.objs.Get(k), k.Namespace+"/"+k.Name
	marked := len(r.annotated[k.Namespace]) > 0
	delete(r.annotated[k.Namespace], k.Name)
	var w *workload
	if o != nil {
		r.mark(o)
	}
	if marked != (len(r.annotated[k.Namespace]) > 0) {
		return false // it was the only one that told that the CNI plugin marks pods
	}
	if o != nil {
		w = r.podWorkload(o)
	}
	old := r.pods[id]
	if old == nil && w == nil {
		return true
	}
	if !r.address(old, w) {
		return false
	}
	if old != nil && w != nil && reflect.DeepEqual(old.Workload, w.Workload) {
		w.Workload = old.Workload
	}
	r.place(id, old, w)
	if old == nil || w == nil || old.Workload != w.Workload || !maps.Equal(old.ports, w.ports) {
		r.changed.workloads = r.changed.workloads || old == nil || w == nil || old.Workload != w.Workload
		r.spoilUsers(id, old, d)
		r.spoilUsers(id, w, d)
	}
	d.direct = d.direct || r.covers(r.gw, "workload")
	if old == nil || w == nil || old.ServiceAccount != w.ServiceAccount || !maps.Equal(old.Labels, w.Labels) || !maps.Equal(old.obj.Meta.Annotations, w.obj.Meta.Annotations) {
		d.readiness = true
	}
	return true
}

// address gives a pod's addresses to its new version. It returns false when another
// workload has one of them: the first one, in order, counts.
func (r *build) address(old, w *workload) bool {
	var had, has []netip.Addr
	if old != nil {
		had = old.Addrs
	}
	if w != nil {
		has = w.Addrs
	}
	if r.shared && !slices.Equal(had, has) {
		return false
	}
	for _, a := range had {
		if s := a.String(); r.byIP[s] == old {
			delete(r.byIP, s)
		}
	}
	for _, a := range has {
		s := a.String()
		switch by := r.byIP[s]; {
		case by == nil:
			r.byIP[s] = w
		case r.shared:
		default:
			return false
		}
	}
	return true
}

// place puts the new version of a pod where the old one stands in the tables.
func (r *build) place(id string, old, w *workload) {
	r.labelled = nil
	at := w
	if at == nil {
		at = old
	}
	i, found := slices.BinarySearchFunc(r.list[:r.podCount], at.obj.Key, func(x *workload, k Key) int { return compareKeys(x.obj.Key, k) })
	switch {
	case w == nil:
		r.list = slices.Delete(r.list, i, i+1)
		r.podCount--
		delete(r.pods, id)
		return
	case found:
		r.list[i] = w
	default:
		r.list = slices.Insert(r.list, i, w)
		r.podCount++
	}
	r.pods[id] = w
}

// spoilUsers spoils the backends that may have a workload among their endpoints.
func (r *build) spoilUsers(id string, w *workload, d *dirty) {
	if w == nil {
		return
	}
	r.collectUsers()
	of := slices.Clone(r.users[id])
	for _, a := range w.Addrs {
		of = append(of, r.users["@"+a.String()]...)
	}
	if gw := w.Labels[labelGateway]; gw != "" {
		of = append(of, w.Namespace+"/"+gw)
	}
	for _, s := range append(of, "") {
		for _, u := range r.bySlices[s] {
			d.backends[u] = true
		}
	}
}

// updateRoute follows a route.
func (r *build) updateRoute(k Key, d *dirty) {
	d.statuses = true
	spoil := func(x *route) {
		for _, p := range x.parentKeys() {
			for _, s := range r.servicesOf(p) {
				if u := r.unitOf[s]; u != nil {
					d.units[u] = true
				}
			}
		}
	}
	if old := r.routeOf[k]; old != nil {
		r.routes = without(r.routes, old)
		for _, p := range old.parentKeys() {
			if r.routesOf[p] = without(r.routesOf[p], old); len(r.routesOf[p]) == 0 {
				delete(r.routesOf, p)
			}
		}
		delete(r.routeOf, k)
		delete(d.routes, old)
		spoil(old)
	}
	e := r.objs.m[k]
	if e == nil {
		return
	}
	x := r.brokenRoute(e)
	if e.good != nil {
		x = r.newRoute(e.good, nil)
	}
	if x == nil {
		return
	}
	r.routes = with(r.routes, x)
	for _, p := range x.parentKeys() {
		r.routesOf[p] = with(r.routesOf[p], x)
	}
	r.routeOf[k], d.routes[x] = x, true
	spoil(x)
}

// with inserts a route in its place.
func with(list []*route, x *route) []*route {
	i, _ := slices.BinarySearchFunc(list, x, compareRoutes)
	return slices.Insert(list, i, x)
}

func without(list []*route, x *route) []*route {
	if i, found := slices.BinarySearchFunc(list, x, compareRoutes); found {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// resecure reads the policies again and spoils the units of what the changed ones
// act on, before and now.
func (r *build) resecure(d *dirty) {
	spoil := func() {
		for k := range d.security {
			if r.unreadable[k] {
				d.all = true
			}
			for _, t := range r.targetsOf[k] {
				if t.Kind != "Service" && t.Kind != "ServiceEntry" {
					d.all = true
				}
				for _, s := range r.servicesOf(t) {
					if u := r.unitOf[s]; u != nil {
						d.units[u] = true
					}
				}
			}
		}
	}
	spoil()
	r.security()
	spoil()
	d.readiness = true
}
