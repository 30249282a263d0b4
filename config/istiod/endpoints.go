package istiod

import (
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// Internal listeners that stand for tunnels, and metadata of endpoints.
const (
	connectOriginate      = "connect_originate"
	innerConnectOriginate = "inner_connect_originate"
	originalDst           = "envoy.filters.listener.original_dst"
	doubleHBONE           = "istio.double_hbone"
	hboneTarget           = "hbone_target_address"
)

// assignment is a decoded ClusterLoadAssignment.
type assignment struct {
	name     string // of the resource; empty: inside of its cluster
	digest   digest
	over     uint32   // overprovisioning, percent; 0: the default
	names    []string // of the workloads, beside eps; as istiod notes them
	problems []string

	// eps are immutable each, and replaced when the workload behind one changes.
	eps    []*balance.Endpoint
	before []*balance.Endpoint // of the assignment that this one replaced, until stale is false
	stale  bool                // a workload behind an endpoint may have changed
}

// rawEndpoint is an endpoint before the workload behind it is known.
type rawEndpoint struct {
	ep   balance.Endpoint
	name string
}

// workloadName is what istiod notes of a workload at its endpoint:
// name;namespace;canonical-service;canonical-revision;cluster.
type workloadName struct{ name, namespace, canonical, revision, cluster string }

// decodeAssignment reads a ClusterLoadAssignment.
func decodeAssignment(b []byte) (*assignment, error) {
	var c endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(b, &c); err != nil {
		return nil, err
	}
	a := readAssignment(&c)
	a.digest = digestOf(b)
	return a, nil
}

// readAssignment translates the endpoints of a cluster. One that cannot be used is
// there but unhealthy, so that it counts in its priority.
func readAssignment(c *endpointv3.ClusterLoadAssignment) *assignment {
	a := &assignment{over: c.GetPolicy().GetOverprovisioningFactor().GetValue(), stale: true}
	n := 0
	for _, l := range c.GetEndpoints() {
		n += len(l.GetLbEndpoints())
	}
	a.eps, a.names = make([]*balance.Endpoint, 0, n), make([]string, 0, n)
	seen := make(map[string]bool, n)
	for _, l := range c.GetEndpoints() {
		loc := balance.Locality{
			Region: l.GetLocality().GetRegion(), Zone: l.GetLocality().GetZone(), Subzone: l.GetLocality().GetSubZone(),
			Weight: l.GetLoadBalancingWeight().GetValue(),
		}
		for _, e := range l.GetLbEndpoints() {
			r, problem := readEndpoint(e)
			if problem != "" {
				a.problems = append(a.problems, problem)
			}
			if r.ep.Key == "" || seen[r.ep.Key] {
				continue
			}
			seen[r.ep.Key] = true
			r.ep.Locality, r.ep.Priority = loc, l.GetPriority()
			a.eps, a.names = append(a.eps, &r.ep), append(a.names, r.name)
		}
	}
	return a
}

// readEndpoint translates one endpoint.
func readEndpoint(e *endpointv3.LbEndpoint) (_ *rawEndpoint, problem string) {
	r := &rawEndpoint{}
	md := e.GetMetadata().GetFilterMetadata()
	r.name = md["istio"].GetFields()["workload"].GetStringValue()
	ep := &r.ep
	ep.Weight = e.GetLoadBalancingWeight().GetValue()
	switch e.GetHealthStatus() {
	case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_TIMEOUT:
		ep.Health = balance.Unhealthy
	case corev3.HealthStatus_DRAINING:
		ep.Health = balance.Draining
	}
	unusable := func(why string) (*rawEndpoint, string) {
		ep.Health = balance.Unhealthy
		return r, "endpoint " + ep.Key + ": " + why
	}
	switch x := e.GetEndpoint().GetAddress().GetAddress().(type) {
	case *corev3.Address_EnvoyInternalAddress:
		return r.internal(x.EnvoyInternalAddress, e, unusable)
	case *corev3.Address_SocketAddress:
		s := x.SocketAddress
		port := uint16(s.GetPortValue())
		if a, err := netip.ParseAddr(s.GetAddress()); err == nil {
			ep.Addr = netip.AddrPortFrom(a.Unmap(), port)
			ep.Key = ep.Addr.String()
		} else {
			ep.Hostname, ep.Addr = s.GetAddress(), netip.AddrPortFrom(netip.Addr{}, port)
			ep.Key = s.GetAddress() + ":" + utoa(port)
		}
		if md[socketMatch].GetFields()[tlsModeKey].GetStringValue() == tlsModeIstio {
			return unusable("takes the mutual TLS of sidecars only, and a waypoint speaks HBONE or plain to pods: it gets no traffic")
		}
		return r, ""
	default:
		return r, "endpoint address " + oneof(x, "Address_") + " is not supported; it is left out"
	}
}

// internal reads the address of an internal listener, which stands for a tunnel.
func (r *rawEndpoint) internal(a *corev3.EnvoyInternalAddress, e *endpointv3.LbEndpoint, unusable func(string) (*rawEndpoint, string)) (*rawEndpoint, string) {
	ep, md := &r.ep, e.GetMetadata().GetFilterMetadata()
	dst := md[originalDst].GetFields()
	to, err := netip.ParseAddrPort(dst["local"].GetStringValue())
	if err != nil {
		to, err = parseAddrPort(a.GetEndpointId())
	}
	ep.Key = a.GetEndpointId()
	if ep.Key == "" {
		ep.Key = to.String()
	}
	if err != nil {
		return unusable("has no address")
	}
	ep.Addr = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	switch a.GetServerListenerName() {
	case connectOriginate:
		ep.Tunnel = netip.AddrPortFrom(ep.Addr.Addr(), config.TunnelPort)
		if w := dst["waypoint"].GetStringValue(); w != "" {
			if ep.Tunnel, err = netip.ParseAddrPort(w); err != nil {
				return unusable("its waypoint " + w + " is no address")
			}
		}
		return r, ""
	case innerConnectOriginate:
		ep.Authority = md[doubleHBONE].GetFields()[hboneTarget].GetStringValue()
		if ep.Authority == "" { // where istiod 1.31 has it
			ep.Authority = md["istio"].GetFields()["double_hbone"].GetStructValue().GetFields()[hboneTarget].GetStringValue()
		}
		ep.HashKey = "envoy://" + innerConnectOriginate + "/" + ep.Key
		ep.Key += "/" + ep.Authority
		ep.Tunnel, ep.Double = ep.Addr, true
		if ep.Authority == "" {
			return unusable("its gateway is not told where to go")
		}
		return r, ""
	}
	return unusable("the internal listener " + a.GetServerListenerName() + " is not known")
}

// parseAddrPort also takes IPv6 without brackets, as istiod joins it.
func parseAddrPort(s string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(s)
	if err == nil {
		return ap, nil
	}
	host, port, ok := cutPort(s)
	if !ok {
		return ap, err
	}
	a, err := netip.ParseAddr(host)
	return netip.AddrPortFrom(a, port), err
}

func parseWorkloadName(s string) workloadName {
	p := strings.Split(s, ";")
	if len(p) != 5 {
		return workloadName{}
	}
	return workloadName{p[0], p[1], p[2], p[3], p[4]}
}

// known is what can be told of a workload that no Workload resource describes.
func (n workloadName) known() *config.Workload {
	if n.name == "" {
		return nil
	}
	w := &config.Workload{
		Name: n.name, Namespace: n.namespace, WorkloadName: n.name, CanonicalName: n.canonical,
		CanonicalRevision: n.revision, ClusterID: n.cluster, Healthy: true,
	}
	if w.CanonicalRevision == "" {
		w.CanonicalRevision = "latest" // istiod leaves it out
	}
	return w
}
