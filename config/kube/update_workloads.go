package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"waypoint.dev/waypoint/config"
)

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
	if !r.replace(old, w) {
		return false
	}
	if w == nil {
		delete(r.pods, id)
	} else {
		r.pods[id] = w
	}
	if old == nil || w == nil || old.Workload != w.Workload || !maps.Equal(old.ports, w.ports) {
		r.spoilUsers(id, old, d)
		r.spoilUsers(id, w, d)
	}
	d.direct = d.direct || r.takesWorkloads()
	if old == nil || w == nil || old.ServiceAccount != w.ServiceAccount || !maps.Equal(old.Labels, w.Labels) || !maps.Equal(old.obj.Meta.Annotations, w.obj.Meta.Annotations) {
		r.spoilReadiness(old, d)
		r.spoilReadiness(w, d)
	}
	return true
}

// updateEntry follows a WorkloadEntry. It returns false like updatePod.
func (r *build) updateEntry(k Key, d *dirty) bool {
	var old, w *workload
	entries := r.list[r.podCount:]
	if i, found := slices.BinarySearchFunc(entries, k, compareWorkload); found {
		old = entries[i]
	}
	if o := r.objs.Get(k); o != nil {
		w = r.entryWorkload(o, o.Body.(*WorkloadEntry), "WorkloadEntry", o.Name)
		r.complete(w)
	}
	if old == nil && w == nil {
		return true
	}
	if !r.replace(old, w) {
		return false
	}
	d.direct = d.direct || r.takesWorkloads()
	for _, x := range []*workload{old, w} {
		r.spoilUsers("", x, d)
		r.spoilReadiness(x, d)
	}
	return true
}

// spoilReadiness spoils what is said of services and policies in view of a workload.
func (r *build) spoilReadiness(w *workload, d *dirty) {
	if w == nil {
		return
	}
	if w.Labels[labelGateway] != "" || w.Labels[labelManaged] != "" {
		r.account, r.managed, d.readiness = "", nil, true
		return
	}
	if w.entry != nil {
		return
	}
	for _, s := range r.services {
		if s.obj.Namespace == w.Namespace && s.selects() && subset(s.kube.Spec.Selector, w.Labels) {
			d.open[s] = true
		}
	}
}

// replace puts the new version of a workload, or nil, into the tables in place of the
// old one, or nil. It returns false like address.
func (r *build) replace(old, w *workload) bool {
	if !r.address(old, w) {
		return false
	}
	if old != nil && w != nil && reflect.DeepEqual(old.Workload, w.Workload) {
		w.Workload = old.Workload
	}
	r.place(old, w)
	r.changed.workloads = r.changed.workloads || old == nil || w == nil || old.Workload != w.Workload
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

// place puts the new version of a workload where the old one stands in the list.
func (r *build) place(old, w *workload) {
	at := cmp.Or(w, old)
	from, to, pods := 0, r.podCount, 1
	if at.entry != nil {
		from, to, pods = r.podCount, len(r.list), 0
	}
	i, found := slices.BinarySearchFunc(r.list[from:to], at.obj.Key, compareWorkload)
	i += from
	switch {
	case w == nil:
		r.list = slices.Delete(r.list, i, i+1)
		r.podCount -= pods
	case found:
		r.list[i] = w
	default:
		r.list = slices.Insert(r.list, i, w)
		r.podCount += pods
	}
	if at.entry == nil {
		r.relabel(old, w)
	}
}

func compareWorkload(x *workload, k Key) int { return compareKeys(x.obj.Key, k) }

// relabel keeps what podsByLabel found.
func (r *build) relabel(old, w *workload) {
	for label, m := range r.labelled {
		if old != nil {
			if v, ok := old.Labels[label]; ok {
				p := labelPlace{old.Namespace, v}
				if i, found := slices.BinarySearchFunc(m[p], old.obj.Key, compareWorkload); found {
					m[p] = slices.Delete(m[p], i, i+1)
				}
				if len(m[p]) == 0 {
					delete(m, p)
				}
			}
		}
		if w != nil {
			if v, ok := w.Labels[label]; ok {
				p := labelPlace{w.Namespace, v}
				i, _ := slices.BinarySearchFunc(m[p], w.obj.Key, compareWorkload)
				m[p] = slices.Insert(m[p], i, w)
			}
		}
	}
}

// spoilUsers spoils the backends that may have a workload among their endpoints.
func (r *build) spoilUsers(id string, w *workload, d *dirty) {
	if w == nil {
		return
	}
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

// takesWorkloads reports whether the waypoint serves workloads that chose it.
func (r *build) takesWorkloads() (ok bool) {
	var told []config.Problem // already, of the whole build
	r.into(&told, func() { ok = r.covers(r.gw, "workload") })
	return ok
}
