package proxy

import (
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/telemetry"
)

// hostInfo is what records say of an endpoint, resolved once.
type hostInfo struct {
	workload any
	spec     *config.Backend
	peer     *telemetry.Peer
	service  *telemetry.Service
	cluster  string // of HTTP
	tcp      string // and of bytes: istiod has two clusters for a port that may carry both
}

// infoOf returns the info of ep, made anew when its configuration changed.
func (hp *hostPool) infoOf(ep *balance.Endpoint, spec *config.Backend, key string) *hostInfo {
	if i := hp.info.Load(); i != nil && i.workload == ep.Workload && i.spec == spec {
		return i
	}
	i := &hostInfo{workload: ep.Workload, spec: spec, cluster: clusterName(key, "http"), tcp: clusterName(key, "tcp")}
	w, _ := ep.Workload.(*config.Workload)
	i.peer = hp.p.opts.Telemetry.Peer(peerOf(w, ep.Identity))
	i.service = hp.p.opts.Telemetry.Service(serviceOf(spec.Service))
	hp.info.Store(i)
	return i
}

// noHost names in the record the backend of a request that came to no endpoint of it.
func (x *exchange) noHost(st *backendState) {
	x.rec.Service = x.p.opts.Telemetry.Service(serviceOf(x.target.Spec.Load().Service))
	if x.rec.UpstreamCluster = st.cluster; st.cluster == "" {
		x.rec.UpstreamCluster = clusterName(x.target.Key, "http")
	}
}

// clusterName is a backend key "host|port" or "host|port|subset" as istiod names
// the cluster for protocol, "http" or "tcp".
func clusterName(key, protocol string) string {
	parts := strings.Split(key, "|")
	switch len(parts) {
	case 2:
		return "inbound-vip|" + parts[1] + "|" + protocol + "|" + parts[0]
	case 3:
		return "inbound-vip|" + parts[1] + "|" + protocol + "/" + parts[2] + "|" + parts[0]
	}
	return key
}

func serviceOf(s config.Service) telemetry.Service {
	return telemetry.Service{Host: s.Host, Name: s.Name, Namespace: s.Namespace}
}

// peerOf is a workload as metrics name it.
func peerOf(w *config.Workload, principal string) telemetry.Peer {
	if w == nil {
		return telemetry.Peer{Principal: principal}
	}
	if principal == "" && w.ServiceAccount != "" {
		principal = "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
	}
	return telemetry.Peer{
		Workload: w.WorkloadName, Namespace: w.Namespace,
		CanonicalService: w.CanonicalName, CanonicalRevision: w.CanonicalRevision,
		App: w.CanonicalName, Version: w.CanonicalRevision,
		Cluster: w.ClusterID, Principal: principal,
		WorkloadType: w.WorkloadType, Instance: w.Name,
	}
}

// source is the client's workload: the one that has its address, or what its
// node proxy says of it when it is in another network or unknown.
func (t *tunnel) source(s *config.Snapshot) *telemetry.Peer {
	principal := t.conn.Peer.URI
	if w := s.WorkloadByAddr(t.conn.Source.Addr()); w != nil && !t.foreign(s) {
		return t.p.opts.Telemetry.Peer(peerOf(w, principal))
	}
	b := hbone.ParseBaggage(strings.Clone(t.in.Header("baggage")))
	ns := t.conn.Peer.Namespace
	if ns == "" {
		ns = b.Namespace
	}
	return t.p.opts.Telemetry.Peer(telemetry.Peer{
		Workload: b.Workload, Namespace: ns, CanonicalService: b.Service, CanonicalRevision: b.Revision,
		App: b.Service, Version: b.Revision, Cluster: b.Cluster, Principal: principal, WorkloadType: b.Kind,
	})
}

// foreign reports whether the tunnel came through another network's gateway, so
// that its address is the gateway's.
func (t *tunnel) foreign(s *config.Snapshot) bool {
	n := t.in.Header("x-forwarded-network")
	return n != "" && s != nil && n != s.Mesh.Network
}

// planOf is what the source of a destination asks of its records.
func planOf(c *config.Chain) *telemetry.Plan {
	p, _ := c.Reports.(*telemetry.Plan)
	return p
}

// chainService caches the service of the chain that a tunnel leads to.
type chainService struct {
	of      config.Service // not the chain: that would keep an old snapshot alive
	service *telemetry.Service
}

// serviceOf returns the service of c for records.
func (t *tunnel) serviceOf(c *config.Chain) *telemetry.Service {
	if s := t.service.Load(); s != nil && s.of == c.Spec.Service {
		return s.service
	}
	s := &chainService{c.Spec.Service, t.p.opts.Telemetry.Service(serviceOf(c.Spec.Service))}
	t.service.Store(s)
	return s.service
}

// xfcc is x-forwarded-client-cert in the form of Istio's waypoint.
func (t *tunnel) xfcc() string {
	if v := t.clientCert.Load(); v != nil {
		return *v
	}
	v := "By=" + t.conn.Local.URI + ";URI=" + t.conn.Peer.URI
	t.clientCert.Store(&v)
	return v
}
