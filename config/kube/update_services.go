package kube

import (
	"cmp"
	"slices"
	"strings"
)

// updateService follows a Service or ServiceEntry in the tables; respoil finds what
// hangs on it when all of them are there.
func (r *build) updateService(k Key, d *dirty) {
	olds := r.ofObject[k]
	var news []*service
	if o := r.objs.Get(k); o != nil {
		news = r.newServices(o)
	}
	if len(olds)+len(news) == 0 {
		return
	}
	d.services[k] = true
	i, _ := slices.BinarySearchFunc(r.services, k, func(s *service, k Key) int { return compareKeys(s.obj.Key, k) })
	r.services = slices.Replace(r.services, i, i+len(olds), news...)
	for _, s := range olds {
		d.hosts[s.host] = true
		if list := slices.DeleteFunc(r.byHost[s.host], func(x *service) bool { return x == s }); len(list) > 0 {
			r.byHost[s.host] = list
		} else {
			delete(r.byHost, s.host)
		}
	}
	for _, s := range news {
		d.hosts[s.host] = true
		i, _ := slices.BinarySearchFunc(r.byHost[s.host], s, compareServices)
		r.byHost[s.host] = slices.Insert(r.byHost[s.host], i, s)
		d.open[s] = true
	}
	delete(r.ofObject, k)
	delete(r.byName, k)
	if len(news) > 0 {
		r.ofObject[k], r.byName[k] = news, news[0]
	}
	r.reunit(olds, news, d)
}

// reunit gives the units of former services to those that take their place.
func (r *build) reunit(olds, news []*service, d *dirty) {
	free := map[string]*unit{}
	for _, s := range olds {
		u := r.unitOf[s]
		delete(r.unitOf, s)
		if u != nil && free[s.host] == nil {
			free[s.host] = u
		} else if u != nil {
			r.drop(u)
		}
	}
	for _, s := range news {
		if !s.served {
			continue
		}
		u := free[s.host]
		if u == nil {
			u = &unit{}
		}
		delete(free, s.host)
		u.service, r.unitOf[s], d.units[u] = s, u, true
	}
	for _, u := range free {
		r.drop(u)
	}
}

// drop forgets a unit.
func (r *build) drop(u *unit) {
	for _, x := range u.dests {
		r.former.destinations[x.Key] = x
	}
	for _, key := range u.refs {
		r.release(key)
	}
	u.refs, u.dests = nil, nil
}

// respoil spoils what hangs on changed services: units that looked for them, routes
// of which they are a parent, backends behind a waypoint's own Service, and what is
// said of policies.
func (r *build) respoil(d *dirty) {
	if len(d.services) == 0 {
		return
	}
	for k := range d.services {
		if k.Kind == "ServiceEntry" {
			for _, s := range r.allocateAll() {
				d.hosts[s.host] = true
				if u := r.unitOf[s]; u != nil {
					d.units[u] = true
				}
			}
			break
		}
	}
	r.units = r.units[:0]
	for _, s := range r.services {
		if u := r.unitOf[s]; u != nil {
			u.order = len(r.units)
			r.units = append(r.units, u)
			if !d.units[u] && d.touches(u) {
				d.units[u] = true
			}
		}
	}
	r.changed.destinations = true
	d.direct = d.direct || r.direct != nil && d.touches(r.direct)
	for _, u := range r.backends {
		if d.hosts[u.service.host] {
			r.stale[u] = true
		}
	}
	for k := range d.services {
		if k.Kind == "Service" {
			for _, u := range r.bySlices[k.Namespace+"/"+k.Name] {
				d.backends[u] = true
			}
		}
		for _, x := range r.routesOf[k] {
			r.judge(x)
			d.routes[x] = true
		}
		d.resecure = d.resecure || r.targeted[k]
	}
	for p, list := range r.targetsOf {
		if slices.ContainsFunc(list, func(t Key) bool { return d.services[t] }) {
			d.notes[p] = true
		}
	}
}

// touches reports whether a unit looked for a service that changed.
func (d *dirty) touches(u *unit) bool {
	return slices.ContainsFunc(u.keys, func(k Key) bool { return d.services[k] }) ||
		slices.ContainsFunc(u.hosts, func(h string) bool { return d.hosts[h] })
}

// sees notes that the unit that is being computed looked for a service, by its
// object or its host.
func (r *build) sees(k Key, host string) {
	u := r.unit
	switch {
	case u == nil:
	case host == "" && !slices.Contains(u.keys, k):
		u.keys = append(u.keys, k)
	case host != "" && !slices.Contains(u.hosts, host):
		u.hosts = append(u.hosts, host)
	}
}

// named returns the service of an object, nil if there is none.
func (r *build) named(k Key) *service {
	r.sees(k, "")
	return r.byName[k]
}

// updateRules reads the DestinationRules again and spoils what the changed ones act
// on, before and now.
func (r *build) updateRules(d *dirty) {
	if len(d.rules) == 0 {
		return
	}
	exact, wild := map[string]bool{}, []string{}
	note := func() {
		for k := range d.rules {
			if h := r.ruleHosts[k]; strings.HasPrefix(h, "*") {
				wild = append(wild, h[1:])
			} else if h != "" {
				exact[h] = true
			}
		}
	}
	note()
	r.destRules = nil
	r.rules()
	note()
	acts := func(host string) bool {
		return exact[host] || slices.ContainsFunc(wild, func(w string) bool { return strings.HasSuffix(host, w) })
	}
	for _, u := range r.units {
		if acts(u.service.host) {
			d.units[u] = true // its subsets
		}
	}
	for _, u := range r.backends {
		if acts(u.service.host) {
			d.backends[u] = true
		}
	}
}

// resecure reads the policies again and spoils what the changed ones act on, before
// and now.
func (r *build) resecure(d *dirty) {
	if len(d.policies) == 0 && !d.resecure {
		return
	}
	r.spoilTargets(d)
	r.security()
	r.spoilTargets(d)
}

// spoilTargets spoils what changed policies act on.
func (r *build) spoilTargets(d *dirty) {
	objects := map[Key]bool{}
	for k := range d.policies {
		list, there := r.targetsOf[k]
		secures := k.Group == groupSecurity
		switch k.Kind {
		case "AuthorizationPolicy":
			d.notes[k] = true
			d.opens = d.opens || there && len(list) == 0 // it may close workloads
		case "RequestAuthentication":
			d.noted = true // others ask for its tokens
		}
		d.all = d.all || r.unreadable[k]
		for _, t := range list {
			switch {
			case isRoute(t.Kind):
				if x := r.routeOf[t]; x != nil {
					r.spoilRoute(x, d)
				}
			case t == r.gw.Key || t.Kind == "GatewayClass":
				d.all, d.backed = true, d.backed || !secures
			}
			for _, s := range r.servicesOf(t) {
				if u := r.unitOf[s]; u != nil {
					d.units[u] = true
				}
				d.open[s] = true
			}
			objects[t] = !secures || objects[t]
			if k.Kind == "XBackendTrafficPolicy" {
				r.spoilReferrers(t, d) // whose rules keep sessions by it
			}
		}
	}
	for _, u := range r.backends {
		if objects[u.service.obj.Key] || d.backed {
			d.backends[u] = true
		}
	}
}

// spoilReferrers spoils the units that looked for a service, as the backend of a rule.
func (r *build) spoilReferrers(k Key, d *dirty) {
	for _, u := range r.units {
		if slices.Contains(u.keys, k) || slices.ContainsFunc(r.servicesOf(k), func(s *service) bool { return slices.Contains(u.hosts, s.host) }) {
			d.units[u] = true
		}
	}
}

// spoilRoute spoils the units of what a route is attached to.
func (r *build) spoilRoute(x *route, d *dirty) {
	for _, p := range x.parentKeys() {
		for _, s := range r.servicesOf(p) {
			if u := r.unitOf[s]; u != nil {
				d.units[u] = true
			}
		}
	}
}

// byOrder sorts units as they serve.
func byOrder(a, b *unit) int { return cmp.Compare(a.order, b.order) }
