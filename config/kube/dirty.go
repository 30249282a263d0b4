package kube

import (
	"maps"
	"slices"
)

// dirty is what of a build changes have spoiled.
type dirty struct {
	backends map[*backendUnit]bool
	units    map[*unit]bool
	routes   map[*route]bool
	open     map[*service]bool // what warnBypass says of it
	notes    map[Key]bool      // what readiness says of a policy

	policies map[Key]bool    // that changed
	rules    map[Key]bool    // DestinationRules that changed
	services map[Key]bool    // that changed
	hosts    map[string]bool // of services that changed, before and now

	all       bool // every unit
	backed    bool // every backend
	statuses  bool // of routes
	direct    bool
	resecure  bool // all policies are to be read again
	readiness bool
	opens     bool // open of every service
	noted     bool // notes of every policy
}

func newDirty() *dirty {
	return &dirty{
		backends: map[*backendUnit]bool{}, units: map[*unit]bool{}, routes: map[*route]bool{}, open: map[*service]bool{}, notes: map[Key]bool{},
		policies: map[Key]bool{}, rules: map[Key]bool{}, services: map[Key]bool{}, hosts: map[string]bool{},
	}
}

// repair computes what is spoiled anew.
func (r *build) repair(d *dirty) {
	r.respoil(d)
	r.resecure(d)
	r.updateRules(d)
	for u := range d.backends {
		if r.backends[u.key] == u && !r.stale[u] {
			r.refresh(u)
		}
	}
	if d.all {
		for _, u := range r.units {
			d.units[u] = true
		}
		d.direct = r.direct != nil
	}
	for _, u := range slices.SortedFunc(maps.Keys(d.units), byOrder) {
		if r.unitOf[u.service] != u {
			continue // its service is gone
		}
		r.compute(u)
		for _, x := range r.routesOf[u.service.obj.Key] {
			d.routes[x] = true
		}
	}
	if d.direct && r.direct != nil {
		r.compute(r.direct)
	}
	r.judgeReadiness(d)
	if d.statuses || len(d.routes) > 0 {
		r.routeStatuses(slices.Collect(maps.Keys(d.routes)))
	}
	if len(d.policies) > 0 || d.resecure || r.ownRoutes && (d.statuses || len(d.routes) > 0) {
		r.policyStatusesOf()
	}
	r.assemble()
}

// judgeReadiness does what is spoiled of readiness.
func (r *build) judgeReadiness(d *dirty) {
	if d.readiness || d.noted {
		r.noteAll()
	} else {
		for k := range d.notes {
			r.note(k)
		}
	}
	if d.readiness || d.opens || d.all {
		r.warnBypass(r.services)
		return
	}
	if len(d.open) > 0 {
		r.warnBypass(slices.Collect(maps.Keys(d.open)))
	}
}
