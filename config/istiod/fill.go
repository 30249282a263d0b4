package istiod

import (
	"slices"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// fill writes what the programs say into a destination.
func (e *destEntry) fill(d *config.Destination) {
	http, tcp := e.http, e.rest
	switch {
	case e.any != nil && e.any.http:
		http = e.any
		d.Protocol = config.ProtocolHTTP
		if e.any.grpcWeb {
			d.Protocol = config.ProtocolGRPCWeb
		}
	case e.any != nil:
		tcp = e.any
		d.Protocol = config.ProtocolTCP
		if e.tls {
			d.Protocol = config.ProtocolTLS
		}
	case tcp == nil:
		d.HTTPOnly = true // nothing serves what is no HTTP
	}
	if http != nil {
		http.fillHTTP(d)
	}
	if tcp != nil {
		tcp.fillTCP(d, http)
	}
	e.terminate.apply(d)
}

// fillHTTP writes the HTTP part.
func (p *program) fillHTTP(d *config.Destination) {
	d.Broken, d.Stages, d.Settings, d.Telemetry = p.broken, p.stages, p.settings, p.telemetry
	d.Retries, d.Faults, d.Hashes, d.Refs = p.retries, p.faults, p.hashes, p.refs
	d.Order, d.Implicit = routing.AsListed, p.implicit
	if !d.Workload {
		d.Backend = p.name // a chain has the name of its service's cluster
	}
	if p.implicit {
		r := &p.routes[0]
		cluster := p.refs[r.Backends[0].Ref]
		if cluster != encapCluster {
			d.Backend = cluster
		}
		if r.Retry < 0 && r.Hash < 0 && r.IdleTimeout == 0 && r.MaxDuration == 0 {
			d.Refs = nil // of the default backend alone
			return       // what config makes of no routes is the same
		}
	}
	d.Routes = p.routes
	if i := slices.Index(p.refs, encapCluster); i >= 0 {
		d.Routes, d.Refs = toAddress(p.routes, p.refs, i)
	}
}

// withProviders adds the stages of providers that no stage has yet.
func withProviders(stages, custom []config.Stage) []config.Stage {
	out := stages[:len(stages):len(stages)]
	for _, c := range custom {
		if !slices.ContainsFunc(stages, func(st config.Stage) bool {
			have, ok := st.Spec.(*extauthz.Config)
			return ok && have.Name == c.Spec.(*extauthz.Config).Name
		}) {
			out = append(out, c)
		}
	}
	return out
}

// toAddress takes the encapsulating cluster out of refs, where it is at. References
// to it become those of the default backend, behind the others: the address itself.
func toAddress(in []routing.Rule, refs []string, at int) ([]routing.Rule, []string) {
	refs = slices.Delete(slices.Clone(refs), at, at+1)
	moved := func(ref int) int {
		switch {
		case ref == at:
			return len(refs)
		case ref > at:
			return ref - 1
		}
		return ref
	}
	return renumber(in, moved, func(m routing.Mirror) bool { return m.Ref == at }), refs
}

// renumber returns rules whose references are those that moved gives, without the
// mirrors that drop names by their reference before.
func renumber(in []routing.Rule, moved func(int) int, drop func(routing.Mirror) bool) []routing.Rule {
	out := slices.Clone(in)
	for i := range out {
		out[i].Backends = slices.Clone(out[i].Backends)
		for j := range out[i].Backends {
			out[i].Backends[j].Ref = moved(out[i].Backends[j].Ref)
		}
		ms := slices.DeleteFunc(slices.Clone(out[i].Filters.Mirrors), drop)
		for j := range ms {
			ms[j].Ref = moved(ms[j].Ref)
		}
		out[i].Filters.Mirrors = ms
	}
	return out
}

// fillTCP writes the TCP part, beside an HTTP one or alone.
func (p *program) fillTCP(d *config.Destination, http *program) {
	d.Conn = p.conn
	d.Stages = withProviders(d.Stages, p.custom)
	if http == nil && !d.Workload {
		d.Backend = p.name
	}
	if d.Telemetry == nil {
		d.Telemetry = p.telemetry
	}
	if p.broken != "" {
		if http == nil {
			d.Broken = p.broken
			return
		}
		// HTTP goes on; all else is cut.
		d.TCPRoutes = []config.TCPRoute{{Backends: []routing.Backend{{Ref: -1, Weight: 1, Status: 503, Invalid: p.broken}}}}
		return
	}
	if len(p.tcp) == 1 && p.tcpIdle == 0 && p.tcpMax == 0 {
		cluster := p.refs[p.tcp[0].Ref]
		if cluster == encapCluster || http == nil || d.Backend == cluster {
			if cluster != encapCluster {
				d.Backend = cluster
			}
			return
		}
	}
	refs := slices.Clone(d.Refs)
	r := config.TCPRoute{Idle: p.tcpIdle, Max: p.tcpMax, Backends: slices.Clone(p.tcp)}
	var direct []int // shares of the address itself
	for i := range r.Backends {
		cluster := p.refs[r.Backends[i].Ref]
		if cluster == encapCluster {
			direct = append(direct, i)
			continue
		}
		at := slices.Index(refs, cluster)
		if at < 0 {
			at = len(refs)
			refs = append(refs, cluster)
		}
		r.Backends[i].Ref = at
	}
	for _, i := range direct {
		r.Backends[i].Ref = len(refs)
	}
	if had, now := len(d.Refs), len(refs); had != now && d.Workload && len(d.Routes) > 0 {
		// The default backend's reference is behind all others.
		d.Routes = renumber(d.Routes, func(ref int) int {
			if ref == had {
				return now
			}
			return ref
		}, func(routing.Mirror) bool { return false })
	}
	d.Refs, d.TCPRoutes = refs, []config.TCPRoute{r}
}

// apply adds the policies of all tunnels, which have to pass before a chain's own.
func (t *terminate) apply(d *config.Destination) {
	if t == nil {
		return
	}
	if t.broken != "" {
		d.Broken = t.broken
	}
	all := t.guard()
	if len(all) == 0 {
		return
	}
	d.Conn = both(all, d.Conn)
	if d.Protocol != config.ProtocolTCP && d.Protocol != config.ProtocolTLS {
		d.Stages = append([]config.Stage{{Kind: config.StageAuthz, Policies: all}}, d.Stages...)
	}
}
