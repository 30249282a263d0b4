package kube

import (
	"net/netip"
	"slices"

	"waypoint.dev/waypoint/config"
)

// maxUpdate bounds the changes that an update takes: from some hundred on building
// anew costs no more.
const maxUpdate = 512

// update brings the build up to changed objects. It returns false when it cannot;
// the build is then of no more use. Services, endpoints, workloads, routes, policies
// and DestinationRules are followed, and namespaces and nodes on which little hangs;
// what acts everywhere, a Gateway or the mesh configuration, is not.
func (r *build) update(keys []Key) bool {
	if len(keys) > maxUpdate || r.gw == nil {
		return false
	}
	r.former = &former{destinations: map[string]*config.Destination{}, backends: map[string]*config.Backend{}}
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
		case k.Kind == "WorkloadEntry":
			if !r.updateEntry(k, d) {
				return false
			}
		case k.Kind == "Namespace" && k.Group == "":
			if !r.updateNamespace(k) {
				return false
			}
		case k.Kind == "Node" && k.Group == "":
			if !r.updateNode(k, d) {
				return false
			}
		case k.Kind == "Service" && k.Group == "", k.Kind == "ServiceEntry":
			r.updateService(k, d)
		case k.Kind == "DestinationRule":
			d.rules[k] = true
		case isRoute(k.Kind):
			d.resecure = d.resecure || r.ownTargets[k] // policies see whether it is there
			r.updateRoute(k, d)
		case k.Group == groupSecurity, k.Kind == "WaypointPolicy", k.Kind == "XBackendTrafficPolicy":
			d.policies[k] = true
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

// collectUsers finds who uses which pod, for changes of pods: the first one is not to
// wait for it.
func (r *build) collectUsers() {
	r.users = make(map[string][]string, len(r.pods))
	for of, list := range r.slices {
		for _, o := range list {
			r.use(o, of, true)
		}
	}
}

// updateRoute follows a route.
func (r *build) updateRoute(k Key, d *dirty) {
	d.statuses = true
	if old := r.routeOf[k]; old != nil {
		r.routes = without(r.routes, old)
		for _, p := range old.parentKeys() {
			if r.routesOf[p] = without(r.routesOf[p], old); len(r.routesOf[p]) == 0 {
				delete(r.routesOf, p)
			}
		}
		delete(r.routeOf, k)
		delete(d.routes, old)
		r.spoilRoute(old, d)
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
	r.spoilRoute(x, d)
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
