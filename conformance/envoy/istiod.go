package envoy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	// The types that the resources hold as Any.
	_ "github.com/cncf/xds/go/udpa/type/v1"
	_ "github.com/cncf/xds/go/xds/type/matcher/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/istiod"
)

// Istiod starts the waypoint with resources as istiod sends them.
func (l *Lab) Istiod(r *Resources, ns string) (*Side, error) {
	m, err := istiodModel(r, ns)
	if err != nil {
		return nil, err
	}
	return l.model("istiod", m)
}

// istiodModel is what config/istiod makes of resources.
func istiodModel(r *Resources, ns string) (*config.Model, error) {
	w := istiod.NewWorld(istiod.Options{Namespace: ns, Gateway: "waypoint", Class: "istio-waypoint", TrustDomain: "cluster.local",
		RootNamespace: "istio-system", ClusterID: "Kubernetes", Domain: "cluster.local"})
	for _, t := range []struct {
		url  string
		list []Object
		name string
		make func() proto.Message
	}{
		{istiod.ClusterType, r.Clusters, "name", func() proto.Message { return new(clusterv3.Cluster) }},
		{istiod.EndpointsType, r.Endpoints, "cluster_name", func() proto.Message { return new(endpointv3.ClusterLoadAssignment) }},
		{istiod.ListenerType, r.Listeners, "name", func() proto.Message { return new(listenerv3.Listener) }},
	} {
		var res []istiod.Resource
		for _, o := range t.list {
			b, err := wire(o, t.make())
			if err != nil {
				return nil, fmt.Errorf("%v: %w", o[t.name], err)
			}
			res = append(res, istiod.Resource{Name: str(o[t.name]), Version: "1", Body: b})
		}
		if errs := w.Apply(t.url, res, nil); len(errs) > 0 {
			return nil, errs[0]
		}
	}
	var res []istiod.Resource
	for _, o := range clone(r.Workloads) {
		if wl, ok := o["workload"].(Object); ok {
			res = append(res, istiod.Resource{Name: str(wl["uid"]), Version: "1", Body: workloadWire(wl)})
		}
	}
	if errs := w.Apply(istiod.WorkloadType, res, nil); len(errs) > 0 {
		return nil, errs[0]
	}
	return w.Model(), nil
}

func wire(o Object, m proto.Message) ([]byte, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(b, m); err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

// workloadFields are the string fields of istio.workload.Workload that matter here.
var workloadFields = map[string]protowire.Number{
	"name": 1, "namespace": 2, "network": 4, "trust_domain": 6, "service_account": 7, "node": 9,
	"canonical_name": 10, "canonical_revision": 11, "workload_name": 13, "cluster_id": 18, "uid": 20,
}

// workloadWire serializes a Workload, whose Go type no module exports.
func workloadWire(w Object) []byte {
	var b []byte
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range workloadFields {
			if !yield(k) {
				return
			}
		}
	}) {
		if s := str(w[k]); s != "" {
			b = protowire.AppendString(protowire.AppendTag(b, workloadFields[k], protowire.BytesType), s)
		}
	}
	for _, a := range list(w["addresses"]) {
		if raw, err := base64.StdEncoding.DecodeString(str(a)); err == nil {
			b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), raw)
		}
	}
	if w["tunnel_protocol"] == "HBONE" {
		b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), 1)
	}
	return b
}
