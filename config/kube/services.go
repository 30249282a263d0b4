package kube

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/config"
)

// service is a Service, or one host of a ServiceEntry.
type service struct {
	obj        *Object
	host       string
	name       string
	ports      []port
	vips       []netip.Prefix
	waypoint   *Object // Gateway it chose, nil for none
	served     bool    // by this waypoint
	auto       bool    // its address is allocated, see allocateAll
	at         int     // of the hosts of obj
	resolution string  // STATIC for a Service
	labels     map[string]string
	entry      *ServiceEntry // nil for a Service
	kube       *Service      // nil for a ServiceEntry

	said []config.Problem // of its choice of a waypoint
	open []config.Problem // see warnBypass
}

// port is one TCP port of a service.
type port struct {
	name   string
	number uint16
	proto  config.Protocol
	target string // number or name; empty: the number
}

// guarded reports whether another waypoint guards the service.
func (s *service) guarded() bool { return s.waypoint != nil && !s.served }

func (s *service) port(n int32) *port {
	for i := range s.ports {
		if int32(s.ports[i].number) == n {
			return &s.ports[i]
		}
	}
	return nil
}

// collectServices reads Services and ServiceEntries.
func (r *build) collectServices() {
	for _, o := range r.objs.All("discovery.k8s.io", "EndpointSlice") {
		if n := o.Meta.Labels[labelService]; n != "" {
			r.slices[o.Namespace+"/"+n] = append(r.slices[o.Namespace+"/"+n], o)
			r.sliceOf[o.Key] = o.Namespace + "/" + n
		}
	}
	for _, o := range r.objs.All("", "Service") {
		r.addServices(o)
	}
	for _, o := range r.objs.All(groupNet, "ServiceEntry") {
		r.addServices(o)
	}
	r.allocateAll()
}

// addServices puts the services of an object behind all others.
func (r *build) addServices(o *Object) {
	list := r.newServices(o)
	r.services = append(r.services, list...)
	for _, s := range list {
		r.byHost[s.host] = append(r.byHost[s.host], s)
	}
	if len(list) > 0 {
		r.ofObject[o.Key], r.byName[o.Key] = list, list[0]
	}
}

// newServices makes the services of an object: one, or one for each host of a
// ServiceEntry.
func (r *build) newServices(o *Object) (out []*service) {
	switch b := o.Body.(type) {
	case *Service:
		out = append(out, r.kubeService(o))
	case *ServiceEntry:
		for _, h := range b.Hosts {
			out = append(out, r.entryService(o, b, strings.ToLower(h)))
		}
	}
	for i, s := range out {
		s.at = i
		r.into(&s.said, func() { s.waypoint = r.waypointOf(o, "service") })
		s.served = sameObject(s.waypoint, r.gw)
	}
	return out
}

// compareServices orders services as they are collected.
func compareServices(a, b *service) int {
	return cmp.Or(compareKeys(a.obj.Key, b.obj.Key), cmp.Compare(a.at, b.at))
}

// allocateAll gives addresses to the hosts that have none, and returns those whose
// address is another than before: who comes first takes what two would have.
func (r *build) allocateAll() (moved []*service) {
	taken := map[netip.Addr]bool{}
	for _, o := range r.objs.All(groupNet, "ServiceEntry") {
		for _, a := range o.Body.(*ServiceEntry).assigned {
			taken[a.addr] = true
		}
	}
	first, _ := slices.BinarySearchFunc(r.services, groupNet, func(s *service, group string) int { return cmp.Compare(s.obj.Group, group) })
	for _, s := range r.services[first:] {
		if !s.auto {
			continue
		}
		a := allocate(s.obj.Namespace+"/"+s.obj.Name+"/"+s.host, taken)
		if len(s.vips) == 0 || s.vips[0].Addr() != a {
			s.vips = []netip.Prefix{netip.PrefixFrom(a, 32)}
			moved = append(moved, s)
		}
	}
	return moved
}

func (r *build) kubeService(o *Object) *service {
	k := o.Body.(*Service)
	s := &service{obj: o, kube: k, name: o.Name, resolution: "STATIC", labels: o.Meta.Labels,
		host: o.Name + "." + o.Namespace + ".svc." + r.mesh.Domain}
	for _, ip := range k.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			s.vips = append(s.vips, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
	}
	for _, p := range k.Spec.Ports {
		if p.Protocol != "TCP" {
			continue
		}
		s.ports = append(s.ports, port{p.Name, uint16(p.Port), protocolOf(p.AppProtocol, p.Name), string(p.TargetPort)})
	}
	return s
}

func (r *build) entryService(o *Object, e *ServiceEntry, host string) *service {
	s := &service{obj: o, entry: e, name: host, host: host, resolution: e.Resolution, labels: o.Meta.Labels}
	for _, a := range e.Addresses {
		if p, err := netip.ParsePrefix(a); err == nil {
			s.vips = append(s.vips, p.Masked())
		} else if ip, err := netip.ParseAddr(a); err == nil {
			s.vips = append(s.vips, netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
		}
	}
	if len(s.vips) == 0 {
		for _, a := range e.assigned {
			if a.host == "" || a.host == host {
				s.vips = append(s.vips, netip.PrefixFrom(a.addr, a.addr.BitLen()))
			}
		}
	}
	s.auto = len(s.vips) == 0 && autoAllocates(o, e, host)
	for _, p := range e.Ports {
		q := port{name: p.Name, number: uint16(p.Number), proto: protocolNamed(p.Protocol)}
		if p.TargetPort != 0 {
			q.target = strconv.Itoa(int(p.TargetPort))
		}
		s.ports = append(s.ports, q)
	}
	return s
}

// autoAllocates follows Istio's IP auto-allocation: a resolvable host without an
// address gets one, unless a label refuses it.
func autoAllocates(o *Object, e *ServiceEntry, host string) bool {
	if o.Meta.Labels["networking.istio.io/enable-autoallocate-ip"] == "false" || e.Resolution == "NONE" {
		return false
	}
	return !strings.HasPrefix(host, "*") || e.Resolution == "DYNAMIC_DNS"
}

// allocate picks an address of 240.240.0.0/16, Istio's range, by the hash of a
// name. A directory has no istiod that would write the choice into the status, so
// it must come out the same each time and in every replica.
func allocate(name string, taken map[netip.Addr]bool) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(name))
	for n := h.Sum32(); ; n++ {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 240<<24|240<<16|n&0xffff)
		a := netip.AddrFrom4(b)
		if b[3] != 0 && b[3] != 255 && !taken[a] || len(taken) >= 1<<16 {
			taken[a] = true
			return a
		}
	}
}

// protocolOf is Istio's choice: appProtocol, else the port name up to a dash.
func protocolOf(app, name string) config.Protocol {
	switch app {
	case "":
		prefix, _, _ := strings.Cut(name, "-")
		if strings.HasPrefix(name, "grpc-web") {
			prefix = "grpc-web"
		}
		return protocolNamed(prefix)
	case "kubernetes.io/h2c":
		return config.ProtocolHTTP2
	case "kubernetes.io/ws", "kubernetes.io/wss":
		if app == "kubernetes.io/wss" {
			return config.ProtocolTLS
		}
		return config.ProtocolHTTP
	}
	return protocolNamed(app)
}

func protocolNamed(s string) config.Protocol {
	switch strings.ToLower(s) {
	case "http", "http_proxy":
		return config.ProtocolHTTP
	case "http2", "h2c":
		return config.ProtocolHTTP2
	case "grpc":
		return config.ProtocolGRPC
	case "grpc-web":
		return config.ProtocolGRPCWeb
	case "tcp", "mongo", "mysql", "redis", "hbone":
		return config.ProtocolTCP
	case "tls", "https":
		return config.ProtocolTLS
	}
	return config.ProtocolAuto
}

// findHost returns the service of a hostname; those of the namespace first.
func (r *build) findHost(host, namespace string) *service {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	r.sees(Key{}, host)
	ss := r.byHost[host]
	if len(ss) == 0 {
		return nil
	}
	best := ss[0]
	for _, s := range ss {
		switch {
		case s.obj.Namespace == namespace:
			return s
		case s.obj.created < best.obj.created && best.obj.Namespace != namespace:
			best = s
		}
	}
	return best
}

// assignedAddr is one address that istiod wrote into a ServiceEntry's status.
type assignedAddr struct {
	host string
	addr netip.Addr
}
