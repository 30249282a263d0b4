package testmesh

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config/istiod"
	_ "waypoint.dev/waypoint/xds/dump" // links every type that may stand in a scenario
)

// Load reads a scenario, see [ReadScenario], with addresses replaced as pods says,
// so that endpoints live on loopback. It sets resources and sends nothing but to
// streams that are open.
func (s *Istiod) Load(dir string, pods map[string]string) error {
	var pairs []string
	for from, to := range pods {
		// Whole addresses only: 10.0.0.1 is not the start of 10.0.0.10.
		for _, end := range []string{`"`, ":", ","} {
			pairs = append(pairs, from+end, to+end)
		}
	}
	whole := strings.NewReplacer(pairs...)
	all, err := ReadScenario(dir, func(text string) string {
		if to, ok := pods[text]; ok {
			return to
		}
		return whole.Replace(text)
	})
	if err != nil {
		return err
	}
	for _, url := range ScenarioTypes {
		s.Push(url, all[url])
	}
	return nil
}

// ScenarioTypes are the types of a scenario in the order to send them.
var ScenarioTypes = []string{istiod.ClusterType, istiod.EndpointsType, istiod.ListenerType, istiod.WorkloadType}

// ReadScenario reads what an istiod sent: listeners.json, clusters.json,
// endpoints.json and workloads.json, each a JSON list, by type and name. rewrite is
// applied to the text of each file, and to each address of a workload.
func ReadScenario(dir string, rewrite func(string) string) (map[string]map[string]*anypb.Any, error) {
	out := map[string]map[string]*anypb.Any{}
	read := func(name string) ([]json.RawMessage, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		var list []json.RawMessage
		if err := json.Unmarshal([]byte(rewrite(string(b))), &list); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return list, nil
	}
	for _, f := range []struct {
		file, url string
		make      func() proto.Message
		name      func(proto.Message) string
	}{
		{"clusters.json", istiod.ClusterType, func() proto.Message { return new(clusterv3.Cluster) }, func(m proto.Message) string { return m.(*clusterv3.Cluster).Name }},
		{"endpoints.json", istiod.EndpointsType, func() proto.Message { return new(endpointv3.ClusterLoadAssignment) }, func(m proto.Message) string { return m.(*endpointv3.ClusterLoadAssignment).ClusterName }},
		{"listeners.json", istiod.ListenerType, func() proto.Message { return new(listenerv3.Listener) }, func(m proto.Message) string { return m.(*listenerv3.Listener).Name }},
	} {
		list, err := read(f.file)
		if err != nil {
			return nil, err
		}
		out[f.url] = map[string]*anypb.Any{}
		for i, raw := range list {
			m := f.make()
			if err := protojson.Unmarshal(raw, m); err != nil {
				return nil, fmt.Errorf("%s[%d]: %w", f.file, i, err)
			}
			a, err := anypb.New(m)
			if err != nil {
				return nil, err
			}
			out[f.url][f.name(m)] = a
		}
	}
	list, err := read("workloads.json")
	if err != nil {
		return nil, err
	}
	out[istiod.WorkloadType] = map[string]*anypb.Any{}
	for i, raw := range list {
		var r struct {
			Name     string
			Resource struct{ Workload *Workload }
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("workloads.json[%d]: %w", i, err)
		}
		if w := r.Resource.Workload; w != nil {
			out[istiod.WorkloadType][r.Name] = w.Any(rewrite)
		}
	}
	return out, nil
}

// Workload is the part of istio.workload.Workload that tests need.
type Workload struct {
	UID               string   `json:"uid"`
	Name              string   `json:"name"`
	Namespace         string   `json:"namespace"`
	Addresses         [][]byte `json:"addresses"`
	Network           string   `json:"network"`
	TunnelProtocol    string   `json:"tunnel_protocol"` // "HBONE"
	TrustDomain       string   `json:"trust_domain"`
	ServiceAccount    string   `json:"service_account"`
	CanonicalName     string   `json:"canonical_name"`
	CanonicalRevision string   `json:"canonical_revision"`
	WorkloadName      string   `json:"workload_name"`
	ClusterID         string   `json:"cluster_id"`
}

// Any encodes w by the field numbers of istio's workload.proto, which has no
// published Go code. Addresses are rewritten.
func (w *Workload) Any(rewrite func(string) string) *anypb.Any {
	var b []byte
	str := func(num protowire.Number, v string) {
		if v != "" {
			b = protowire.AppendTag(b, num, protowire.BytesType)
			b = protowire.AppendString(b, v)
		}
	}
	str(1, w.Name)
	str(2, w.Namespace)
	for _, raw := range w.Addresses {
		if a, ok := netip.AddrFromSlice(raw); ok {
			if to, err := netip.ParseAddr(rewrite(a.String())); err == nil {
				raw = to.AsSlice()
			}
		}
		b = protowire.AppendTag(b, 3, protowire.BytesType)
		b = protowire.AppendBytes(b, raw)
	}
	str(4, w.Network)
	if w.TunnelProtocol == "HBONE" {
		b = protowire.AppendTag(b, 5, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
	}
	str(6, w.TrustDomain)
	str(7, w.ServiceAccount)
	str(10, w.CanonicalName)
	str(11, w.CanonicalRevision)
	str(13, w.WorkloadName)
	str(18, w.ClusterID)
	str(20, w.UID)
	return &anypb.Any{TypeUrl: istiod.WorkloadType, Value: b}
}
