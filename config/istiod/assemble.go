package istiod

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// destEntry is a destination and what it was made of.
type destEntry struct {
	dest            *config.Destination
	any, http, rest *program
	terminate       *terminate
	tls             bool
	service         config.Service
	alive           bool // used by the model under construction
}

// hashHint is what the routes to a cluster hash by.
type hashHint []balance.HashSource

// Model returns the model of what is known. Parts that did not change since the
// last one are the same pointers.
func (w *World) Model() *config.Model {
	o := &w.opts
	w.model.Mesh = config.Mesh{
		TrustDomain: o.TrustDomain, TrustAliases: w.terminate.aliases(o.TrustDomain, o.TrustAliases), RootNamespace: o.RootNamespace,
		ClusterID: o.ClusterID, Network: o.Network, MeshID: o.MeshID, Domain: o.Domain,
		Normalization: w.model.Mesh.Normalization,
		Waypoint:      config.Owner{Namespace: o.Namespace, Name: o.Gateway, Class: o.Class},
	}
	// Workloads first: destinations of workloads are made of them.
	if w.stale.workloads && w.main.hasDirect() {
		w.stale.chains = true
	}
	if w.stale.chains {
		w.buildHashes()
		w.buildDestinations()
		w.stale.backends = true // their hash sources come from the chains
	}
	if w.stale.workloads || w.stale.chains {
		w.buildWorkloads()
	}
	switch {
	case w.stale.backends:
		w.buildBackends()
	case len(w.touched) > 0:
		w.updateBackends()
	}
	w.touched = nil
	if w.stale.problems || w.stale.chains {
		w.buildProblems()
	}
	w.stale = stale{}
	m := w.model
	return &m
}

// hasDirect reports whether anything is addressed by workload.
func (m *mainListener) hasDirect() bool {
	if m.tree == nil {
		return false
	}
	return slices.ContainsFunc(m.tree.order, func(b branch) bool { return b.port == 0 })
}

// buildBackends makes the backends whose cluster or endpoints changed.
func (w *World) buildBackends() {
	out := make(map[string]*config.Backend, len(w.clusters))
	for name, c := range w.clusters {
		if !plumbing[name] {
			out[name] = w.backend(c)
		}
	}
	w.model.Backends = out
}

// updateBackends makes those anew whose endpoints changed and nothing else: with ten
// thousand services a thousand changes a second leave no time to look at all.
func (w *World) updateBackends() {
	if w.fed == nil {
		w.fed = make(map[string][]*cluster, len(w.clusters))
		for name, c := range w.clusters {
			if c.eds != "" && !plumbing[name] {
				w.fed[c.eds] = append(w.fed[c.eds], c)
			}
		}
	}
	out := maps.Clone(w.model.Backends)
	for _, a := range w.touched {
		for _, c := range w.fed[a.name] {
			out[c.name] = w.backend(c)
		}
	}
	w.model.Backends = out
}

func (w *World) backend(c *cluster) *config.Backend {
	a := c.static
	if a == nil && c.eds != "" {
		a = w.assignments[c.eds]
	}
	var eps []*balance.Endpoint
	over := uint32(0)
	if a != nil {
		eps, over = w.endpoints(a), a.over
	}
	var hash []balance.HashSource
	if k := c.spec.Balance.Kind; k == balance.RingHash || k == balance.Maglev {
		hash = w.hashes[c.name]
	}
	secrets := w.secretsOf(c)
	old := c.backend
	if old != nil && c.from == &c.spec && sameSecrets(old.TLS, secrets) && slices.Equal(old.Endpoints, eps) && old.Balance.Overprovisioning == over && sameHash(old.Balance.Hash, hash) {
		return old
	}
	b := c.spec
	b.Endpoints, b.Balance.Overprovisioning, b.Balance.Hash = eps, over, hash
	if secrets != nil && b.TLS != nil {
		t := *b.TLS
		t.Secrets, b.TLS = secrets, &t
	}
	c.backend, c.from = &b, &c.spec
	return &b
}

func sameHash(a, b []balance.HashSource) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// buildHashes collects what the routes to each cluster hash by: in Envoy that is
// said by the route, and istiod says the same on all routes to a cluster.
func (w *World) buildHashes() {
	out := make(map[string]hashHint)
	for _, name := range sorted(w.main.chains) {
		p := w.main.chains[name].prog
		for i := range p.routes {
			r := &p.routes[i]
			if r.Hash < 0 {
				continue
			}
			for j := range r.Backends {
				if c := p.refs[r.Backends[j].Ref]; out[c] == nil {
					out[c] = p.hashes[r.Hash]
				}
			}
		}
		if p.hash != nil {
			for i := range p.tcp {
				if c := p.refs[p.tcp[i].Ref]; out[c] == nil {
					out[c] = p.hash
				}
			}
		}
	}
	w.hashes = out
}

// program returns the program of a chain. A chain that was not sent is closed.
func (w *World) program(name string) *program {
	if name == "" {
		return nil
	}
	if c := w.main.chains[name]; c != nil {
		return c.prog
	}
	if p := w.absent[name]; p != nil {
		return p
	}
	p := &program{name: name, http: looksHTTP(name), broken: "the filter chain " + name + " was not sent"}
	w.absent[name] = p
	return p
}

// buildDestinations makes the destinations of the matcher tree.
func (w *World) buildDestinations() {
	for _, e := range w.dests {
		e.alive = false
	}
	var out []*config.Destination
	if t := w.main.tree; t != nil {
		out = make([]*config.Destination, 0, len(t.order))
		for _, b := range t.order {
			s := t.by[b]
			if b.port == 0 {
				out = w.workloadDestinations(out, s)
				continue
			}
			d := w.serviceDestination(s)
			out = append(out, d)
		}
	}
	for k, e := range w.dests {
		if !e.alive {
			delete(w.dests, k)
		}
	}
	w.model.Destinations = out
	if len(out) > 0 {
		w.model.Mesh.Normalization = out[0].Settings.Normalization
	}
}

// programs returns those of a branch: one for any protocol, or two.
func (w *World) programs(b branch) (one, http, rest *program) {
	return w.program(b.any), w.program(b.http), w.program(b.rest)
}

func (w *World) serviceDestination(s *served) *config.Destination {
	e := destEntry{terminate: w.terminate, tls: inspectsTLS(w.main.filters, s.port)}
	e.any, e.http, e.rest = w.programs(s.branch)
	e.service = w.serviceOf(s)
	key := e.service.Host + ":" + utoa(s.port)
	if have := w.dests[key]; have != nil && have.alive {
		key += "|" + s.any + s.http // two branches for one service and port
	}
	d := &config.Destination{Key: key, Addrs: s.addrs, Hosts: s.hosts, Port: s.port, Service: e.service}
	return w.keep(key, &e, d)
}

// serviceOf names the service of a branch, by the cluster that has the chain's name.
func (w *World) serviceOf(s *served) config.Service {
	for _, name := range []string{s.any, s.http, s.rest} {
		if c := w.clusters[name]; c != nil {
			out := c.spec.Service
			out.Port = s.port
			return out
		}
	}
	name := s.any + s.http
	if _, _, host, ok := cutCluster(name); ok {
		return config.Service{Host: host, Port: s.port}
	}
	return config.Service{Host: name, Port: s.port}
}

// workloadDestinations makes one destination of each workload that is addressed
// directly.
func (w *World) workloadDestinations(out []*config.Destination, s *served) []*config.Destination {
	proto := destEntry{terminate: w.terminate}
	proto.any, proto.http, proto.rest = w.programs(s.branch)
	byKey := make(map[string]*config.Destination, len(s.addrs))
	var list []*config.Destination
	for _, a := range s.addrs {
		key, svc := "workload/"+a.String(), config.Service{}
		if a.IsSingleIP() {
			key = "workload/" + a.Addr().String()
			if wl := w.behind(a.Addr(), workloadName{}); wl != nil {
				key = "workload/" + wl.UID
				svc.Namespace = wl.Namespace
			}
		}
		d := byKey[key]
		if d == nil {
			d = &config.Destination{Key: key, Workload: true, Service: svc}
			byKey[key] = d
			list = append(list, d)
		}
		d.Addrs = append(d.Addrs, a)
	}
	for _, d := range list {
		e := proto
		e.service = d.Service
		out = append(out, w.keep(d.Key, &e, d))
	}
	return out
}

// keep completes a destination, or returns the former one if it was made of the
// same parts.
func (w *World) keep(key string, e *destEntry, d *config.Destination) *config.Destination {
	if old := w.dests[key]; old != nil && !old.alive && old.any == e.any && old.http == e.http && old.rest == e.rest &&
		old.terminate == e.terminate && old.tls == e.tls && old.service == e.service &&
		slices.Equal(old.dest.Addrs, d.Addrs) && slices.Equal(old.dest.Hosts, d.Hosts) {
		old.alive = true
		return old.dest
	}
	e.fill(d)
	e.dest, e.alive = d, true
	w.dests[key] = e
	return d
}

// buildWorkloads lists the workloads, and one for each address that a direct chain
// serves and no resource describes: Envoy reaches those by tunnel and no other way.
func (w *World) buildWorkloads() {
	w.listWorkloads()
	out := slices.Clip(w.listed)
	for _, d := range w.model.Destinations {
		if !d.Workload {
			continue
		}
		for _, p := range d.Addrs {
			if p.IsSingleIP() && d.Key == "workload/"+p.Addr().String() {
				out = append(out, &config.Workload{UID: p.Addr().String(), Addrs: []netip.Addr{p.Addr()}, Tunnel: true, Healthy: true})
			}
		}
	}
	w.model.Workloads = out
}

// listWorkloads puts the workloads that changed into the list, which is in order of
// their UIDs; the former list stays as it was.
func (w *World) listWorkloads() {
	if len(w.moved) == 0 {
		return
	}
	byUID := func(x *config.Workload, uid string) int { return strings.Compare(x.UID, uid) }
	old, out := w.listed, make([]*config.Workload, 0, len(w.workloads))
	for _, uid := range sorted(w.moved) {
		i, found := slices.BinarySearchFunc(old, uid, byUID)
		out = append(out, old[:i]...)
		if found {
			i++
		}
		old = old[i:]
		if x := w.workloads[uid]; x != nil {
			out = append(out, &x.Workload)
		}
	}
	w.listed = append(out, old...)
	clear(w.moved)
}

// buildProblems lists the problems of all parts, in a stable order.
func (w *World) buildProblems() {
	var out []config.Problem
	if w.terminate != nil {
		out = append(out, w.terminate.problems...)
	}
	listener := func(msg string) {
		out = append(out, config.Problem{Severity: config.Error, Kind: "Listener", Name: mainInternal, Source: mainInternal, Message: msg, Reason: ReasonUnsupported})
	}
	for _, m := range w.main.problems {
		listener(m)
	}
	if w.main.tree != nil {
		for _, m := range w.main.tree.problems {
			listener(m)
		}
	}
	for _, n := range sorted(w.main.chains) {
		out = append(out, w.main.chains[n].prog.problems...)
	}
	for _, n := range sorted(w.clusters) {
		c := w.clusters[n]
		out = append(out, c.problems...)
		for _, name := range c.secrets {
			if w.secrets[name] == nil {
				out = append(out, config.Problem{Severity: config.Warning, Kind: "Secret", Name: name, Source: n, Reason: ReasonInvalid,
					Message: "istiod has not sent this secret; requests to the cluster answer 503 until it does"})
			}
		}
	}
	for _, n := range sorted(w.assignments) {
		for _, m := range w.assignments[n].problems {
			out = append(out, config.Problem{Severity: config.Info, Kind: "ClusterLoadAssignment", Name: n, Source: n, Message: m, Reason: ReasonNotImplemented})
		}
	}
	w.model.Problems = out
}
