package istiod

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/basic_auth/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	_ "istio.io/api/envoy/extensions/stats"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var deterministic = proto.MarshalOptions{Deterministic: true}

// testOptions is the waypoint that the fixtures were generated for.
func testOptions() Options {
	return Options{
		Namespace: "shop", Gateway: "waypoint", Class: "istio-waypoint", TrustDomain: "cluster.local",
		RootNamespace: "istio-system", ClusterID: "Kubernetes", Domain: "cluster.local",
	}
}

// wire returns the serialized form of a message.
func wire(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := deterministic.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parse reads protojson.
func parse[M proto.Message](t testing.TB, m M, text string) M {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	return m
}

// fixture reads one file of a scenario: a list of resources in protojson.
func fixture(t testing.TB, dir, file string) []json.RawMessage {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	var out []json.RawMessage
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}

// resources are those of a scenario, by type.
func resources(t testing.TB, dir string) map[string][]Resource {
	t.Helper()
	out := make(map[string][]Resource)
	for _, raw := range fixture(t, dir, "clusters.json") {
		c := parse(t, &clusterv3.Cluster{}, string(raw))
		out[ClusterType] = append(out[ClusterType], Resource{c.GetName(), "1", wire(t, c)})
	}
	for _, raw := range fixture(t, dir, "endpoints.json") {
		c := parse(t, &endpointv3.ClusterLoadAssignment{}, string(raw))
		out[EndpointsType] = append(out[EndpointsType], Resource{c.GetClusterName(), "1", wire(t, c)})
	}
	for _, raw := range fixture(t, dir, "listeners.json") {
		l := parse(t, &listenerv3.Listener{}, string(raw))
		out[ListenerType] = append(out[ListenerType], Resource{l.GetName(), "1", wire(t, l)})
	}
	for _, raw := range fixture(t, dir, "workloads.json") {
		var r struct {
			Name, Version string
			Resource      struct{ Workload map[string]any }
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if r.Resource.Workload != nil {
			out[WorkloadType] = append(out[WorkloadType], Resource{r.Name, r.Version, workloadWire(t, r.Resource.Workload)})
		}
	}
	return out
}

// order is that in which istiod pushes.
var order = []string{ClusterType, EndpointsType, ListenerType, ExtensionType, WorkloadType}

func apply(t testing.TB, w *World, res map[string][]Resource) {
	t.Helper()
	for _, typ := range order {
		if errs := w.Apply(typ, res[typ], nil); len(errs) > 0 {
			t.Fatal(errs[0])
		}
	}
}

// load makes a world of a scenario.
func load(t testing.TB, dir string) *World {
	t.Helper()
	w := NewWorld(testOptions())
	apply(t, w, resources(t, dir))
	return w
}

func compile(t testing.TB, m *config.Model) *config.Snapshot {
	t.Helper()
	s, problems := config.Compile(m, nil, config.Env{Stage: anyStage})
	for _, p := range problems {
		if !strings.Contains(p.Message, "is unknown; its share answers ") {
			t.Errorf("compile: %s %s: %s", p.Name, p.Field, p.Message)
		}
	}
	return s
}

// anyStage stands for whatever runs a stage.
func anyStage(_ *config.Destination, _ *config.Stage, _ any) (any, error) { return struct{}{}, nil }

// workloadWire serializes a Workload as protojson with proto names writes it.
func workloadWire(t testing.TB, f map[string]any) []byte {
	t.Helper()
	var b []byte
	str := func(n protowire.Number, v any) {
		if s, _ := v.(string); s != "" {
			b = protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
		}
	}
	num := func(n protowire.Number, v uint64) {
		b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	str(wlName, f["name"])
	str(wlNamespace, f["namespace"])
	str(wlNetwork, f["network"])
	str(wlTrustDomain, f["trust_domain"])
	str(wlServiceAccount, f["service_account"])
	str(wlNode, f["node"])
	str(wlCanonicalName, f["canonical_name"])
	str(wlCanonicalRevision, f["canonical_revision"])
	str(wlWorkloadName, f["workload_name"])
	str(wlClusterID, f["cluster_id"])
	str(wlUID, f["uid"])
	list, _ := f["addresses"].([]any)
	for _, a := range list {
		raw, err := base64.StdEncoding.DecodeString(a.(string))
		if err != nil {
			t.Fatal(err)
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, wlAddresses, protowire.BytesType), raw)
	}
	if f["tunnel_protocol"] == "HBONE" {
		num(wlTunnelProtocol, tunnelHBONE)
	}
	if f["status"] == "UNHEALTHY" {
		num(wlStatus, statusUnhealthy)
	}
	if f["network_mode"] == "HOST_NETWORK" {
		num(wlNetworkMode, modeHostNetwork)
	}
	for i, n := range []string{"DEPLOYMENT", "CRONJOB", "POD", "JOB"} {
		if f["workload_type"] == n {
			num(wlType, uint64(i))
		}
	}
	if l, ok := f["locality"].(map[string]any); ok {
		var in []byte
		for n, k := range map[protowire.Number]string{localityRegion: "region", localityZone: "zone", localitySubzone: "subzone"} {
			if s, _ := l[k].(string); s != "" {
				in = protowire.AppendString(protowire.AppendTag(in, n, protowire.BytesType), s)
			}
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, wlLocality, protowire.BytesType), in)
	}
	return b
}

// ask is a request to a waypoint, for tables.
type ask struct {
	peer, source, method, path, host, query string
	headers                                 []string // name, value, ...
	claims                                  map[string]any
	port                                    uint16
}

func (a ask) request() *attrs.Request {
	conn := &attrs.Conn{DestPort: a.port, Source: netip.AddrPortFrom(netip.MustParseAddr("10.244.1.99"), 4711)}
	if a.source != "" {
		conn.Source = netip.AddrPortFrom(netip.MustParseAddr(a.source), 4711)
	}
	if a.peer != "" {
		p := strings.Split(a.peer, "/")
		conn.Peer = attrs.Principal{URI: "spiffe://" + a.peer, TrustDomain: p[0], Namespace: p[2], ServiceAccount: p[4]}
	}
	r := &attrs.Request{Conn: conn, Method: a.method, Scheme: "http", Authority: a.host, Path: a.path, Query: a.query, HasQuery: a.query != "", Remote: conn.Source.Addr()}
	if r.Method == "" {
		r.Method = "GET"
	}
	for i := 0; i+1 < len(a.headers); i += 2 {
		r.Headers = append(r.Headers, attrs.Field{Name: a.headers[i], Value: a.headers[i+1]})
	}
	if a.claims != nil {
		c := &attrs.Claims{Raw: a.claims}
		c.Issuer, _ = a.claims["iss"].(string)
		c.Subject, _ = a.claims["sub"].(string)
		r.Claims = c
	}
	return r
}

// chainOf returns the chain of a destination key.
func chainOf(t testing.TB, s *config.Snapshot, key string) *config.Chain {
	t.Helper()
	c := s.Chain(key)
	if c == nil {
		t.Fatalf("no chain %s", key)
	}
	return c
}

// allowed runs the authorization stages of a chain.
func allowed(c *config.Chain, r *attrs.Request) (ok bool, rule string) {
	for i := range c.Stages {
		if c.Stages[i].Kind == config.StageAuthz {
			if d := c.Stages[i].Authz.Check(r); !d.Allowed {
				return false, d.Rule
			}
		}
	}
	return true, ""
}

// extensionConfig is a TypedExtensionConfig of a Wasm filter.
func extensionConfig(t testing.TB, body string) *corev3.TypedExtensionConfig {
	t.Helper()
	return parse(t, &corev3.TypedExtensionConfig{}, `{"name":"ext","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",`+body+`}}`)
}
