package dump

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/xds"
	"waypoint.dev/waypoint/xds/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world takes everything but what is called "bad".
type world struct{}

func (world) Apply(url string, ups []istiod.Resource, _ []string) (errs []*istiod.ResourceError) {
	for _, u := range ups {
		if u.Name == "bad" {
			errs = append(errs, &istiod.ResourceError{Type: url, Name: u.Name, Err: errBad})
		}
	}
	return errs
}
func (world) Model() *config.Model   { return &config.Model{} }
func (world) Wanted(string) []string { return nil }

type plain string

func (p plain) Error() string { return string(p) }

const errBad = plain("field 7 makes no sense")

func resource(t *testing.T, name string, m proto.Message) *discovery.Resource {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discovery.Resource{Name: name, Version: "v1", Resource: a}
}

func source(t *testing.T) Source {
	t.Helper()
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	ids := ca.Source("shop", "waypoint", time.Hour)
	t.Cleanup(func() { ids.Close() })
	node, err := xds.NewNode("waypoint~1.2.3.4~a.b~c", "a.b", "", "", "", map[string]any{"X": 1})
	if err != nil {
		t.Fatal(err)
	}
	f := feed.New(feed.Options{World: world{}, Publish: func(*config.Model) {}})
	inline := func(s string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(s)}}
	}
	socket, err := anypb.New(&tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: inline("chain"), PrivateKey: inline("KEY-IN-CLUSTER")}}}})
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(&xds.Response{Type: istiod.ClusterType, Upserts: []*discovery.Resource{
		resource(t, "tls", &clusterv3.Cluster{Name: "tls", TransportSocket: &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: socket}}}),
		resource(t, "odd", &clusterv3.Cluster{Name: "odd", TransportSocket: &corev3.TransportSocket{Name: "x", ConfigType: &corev3.TransportSocket_TypedConfig{
			TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/some.Unknown", Value: []byte{8, 1}}}}}),
		resource(t, "bad", &clusterv3.Cluster{Name: "bad"}),
	}})
	f.Apply(&xds.Response{Type: istiod.SecretType, Upserts: []*discovery.Resource{
		resource(t, "kubernetes://cert", &tlsv3.Secret{Name: "kubernetes://cert", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline("PUBLIC"), PrivateKey: inline("KEY-IN-SECRET")}}}),
	}})
	return Source{Feed: f, Node: node, IDs: ids, Extra: map[string]string{"problem": "lua"}}
}

func TestSecretsAreNotShown(t *testing.T) {
	s := source(t)
	b, err := Config(s, true)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := s.IDs.SVID().PEM()
	enc := base64.StdEncoding.EncodeToString
	for _, secret := range []string{enc([]byte("KEY-IN-CLUSTER")), enc([]byte("KEY-IN-SECRET")), enc(key), "KEY-IN"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("the dump shows %.30s", secret)
		}
	}
	for _, want := range []string{enc([]byte("PUBLIC")), enc([]byte(redacted)), enc(s.IDs.Bundle().PEM), "some.Unknown", "field 7 makes no sense", "lua", "waypoint~1.2.3.4~a.b~c"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the dump does not show %.40s", want)
		}
	}
	// What the feed holds was not changed by showing it.
	for _, h := range s.Feed.Resources(istiod.SecretType) {
		if !strings.Contains(string(h.Body.Value), "KEY-IN-SECRET") {
			t.Error("the resource itself was redacted")
		}
	}
}

func TestSections(t *testing.T) {
	s := source(t)
	for _, eds := range []bool{false, true} {
		b, err := Config(s, eds)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Configs []struct {
				Type string `json:"@type"`
			}
		}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		n := map[string]int{}
		for _, c := range d.Configs {
			n[strings.TrimPrefix(c.Type, "type.googleapis.com/envoy.admin.v3.")]++
		}
		for _, want := range []string{"BootstrapConfigDump", "ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump", "SecretsConfigDump", "EcdsConfigDump"} {
			if n[want] != 1 {
				t.Errorf("%d %s", n[want], want)
			}
		}
		if (n["EndpointsConfigDump"] == 1) != eds {
			t.Errorf("include_eds %v: %v", eds, n)
		}
	}
}

func TestClusters(t *testing.T) {
	b, err := Clusters(source(t).Feed)
	if err != nil || !strings.Contains(string(b), `"odd"`) || strings.Contains(string(b), "KEY-IN") {
		t.Errorf("%s %v", b, err)
	}
}
