package dump

import (
	"encoding/json"
	"fmt"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/xds/feed"
)

// Source is what is shown.
type Source struct {
	Feed  *feed.Feed
	Node  *corev3.Node
	IDs   identity.Source
	Extra any // our own view, marshalled as JSON into a Struct section; nil: none
}

var format = protojson.MarshalOptions{UseProtoNames: true}

// Config is the answer to /config_dump. Endpoints are many, and shown only when
// asked for, as in Envoy.
func Config(s Source, endpoints bool) (json.RawMessage, error) {
	sections := []proto.Message{s.bootstrap(), s.clusters(), s.listeners(), s.routes(), s.secrets(), s.extensions()}
	if endpoints {
		sections = append(sections, s.endpoints())
	}
	if s.Extra != nil {
		extra, err := toStruct(s.Extra)
		if err != nil {
			return nil, err
		}
		sections = append(sections, extra)
	}
	d := &adminv3.ConfigDump{}
	for _, m := range sections {
		clean(m.ProtoReflect(), false)
		a, err := anypb.New(m)
		if err != nil {
			return nil, fmt.Errorf("dump: %w", err)
		}
		d.Configs = append(d.Configs, a)
	}
	b, err := format.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("dump: %w", err)
	}
	return b, nil
}

func toStruct(v any) (*structpb.Struct, error) {
	b, err := json.Marshal(map[string]any{"waypoint": v})
	if err != nil {
		return nil, fmt.Errorf("dump: %w", err)
	}
	out := new(structpb.Struct)
	if err := out.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("dump: %w", err)
	}
	return out, nil
}

func (s Source) bootstrap() proto.Message {
	node, _ := proto.Clone(s.Node).(*corev3.Node)
	return &adminv3.BootstrapConfigDump{Bootstrap: &bootstrapv3.Bootstrap{Node: node}}
}

// copyOf guards the feed's resources from clean, which works in place.
func copyOf(a *anypb.Any) *anypb.Any { return &anypb.Any{TypeUrl: a.TypeUrl, Value: a.Value} }

func failure(r feed.Refused) *adminv3.UpdateFailureState {
	return &adminv3.UpdateFailureState{Details: r.Reason, VersionInfo: r.Version, LastUpdateAttempt: timestamppb.New(r.At)}
}

func (s Source) clusters() proto.Message {
	d := &adminv3.ClustersConfigDump{VersionInfo: s.Feed.Version(istiod.ClusterType)}
	bad := refusals(s.Feed, istiod.ClusterType)
	for _, h := range s.Feed.Resources(istiod.ClusterType) {
		c := &adminv3.ClustersConfigDump_DynamicCluster{VersionInfo: h.Version, Cluster: copyOf(h.Body), LastUpdated: timestamppb.New(h.At)}
		if r, ok := bad[h.Name]; ok {
			c.ErrorState = failure(r)
			delete(bad, h.Name)
		}
		d.DynamicActiveClusters = append(d.DynamicActiveClusters, c)
	}
	for _, r := range bad {
		d.DynamicWarmingClusters = append(d.DynamicWarmingClusters, &adminv3.ClustersConfigDump_DynamicCluster{
			VersionInfo: r.Version, ErrorState: failure(r), Cluster: named(&clusterv3.Cluster{Name: r.Name})})
	}
	return d
}

func (s Source) listeners() proto.Message {
	d := &adminv3.ListenersConfigDump{VersionInfo: s.Feed.Version(istiod.ListenerType)}
	bad := refusals(s.Feed, istiod.ListenerType)
	for _, h := range s.Feed.Resources(istiod.ListenerType) {
		l := &adminv3.ListenersConfigDump_DynamicListener{Name: h.Name, ActiveState: &adminv3.ListenersConfigDump_DynamicListenerState{
			VersionInfo: h.Version, Listener: copyOf(h.Body), LastUpdated: timestamppb.New(h.At)}}
		if r, ok := bad[h.Name]; ok {
			l.ErrorState = failure(r)
			delete(bad, h.Name)
		}
		d.DynamicListeners = append(d.DynamicListeners, l)
	}
	for _, r := range bad {
		d.DynamicListeners = append(d.DynamicListeners, &adminv3.ListenersConfigDump_DynamicListener{Name: r.Name, ErrorState: failure(r)})
	}
	return d
}

// routes are those inline in the listeners; Envoy shows them as static ones.
func (s Source) routes() proto.Message {
	d := &adminv3.RoutesConfigDump{}
	for _, h := range s.Feed.Resources(istiod.ListenerType) {
		l := &listenerv3.Listener{}
		if proto.Unmarshal(h.Body.Value, l) != nil {
			continue
		}
		for _, fc := range l.FilterChains {
			for _, f := range fc.Filters {
				m := &hcmv3.HttpConnectionManager{}
				if f.GetTypedConfig().MessageIs(m) && f.GetTypedConfig().UnmarshalTo(m) == nil && m.GetRouteConfig() != nil {
					if a, err := anypb.New(m.GetRouteConfig()); err == nil {
						d.StaticRouteConfigs = append(d.StaticRouteConfigs, &adminv3.RoutesConfigDump_StaticRouteConfig{RouteConfig: a, LastUpdated: timestamppb.New(h.At)})
					}
				}
			}
		}
	}
	return d
}

func (s Source) endpoints() proto.Message {
	d := &adminv3.EndpointsConfigDump{}
	for _, h := range s.Feed.Resources(istiod.EndpointsType) {
		d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{
			VersionInfo: h.Version, EndpointConfig: copyOf(h.Body), LastUpdated: timestamppb.New(h.At)})
	}
	return d
}

func (s Source) extensions() proto.Message {
	d := &adminv3.EcdsConfigDump{}
	for _, h := range s.Feed.Resources(istiod.ExtensionType) {
		d.EcdsFilters = append(d.EcdsFilters, &adminv3.EcdsConfigDump_EcdsFilterConfig{VersionInfo: h.Version, EcdsFilter: copyOf(h.Body), LastUpdated: timestamppb.New(h.At)})
	}
	return d
}

// secrets shows the own certificate and the roots under Envoy's names, and what
// the control plane sent. Private keys are replaced by clean, and never put in.
func (s Source) secrets() proto.Message {
	d := &adminv3.SecretsConfigDump{}
	add := func(sec *tlsv3.Secret, at time.Time) {
		if a, err := anypb.New(sec); err == nil {
			d.DynamicActiveSecrets = append(d.DynamicActiveSecrets, &adminv3.SecretsConfigDump_DynamicSecret{Name: sec.Name, Secret: a, LastUpdated: timestamppb.New(at)})
		}
	}
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	if svid := s.IDs.SVID(); svid != nil {
		add(&tlsv3.Secret{Name: "default", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(svid.ChainPEM()), PrivateKey: inline([]byte(redacted)),
		}}}, svid.Certificate.Leaf.NotBefore)
	}
	if b := s.IDs.Bundle(); b != nil {
		add(&tlsv3.Secret{Name: "ROOTCA", Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(b.PEM)}}}, time.Time{})
	}
	for _, h := range s.Feed.Resources(istiod.SecretType) {
		d.DynamicActiveSecrets = append(d.DynamicActiveSecrets, &adminv3.SecretsConfigDump_DynamicSecret{Name: h.Name, VersionInfo: h.Version, Secret: copyOf(h.Body), LastUpdated: timestamppb.New(h.At)})
	}
	return d
}

func refusals(f *feed.Feed, url string) map[string]feed.Refused {
	out := map[string]feed.Refused{}
	for _, r := range f.Refusals(url) {
		out[r.Name] = r
	}
	return out
}

func named(m proto.Message) *anypb.Any {
	a, _ := anypb.New(m) // a message with one string always marshals
	return a
}

// Clusters is the answer to /clusters?format=json: every cluster with its hosts
// as the control plane sees them.
func Clusters(f *feed.Feed) (json.RawMessage, error) {
	assigned := map[string]*endpointv3.ClusterLoadAssignment{}
	for _, h := range f.Resources(istiod.EndpointsType) {
		a := &endpointv3.ClusterLoadAssignment{}
		if proto.Unmarshal(h.Body.Value, a) == nil {
			assigned[h.Name] = a
		}
	}
	out := &adminv3.Clusters{}
	for _, h := range f.Resources(istiod.ClusterType) {
		c := &clusterv3.Cluster{}
		if proto.Unmarshal(h.Body.Value, c) != nil {
			continue
		}
		load := c.GetLoadAssignment()
		if eds := c.GetEdsClusterConfig(); eds != nil {
			name := eds.GetServiceName()
			if name == "" {
				name = c.Name
			}
			load = assigned[name]
		}
		st := &adminv3.ClusterStatus{Name: c.Name, AddedViaApi: true, EdsServiceName: c.GetEdsClusterConfig().GetServiceName(), ObservabilityName: c.AltStatName}
		for _, loc := range load.GetEndpoints() {
			for _, e := range loc.GetLbEndpoints() {
				health := e.GetHealthStatus()
				if health == corev3.HealthStatus_UNKNOWN {
					health = corev3.HealthStatus_HEALTHY
				}
				st.HostStatuses = append(st.HostStatuses, &adminv3.HostStatus{
					Address: e.GetEndpoint().GetAddress(), Hostname: e.GetEndpoint().GetHostname(), Locality: loc.GetLocality(), Priority: loc.GetPriority(),
					Weight: max(e.GetLoadBalancingWeight().GetValue(), 1), HealthStatus: &adminv3.HostHealthStatus{EdsHealthStatus: health},
				})
			}
		}
		out.ClusterStatuses = append(out.ClusterStatuses, st)
	}
	b, err := format.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("dump: %w", err)
	}
	return b, nil
}
