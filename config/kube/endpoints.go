package kube

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// backendKey names the backend of a service port.
func backendKey(host string, p uint16) string { return host + "|" + strconv.Itoa(int(p)) }

// backend returns the key of a service port's backend, making it when it is first
// used.
func (r *build) backend(s *service, p *port) string {
	key := backendKey(s.host, p.number)
	r.sees(Key{}, s.host)
	if u := r.backends[key]; u == nil || r.stale[u] {
		s, p = r.sole(s, p.number)
		r.addBackend(key, s, p, nil)
	}
	r.refer(key)
	return key
}

// subsets makes the backends of the subsets that the service's DestinationRule names.
func (r *build) subsets(s *service, p *port) {
	f := r.ruleOf(s)
	if of, _ := r.sole(s, p.number); f == nil || of != s {
		return
	}
	for i := range f.spec.Subsets {
		sub := &f.spec.Subsets[i]
		key := backendKey(s.host, p.number) + "|" + sub.Name
		r.addBackend(key, s, p, sub)
		r.refer(key)
	}
}

func (r *build) newBackend(key string, s *service, p *port, sub *Subset) *config.Backend {
	b := &config.Backend{Key: key, Protocol: upstream(p.proto), Service: describe(s, p)}
	if s.guarded() {
		r.throughWaypoint(b, s, p)
		gw := s.waypoint
		b.Unlisted = b.Missing == "" && len(b.Endpoints) == 0 && len(r.slices[gw.Namespace+"/"+gw.Name]) == 0
		return b
	}
	switch s.resolution {
	case "NONE":
		b.Balance.Kind = balance.Passthrough
		if n := targetNumber(p, nil); n != p.number {
			b.Balance.Port = n
		}
	case "DYNAMIC_DNS":
		b.Balance.Kind = balance.Passthrough
		b.Dynamic = &config.Dynamic{Host: s.host, Port: p.number}
	default:
		b.Endpoints = r.endpoints(s, p)
		b.Unlisted = s.kube != nil && len(r.slices[s.obj.Namespace+"/"+s.obj.Name]) == 0
	}
	if sub != nil && len(sub.Labels) > 0 {
		b.Endpoints = slices.DeleteFunc(b.Endpoints, func(e *balance.Endpoint) bool { return !subset(sub.Labels, e.Labels) })
	}
	r.applyRules(b, s, p, sub)
	return b
}

// describe names a service port for telemetry.
func describe(s *service, p *port) config.Service {
	return config.Service{Host: s.host, Name: s.name, Namespace: s.obj.Namespace, Port: p.number, PortName: p.name}
}

// upstream is the protocol spoken to a backend: HTTP/2 where it was declared, the
// client's where nothing was.
func upstream(p config.Protocol) config.Protocol {
	switch p {
	case config.ProtocolHTTP2, config.ProtocolGRPC, config.ProtocolGRPCWeb:
		return config.ProtocolHTTP2
	case config.ProtocolHTTP:
		return config.ProtocolHTTP
	case config.ProtocolTCP, config.ProtocolTLS:
		return config.ProtocolTCP
	}
	return config.ProtocolAuto
}

func (r *build) endpoints(s *service, p *port) []*balance.Endpoint {
	if s.kube != nil {
		return r.sliceEndpoints(s.obj, p.name)
	}
	var out []*balance.Endpoint
	e := s.entry
	switch {
	case e.WorkloadSelector != nil:
		for _, w := range r.list {
			if w.Namespace == s.obj.Namespace && subset(e.WorkloadSelector.Labels, w.Labels) && r.reachable(w) {
				out = r.appendWorkload(out, w, p)
			}
		}
	case len(e.Endpoints) > 0:
		for i := range e.Endpoints {
			x := &e.Endpoints[i]
			n := targetNumber(p, x.Ports)
			var ep *balance.Endpoint
			if a, err := netip.ParseAddr(x.Address); err == nil {
				ep = plainEndpoint(netip.AddrPortFrom(a, n))
				if w := r.byIP[a.String()]; w != nil {
					ep = workloadEndpoint(w, ep.Addr)
				}
			} else {
				ep = dnsEndpoint(x.Address, n)
			}
			ep.Weight = x.Weight
			if x.Locality != "" {
				ep.Locality = parseLocality(x.Locality)
			}
			if len(x.Labels) > 0 {
				ep.Labels = x.Labels
			}
			out = append(out, ep)
		}
	case strings.HasPrefix(s.resolution, "DNS"):
		out = append(out, dnsEndpoint(s.host, targetNumber(p, nil)))
	}
	return unique(out)
}

// reachable reports whether a workload is on this proxy's network. Others are
// behind a gateway, to which only istiod's configuration can send.
func (r *build) reachable(w *workload) bool {
	if w.Network == r.mesh.Network {
		return true
	}
	r.problem(config.Warning, w.obj, "spec.network", "OtherNetwork", "is on network %q; other networks are not reached from files, so it gets no requests", w.Network)
	return false
}

// targetNumber is the port of an endpoint: its own for the port's name, else the
// target port, else the number.
func targetNumber(p *port, own map[string]uint32) uint16 {
	if n := own[p.name]; n != 0 {
		return uint16(n)
	}
	if n, err := strconv.ParseUint(p.target, 10, 16); err == nil && n != 0 {
		return uint16(n)
	}
	return p.number
}

func dnsEndpoint(host string, port uint16) *balance.Endpoint {
	return &balance.Endpoint{
		Key: host + ":" + strconv.Itoa(int(port)), Hostname: host,
		Addr: netip.AddrPortFrom(netip.Addr{}, port),
	}
}

func plainEndpoint(a netip.AddrPort) *balance.Endpoint {
	return &balance.Endpoint{Key: a.String(), Addr: a}
}

func workloadEndpoint(w *workload, a netip.AddrPort) *balance.Endpoint {
	e := plainEndpoint(a)
	e.Workload, e.Locality, e.Labels = w.Workload, w.Locality, w.Labels
	if w.Tunnel {
		e.Tunnel = netip.AddrPortFrom(a.Addr(), config.TunnelPort)
		if w.ServiceAccount != "" {
			e.Identity = "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
		}
	}
	if w.entry != nil {
		e.Weight = w.entry.Weight
	}
	return e
}

func (r *build) appendWorkload(out []*balance.Endpoint, w *workload, p *port) []*balance.Endpoint {
	if len(w.Addrs) == 0 {
		return out
	}
	n := targetNumber(p, w.ports)
	if w.entry == nil {
		n = targetNumber(p, nil) // a pod's named ports need a name as target
		if q := w.ports[p.target]; q != 0 {
			n = uint16(q)
		}
	}
	e := workloadEndpoint(w, netip.AddrPortFrom(w.Addrs[0], n))
	if !w.Healthy {
		e.Health = balance.Unhealthy
	}
	return append(out, e)
}

// sliceEndpoints reads the EndpointSlices of a Service. A pod of both families
// stands once, by its IPv4 address: one tunnel endpoint has one address.
func (r *build) sliceEndpoints(svc *Object, portName string) []*balance.Endpoint {
	var out []*balance.Endpoint
	seen := map[string]bool{}
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, o := range r.slices[svc.Namespace+"/"+svc.Name] {
			s := o.Body.(*EndpointSlice)
			if s.AddressType != family {
				continue
			}
			for _, p := range s.Ports {
				if p.Port == nil || p.Protocol != "" && p.Protocol != "TCP" || nameOf(p.Name) != portName {
					continue
				}
				for i := range s.Endpoints {
					e := r.sliceEndpoint(svc, &s.Endpoints[i], uint16(*p.Port))
					if e == nil {
						continue
					}
					id := e.Key
					if t := s.Endpoints[i].TargetRef; t != nil && t.Kind == "Pod" {
						id = t.Name + ":" + strconv.Itoa(int(*p.Port))
					}
					if !seen[id] {
						seen[id] = true
						out = append(out, e)
					}
				}
			}
		}
	}
	return unique(out)
}

func nameOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// sliceEndpoint makes one endpoint; nil when it can serve nothing. Ready is unset
// for "yes". A terminating pod that still serves is draining.
func (r *build) sliceEndpoint(svc *Object, x *SliceEndpoint, port uint16) *balance.Endpoint {
	if len(x.Addresses) == 0 {
		return nil
	}
	a, err := netip.ParseAddr(x.Addresses[0])
	if err != nil {
		return nil
	}
	w := r.byIP[a.String()]
	if t := x.TargetRef; t != nil && t.Kind == "Pod" {
		ns := t.Namespace
		if ns == "" {
			ns = svc.Namespace
		}
		w = r.pods[ns+"/"+t.Name]
	}
	e := plainEndpoint(netip.AddrPortFrom(a, port))
	if w != nil {
		e = workloadEndpoint(w, e.Addr)
	}
	if e.Locality.Region == "" && e.Locality.Zone == "" {
		e.Locality = r.nodeLocality(x.NodeName)
		if e.Locality.Zone == "" {
			e.Locality.Zone = x.Zone
		}
	}
	ready := x.Conditions.Ready == nil || *x.Conditions.Ready
	serving := x.Conditions.Serving == nil && ready || x.Conditions.Serving != nil && *x.Conditions.Serving
	switch terminating := x.Conditions.Terminating != nil && *x.Conditions.Terminating; {
	case ready:
	case terminating && serving:
		e.Health = balance.Draining
	case terminating:
		return nil
	default:
		e.Health = balance.Unhealthy
	}
	return e
}

// unique drops endpoints whose key is there already.
func unique(es []*balance.Endpoint) []*balance.Endpoint {
	seen := make(map[string]bool, len(es))
	out := es[:0]
	for _, e := range es {
		if !seen[e.Key] {
			seen[e.Key] = true
			out = append(out, e)
		}
	}
	return out
}

// throughWaypoint makes the endpoints of a service that another waypoint guards:
// that waypoint's pods, asked for the service's address, so that its policy holds.
func (r *build) throughWaypoint(b *config.Backend, s *service, p *port) {
	gw := s.waypoint
	name := gw.Namespace + "/" + gw.Name
	var vip netip.Addr
	for _, v := range s.vips {
		if v.IsSingleIP() {
			vip = v.Addr()
			break
		}
	}
	if !vip.IsValid() {
		b.Missing = "waypoint " + name + " guards it and it has no address to ask for"
		return
	}
	authority := netip.AddrPortFrom(vip, p.number)
	add := func(a netip.Addr, w *config.Workload, health balance.Health) {
		t := netip.AddrPortFrom(a, config.TunnelPort)
		e := &balance.Endpoint{Key: t.String() + ">" + authority.String(), Addr: authority, Tunnel: t, Authority: authority.String(), Health: health}
		if w != nil {
			e.Workload, e.Locality, e.Labels = w, w.Locality, w.Labels
			e.Identity = "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
		}
		b.Endpoints = append(b.Endpoints, e)
	}
	// The endpoints of its own Service; else its pods.
	if own := r.byName[Key{"", "Service", gw.Namespace, gw.Name}]; own != nil {
		for _, q := range own.ports {
			if q.number != config.TunnelPort {
				continue
			}
			for _, e := range r.sliceEndpoints(own.obj, q.name) {
				w, _ := e.Workload.(*config.Workload)
				add(e.Addr.Addr(), w, e.Health)
			}
		}
	}
	if len(b.Endpoints) == 0 {
		for _, w := range r.list {
			if w.Namespace == gw.Namespace && w.Labels[labelGateway] == gw.Name && len(w.Addrs) > 0 && w.Healthy {
				add(w.Addrs[0], w.Workload, balance.Healthy)
			}
		}
	}
	b.Endpoints = unique(b.Endpoints)
	r.problem(config.Info, s.obj, "", "OtherWaypoint",
		"is reached through its own waypoint %s; istiod sends its pods, so that under istiod its policies there are not asked", name)
}
