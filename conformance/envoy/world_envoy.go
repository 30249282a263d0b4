package envoy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// SubjectPod is the pod of all subjects of a world.
const (
	backendNet  = loopNet + "1." // 127.8.1.1 is the pod of the first backend
	SubjectPod  = loopNet + "1.100"
	backendPort = 8080
)

// downPod is where nothing listens.
const downPod = loopNet + "1.102"

// pod is the pod of a subject's service.
func (s *Subject) pod() string {
	if s.Pods == "down" {
		return "nobody"
	}
	return "subject"
}

func (s *Subject) podAddress() string {
	if s.Pods == "down" {
		return downPod
	}
	return SubjectPod
}

// podOf is the address of a backend's pod.
func (w *World) podOf(backend string) string {
	return fmt.Sprint(backendNet, 1+slices.Index(w.Backends, backend))
}

// Resources are what istiod sends for the world. base gives connect_terminate,
// connect_originate, the clusters behind them and the shape of main_internal.
func (w *World) Resources(base *Resources) *Resources { return w.build(base, false) }

// OracleResources are Resources whose chains also tell which rules matched.
func (w *World) OracleResources(base *Resources) *Resources { return w.build(base, true) }

func (w *World) build(base *Resources, observe bool) *Resources {
	base = clone(base)
	out := &Resources{Endpoints: []Object{}}
	for _, c := range base.Clusters {
		if n := str(c["name"]); n == "main_internal" || n == "encap" || n == "connect_originate" {
			out.Clusters = append(out.Clusters, c)
		}
	}
	for _, b := range w.Backends {
		name := clusterName(b + "." + w.Namespace + ".svc.cluster.local")
		out.add(w.cluster(name, b, false), w.endpoints(name, b, w.podOf(b)))
		out.Workloads = append(out.Workloads, w.workload(b, w.podOf(b)))
	}
	out.Workloads = append(out.Workloads, w.workload("subject", SubjectPod), w.workload("nobody", downPod))
	w.addProviders(out)
	var chains, ranges []any
	for _, s := range w.Subjects {
		name := s.cluster(w.Namespace)
		endpoints := Object{"cluster_name": name}
		if s.Pods != "none" {
			endpoints = w.endpoints(name, s.pod(), s.podAddress())
		}
		cluster := w.cluster(name, s.Name, s.HTTP2)
		s.Pool.limit(cluster)
		out.add(cluster, endpoints)
		chains = append(chains, w.chain(s, observe))
		ranges = append(ranges, Object{
			"ranges": []any{Object{"address_prefix": s.VIP(), "prefix_len": 32}},
			"on_match": Object{"matcher": Object{"matcher_tree": Object{
				"input": Object{"name": "port", "typed_config": typed("extensions.matching.common_inputs.network.v3.DestinationPortInput")},
				"exact_match_map": Object{"map": Object{fmt.Sprint(s.port()): Object{"action": Object{"name": name,
					"typed_config": Object{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": name}}}}},
			}}},
		})
	}
	for _, l := range base.Listeners {
		switch str(l["name"]) {
		case "main_internal":
			l["filter_chains"] = chains
			l["filter_chain_matcher"] = Object{"matcher_tree": Object{
				"input":        Object{"name": "ip", "typed_config": typed("extensions.matching.common_inputs.network.v3.DestinationIPInput")},
				"custom_match": Object{"name": "ip", "typed_config": Object{"@type": "type.googleapis.com/xds.type.matcher.v3.IPMatcher", "range_matchers": ranges}},
			}}
		case "connect_terminate", "connect_originate":
		default:
			continue
		}
		out.Listeners = append(out.Listeners, l)
	}
	return out
}

func (r *Resources) add(cluster, endpoints Object) {
	r.Clusters = append(r.Clusters, cluster)
	r.Endpoints = append(r.Endpoints, endpoints)
}

func clusterName(host string) string { return "inbound-vip|80|http|" + host }

// cluster is one of a service. Its name ends in the host.
func (w *World) cluster(cluster, name string, h2 bool) Object {
	host := cluster[strings.LastIndexByte(cluster, '|')+1:]
	socket := typed("extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport")
	socket["passthrough_metadata"] = []any{
		Object{"kind": Object{"host": Object{}}, "name": "envoy.filters.listener.original_dst"},
		Object{"kind": Object{"host": Object{}}, "name": "istio"},
	}
	socket["transport_socket"] = Object{"name": "envoy.transport_sockets.raw_buffer", "typed_config": typed("extensions.transport_sockets.raw_buffer.v3.RawBuffer")}
	c := Object{
		"name": cluster, "alt_stat_name": cluster + ";", "type": "EDS",
		"eds_cluster_config": Object{"eds_config": Object{"ads": Object{}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}, "service_name": cluster},
		"connect_timeout":    "10s", "lb_policy": "LEAST_REQUEST",
		"circuit_breakers": Object{"thresholds": []any{Object{"max_connections": 4294967295, "max_pending_requests": 4294967295, "max_requests": 4294967295, "max_retries": 4294967295}}},
		"common_lb_config": Object{"healthy_panic_threshold": Object{}},
		"transport_socket": Object{"name": "internal_upstream", "typed_config": socket},
		"metadata":         Object{"filter_metadata": Object{"istio": Object{"services": []any{Object{"host": host, "name": name, "namespace": w.Namespace}}}}},
	}
	if h2 {
		o := typed("extensions.upstreams.http.v3.HttpProtocolOptions")
		o["explicit_http_config"] = Object{"http2_protocol_options": Object{}}
		c["typed_extension_protocol_options"] = Object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": o}
	}
	return c
}

func (w *World) endpoints(cluster, pod, addr string) Object {
	to := fmt.Sprint(addr, ":", backendPort)
	return Object{"cluster_name": cluster, "endpoints": []any{Object{
		"locality": Object{"region": "r1", "zone": "z1"},
		"lb_endpoints": []any{Object{
			"endpoint":      Object{"address": Object{"envoy_internal_address": Object{"server_listener_name": "connect_originate", "endpoint_id": to}}},
			"health_status": "HEALTHY",
			"metadata": Object{"filter_metadata": Object{
				"envoy.filters.listener.original_dst": Object{"local": to},
				"istio":                               Object{"workload": pod + ";" + w.Namespace + ";" + pod + ";;Kubernetes"},
			}},
			"load_balancing_weight": 1,
		}},
		"load_balancing_weight": 1,
	}}}
}

func (w *World) workload(pod, addr string) Object {
	return Object{"workload": Object{
		"uid": "Kubernetes//Pod/" + w.Namespace + "/" + pod, "name": pod, "namespace": w.Namespace,
		"addresses": []any{netip.MustParseAddr(addr).AsSlice()}, "tunnel_protocol": "HBONE", "service_account": pod,
		"canonical_name": pod, "canonical_revision": "latest", "workload_name": pod, "cluster_id": "Kubernetes", "trust_domain": "cluster.local",
	}}
}
