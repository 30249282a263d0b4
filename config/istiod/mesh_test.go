package istiod

import (
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/anypb"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// mesh makes a mesh of any size in the shape that istiod sends.
type mesh struct {
	services, endpoints int // endpoints of each service
	filters             map[int]string
	routes              map[int]string // routes of a service, in protojson
	manager, cluster    string         // further fields of connection managers and clusters
	tags                int            // custom tags of spans, which make up most of a chain
}

func (m *mesh) host(i int) string { return fmt.Sprintf("svc-%d.shop.svc.cluster.local", i) }
func (m *mesh) name(i int) string { return "inbound-vip|80|http|" + m.host(i) }
func (m *mesh) vip(i int) string {
	return fmt.Sprintf("10.%d.%d.%d", 96+i>>16, i>>8&255, i&255)
}
func (m *mesh) pod(i, j int) string {
	n := i*m.endpoints + j + 1
	return fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)
}

func (m *mesh) clusters(t testing.TB) []Resource {
	var out []Resource
	for i := range m.services {
		c := parse(t, &clusterv3.Cluster{}, `{"name":"`+m.name(i)+`","type":"EDS","eds_cluster_config":{"service_name":"`+m.name(i)+`"},
			`+m.cluster+`"connect_timeout":"10s","lb_policy":"LEAST_REQUEST","common_lb_config":{"healthy_panic_threshold":{}},
			"circuit_breakers":{"thresholds":[{"max_connections":4294967295,"max_pending_requests":4294967295,"max_requests":4294967295,"max_retries":4294967295}]},
			"metadata":{"filter_metadata":{"istio":{"services":[{"host":"`+m.host(i)+`","name":"svc","namespace":"shop"}]}}}}`)
		out = append(out, Resource{m.name(i), "1", wire(t, c)})
	}
	return out
}

func (m *mesh) assignment(t testing.TB, i, n int) Resource {
	var eps []string
	for j := range n {
		ip := m.pod(i, j)
		eps = append(eps, `{"endpoint":{"address":{"envoy_internal_address":{"server_listener_name":"connect_originate","endpoint_id":"`+ip+`:8080"}}},
			"health_status":"HEALTHY","load_balancing_weight":1,"metadata":{"filter_metadata":{"envoy.filters.listener.original_dst":{"local":"`+ip+`:8080"},
			"istio":{"workload":"pod;shop;svc;;Kubernetes"}}}}`)
	}
	c := parse(t, &endpointv3.ClusterLoadAssignment{}, `{"cluster_name":"`+m.name(i)+`","endpoints":[{"locality":{"region":"r1","zone":"z1"},"load_balancing_weight":1,"lb_endpoints":[`+strings.Join(eps, ",")+`]}]}`)
	return Resource{m.name(i), "1", wire(t, c)}
}

func (m *mesh) assignments(t testing.TB) []Resource {
	var out []Resource
	for i := range m.services {
		out = append(out, m.assignment(t, i, m.endpoints))
	}
	return out
}

func (m *mesh) workloads(t testing.TB) []Resource {
	var out []Resource
	for i := range m.services {
		for j := range m.endpoints {
			out = append(out, podResource(t, m.pod(i, j), fmt.Sprintf("pod-%d-%d", i, j), "svc"))
		}
	}
	return out
}

// hcm returns the connection manager of a service in protojson.
func (m *mesh) hcm(i int) string {
	routes := m.routes[i]
	if routes == "" {
		routes = `{"name":"default","match":{"prefix":"/"},"route":{"cluster":"` + m.name(i) + `","timeout":"0s","retry_policy":{
			"retry_on":"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes","num_retries":2,
			"retry_host_predicate":[{"name":"envoy.retry_host_predicates.previous_hosts"}],"host_selection_retry_max_attempts":"5"},"max_grpc_timeout":"0s"}}`
	}
	filters := m.filters[i]
	if filters != "" {
		filters += ","
	}
	var tags []string
	for n := range m.tags {
		tags = append(tags, fmt.Sprintf(`{"tag":"istio.tag-%d","value":"%%FILTER_STATE(downstream_peer_obj:FIELD:service-%d)%%"}`, n, n))
	}
	return `{"stat_prefix":"inbound_0.0.0.0_80;","normalize_path":true,` + m.manager + `"tracing":{"random_sampling":{"value":1},"custom_tags":[` + strings.Join(tags, ",") + `]},
		"route_config":{"name":"r","virtual_hosts":[{"name":"inbound|http|80","domains":["*"],"routes":[` + routes + `]}]},
		"http_filters":[` + filters + `
		{"name":"envoy.filters.http.fault","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}},
		{"name":"envoy.filters.http.cors","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},
		{"name":"envoy.filters.http.router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}`
}

func (m *mesh) listener(t testing.TB) Resource {
	var ranges []string
	l := &listenerv3.Listener{Name: mainInternal}
	for i := range m.services {
		cfg, err := anypb.New(parse(t, &hcmv3.HttpConnectionManager{}, m.hcm(i)))
		if err != nil {
			t.Fatal(err)
		}
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{Name: m.name(i), Filters: []*listenerv3.Filter{{
			Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: cfg},
		}}})
		ranges = append(ranges, `{"ranges":[{"address_prefix":"`+m.vip(i)+`","prefix_len":32}],"on_match":{"matcher":{"matcher_tree":{
			"input":{"name":"port","typed_config":{"@type":"type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput"}},
			"exact_match_map":{"map":{"80":{"action":{"name":"x","typed_config":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"`+m.name(i)+`"}}}}}}}}}`)
	}
	l.FilterChainMatcher = parse(t, &xdsmatcherv3.Matcher{}, `{"matcher_tree":{"input":{"name":"ip","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DestinationIPInput"}},
		"custom_match":{"name":"ip","typed_config":{"@type":"type.googleapis.com/xds.type.matcher.v3.IPMatcher","range_matchers":[`+strings.Join(ranges, ",")+`]}}}}`)
	return Resource{mainInternal, "1", wire(t, l)}
}

func (m *mesh) resources(t testing.TB) map[string][]Resource {
	return map[string][]Resource{
		ClusterType: m.clusters(t), EndpointsType: m.assignments(t), ListenerType: {m.listener(t)}, WorkloadType: m.workloads(t),
	}
}
