package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/internal/testmesh"
)

// open decodes the last filter of a chain.
func open[M proto.Message](t *testing.T, l *listenerv3.Listener, chain string, m M) (M, *listenerv3.Filter) {
	t.Helper()
	for _, fc := range l.FilterChains {
		if fc.Name == chain {
			last := fc.Filters[len(fc.Filters)-1]
			if err := last.GetTypedConfig().UnmarshalTo(m); err != nil {
				t.Fatal(err)
			}
			return m, last
		}
	}
	t.Fatalf("no chain %s", chain)
	return m, nil
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestProxyTelemetry serves a service whose Telemetry asks for traces with tags, two
// access logs and changed metrics, as a real istiod translated it for another one.
func TestProxyTelemetry(t *testing.T) {
	c, err := testmesh.NewCollector()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const (
		provider = "outbound|7000||auto.shop.svc.cluster.local"
		web      = "inbound-vip|80|http|web.shop.svc.cluster.local"
		db       = "inbound-vip|5432|tcp|db.shop.svc.cluster.local"
	)
	r := prepareMesh(t, "07-telemetry", time.Hour)
	file := filepath.Join(r.root, "access.log")
	edit(r, istiod.ListenerType, "main_internal", &listenerv3.Listener{}, func(l *listenerv3.Listener) {
		from, _ := open(t, l, web, &hcmv3.HttpConnectionManager{})
		plain, _ := open(t, l, db, &tcpv3.TcpProxy{})
		to, filter := open(t, l, cartCluster, &hcmv3.HttpConnectionManager{})
		to.Tracing, to.AccessLog, to.HttpFilters = from.Tracing, append(from.AccessLog, plain.AccessLog...), from.HttpFilters
		to.Tracing.RandomSampling.Value = 100
		var f filev3.FileAccessLog
		log := to.AccessLog[len(to.AccessLog)-1]
		if err := log.GetTypedConfig().UnmarshalTo(&f); err != nil {
			t.Fatal(err)
		}
		f.Path = file
		log.GetTypedConfig().Value = pack(t, &f).Value
		filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, to)}
	})
	host, port, _ := strings.Cut(c.Addr, ":")
	edit(r, istiod.EndpointsType, provider, &endpointv3.ClusterLoadAssignment{}, func(a *endpointv3.ClusterLoadAssignment) {
		n := uint32(0)
		for _, d := range port {
			n = n*10 + uint32(d-'0')
		}
		a.Endpoints = a.Endpoints[:1]
		a.Endpoints[0].LbEndpoints = []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: n}}}},
		}}}}
	})
	r.startProxy()
	ask := func(path, team string) {
		req, err := http.NewRequest("GET", "http://"+r.front.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "cart.example"
		if team != "" {
			req.Header.Set("X-Team", team)
		}
		res, err := r.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s answered %d", path, res.StatusCode)
		}
	}
	ask("/plain", "")
	ask("/pay/now", "blue")

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	teams := []string{}
	for range 2 {
		s := c.Next(ctx)
		if s == nil {
			t.Fatalf("no span came\n%s", r.said())
		}
		tags := testmesh.Tags(s)
		teams = append(teams, tags["team"])
		if tags["env"] != "prod" || tags["istio.destination_workload"] == "" || tags["istio.mesh_id"] != "cluster.local" || s.Name != "cart.shop.svc.cluster.local:80/*" {
			t.Errorf("span %s %v", s.Name, tags)
		}
	}
	slices.Sort(teams)
	if got := strings.Join(teams, " "); got != "blue none" {
		t.Errorf("teams %q", got)
	}
	// The filter of the log passes errors and /pay.
	l := c.NextLog(ctx)
	if l == nil || !strings.Contains(l.Body.GetStringValue(), `"GET /pay/now HTTP/1.1" 200 - via_upstream`) {
		t.Errorf("log %v", l)
	}
	var lines string
	r.eventually("two lines are written", func() bool {
		b, _ := os.ReadFile(file)
		lines = string(b)
		return strings.Count(lines, "\n") == 2
	})
	if !strings.Contains(lines, `"GET /plain HTTP/1.1" 200 -`) || !strings.Contains(lines, `"cart.example" "127.0.7.3`) {
		t.Errorf("file: %s", lines)
	}
	_, metrics, _ := r.fetch(r.admin + "/stats/prometheus")
	if !strings.Contains(metrics, `request_host="cart.example"`) || strings.Contains(metrics, "istio_request_duration_milliseconds_count") {
		t.Errorf("metrics: %s", metrics)
	}
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "istio_requests_total{") && strings.Contains(line, "response_code=") {
			t.Error(line)
		}
	}
	if strings.Contains(r.said(), "not implemented") && strings.Contains(r.said(), `"kind":"Telemetry"`) {
		t.Errorf("something is not implemented:\n%s", r.said())
	}
}
