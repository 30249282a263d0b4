package istiod

import (
	"net/netip"
	"slices"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// use notes which addresses an assignment has, so that a workload finds the
// endpoints it is behind.
func (w *World) use(a *assignment) {
	for _, e := range a.eps {
		if ip := e.Addr.Addr(); ip.IsValid() {
			if u := w.users[ip]; len(u) == 0 || u[len(u)-1] != a {
				w.users[ip] = append(u, a)
			}
		}
	}
}

func (w *World) unuse(a *assignment) {
	for _, e := range a.eps {
		ip := e.Addr.Addr()
		if u, ok := w.users[ip]; ok {
			if u = slices.DeleteFunc(u, func(x *assignment) bool { return x == a }); len(u) == 0 {
				delete(w.users, ip)
			} else {
				w.users[ip] = u
			}
		}
	}
}

// setWorkload takes a new or changed workload.
func (w *World) setWorkload(r *Resource, decode func([]byte) (*workload, error)) error {
	d := digestOf(r.Body)
	if old := w.workloads[w.names[r.Name]]; old != nil && old.digest == d {
		return nil
	}
	n, err := decode(r.Body)
	if err != nil || n == nil {
		return err
	}
	n.digest = d
	if old := w.workloads[n.UID]; old != nil {
		w.dropWorkload(old)
	}
	if uid, ok := w.names[r.Name]; ok && uid != n.UID {
		if old := w.workloads[uid]; old != nil {
			w.dropWorkload(old)
		}
	}
	w.names[r.Name] = n.UID
	w.workloads[n.UID] = n
	// Addresses of another network may be in use here for something else.
	if n.Network == "" || w.opts.Network == "" || n.Network == w.opts.Network {
		n.Addrs = n.all
	}
	for _, a := range n.Addrs {
		w.byAddr[a] = append(w.byAddr[a], n)
		w.touch(a)
	}
	w.stale.workloads, w.moved[n.UID] = true, true
	return nil
}

func (w *World) removeWorkload(resource string) {
	uid, ok := w.names[resource]
	if !ok {
		return
	}
	delete(w.names, resource)
	if old := w.workloads[uid]; old != nil {
		w.dropWorkload(old)
	}
}

func (w *World) dropWorkload(old *workload) {
	delete(w.workloads, old.UID)
	for _, a := range old.Addrs {
		l := slices.DeleteFunc(w.byAddr[a], func(x *workload) bool { return x == old })
		if len(l) == 0 {
			delete(w.byAddr, a)
		} else {
			w.byAddr[a] = l
		}
		w.touch(a)
	}
	w.stale.workloads, w.moved[old.UID] = true, true
}

// touch marks what an address leads to as stale.
func (w *World) touch(a netip.Addr) {
	for _, x := range w.users[a] {
		switch {
		case x.name == "":
			x.stale, w.stale.backends = true, true
		case !x.stale:
			x.stale = true
			w.touched = append(w.touched, x)
		}
	}
}

// behind finds the workload of an endpoint. On the address of a node several may
// share it: then the name that istiod noted tells.
func (w *World) behind(ip netip.Addr, n workloadName) *workload {
	l := w.byAddr[ip]
	if len(l) == 1 && !l[0].host {
		return l[0]
	}
	for _, x := range l {
		if x.Name == n.name && x.Namespace == n.namespace {
			return x
		}
	}
	return nil
}

// endpoints returns the endpoints of an assignment, with the workloads behind
// them. Those that did not change keep their pointers.
func (w *World) endpoints(a *assignment) []*balance.Endpoint {
	if !a.stale {
		return a.eps
	}
	before := make(map[string]*balance.Endpoint, len(a.before))
	for _, e := range a.before {
		before[e.Key] = e
	}
	out := make([]*balance.Endpoint, len(a.eps))
	for i, base := range a.eps {
		old := base
		if o := before[base.Key]; o != nil {
			old = o
		}
		e := *base
		w.identify(&e, parseWorkloadName(a.names[i]), old)
		if !sameEndpoint(old, &e) {
			old = &e
		}
		out[i] = old
	}
	a.eps, a.before, a.stale = out, nil, false
	return out
}

// identify fills in what the workload behind an endpoint says. old is the endpoint
// as it was.
func (w *World) identify(e *balance.Endpoint, n workloadName, old *balance.Endpoint) {
	e.Workload, e.Labels, e.Identity = nil, nil, ""
	if e.Double {
		return // the gateway is not the workload
	}
	if wl := w.behind(e.Addr.Addr(), n); wl != nil {
		e.Workload, e.Labels = &wl.Workload, wl.Labels
		if e.Tunnel.IsValid() && e.Tunnel.Addr() == e.Addr.Addr() {
			e.Identity = wl.identity()
		}
		return
	}
	k := n.known()
	if k == nil {
		return
	}
	e.Workload = k
	if o, ok := old.Workload.(*config.Workload); ok && o.UID == "" && sameKnown(o, k) {
		e.Workload = o
	}
}

func sameKnown(a, b *config.Workload) bool {
	return a.Name == b.Name && a.Namespace == b.Namespace && a.CanonicalName == b.CanonicalName &&
		a.CanonicalRevision == b.CanonicalRevision && a.ClusterID == b.ClusterID
}

func sameEndpoint(a, b *balance.Endpoint) bool {
	return a.Key == b.Key && a.Addr == b.Addr && a.Tunnel == b.Tunnel && a.Identity == b.Identity &&
		a.Hostname == b.Hostname && a.Authority == b.Authority && a.Double == b.Double && a.HashKey == b.HashKey &&
		a.Weight == b.Weight && a.Priority == b.Priority && a.Locality == b.Locality && a.Health == b.Health &&
		a.Workload == b.Workload
}
