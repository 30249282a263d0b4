package otlp

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"waypoint.dev/waypoint/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is a real OTLP receiver.
type collector struct {
	v1.UnimplementedTraceServiceServer
	got chan *v1.ExportTraceServiceRequest
}

func (c *collector) Export(_ context.Context, r *v1.ExportTraceServiceRequest) (*v1.ExportTraceServiceResponse, error) {
	c.got <- r
	return &v1.ExportTraceServiceResponse{}, nil
}

func TestSpans(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	c := &collector{got: make(chan *v1.ExportTraceServiceRequest, 4)}
	v1.RegisterTraceServiceServer(g, c)
	done := make(chan struct{})
	go func() { g.Serve(ln); close(done) }()
	defer func() { g.Stop(); <-done }()

	tr, err := New(t.Context(), Options{Endpoint: ln.Addr().String(), Service: "waypoint.shop", Node: Node{Namespace: "shop", ClusterID: "Kubernetes"}})
	if err != nil {
		t.Fatal(err)
	}
	rep := telemetry.New(telemetry.Options{Tracer: tr, Sampler: telemetry.NewSampler(0)})
	send := func(parent string, code int) telemetry.Trace {
		r := &telemetry.Record{}
		r.Reset()
		r.Start, r.Duration = time.Now(), 5*time.Millisecond
		r.Method, r.Path, r.Authority, r.Code = "GET", "/x", "cart", code
		r.DownstreamLocal = netip.MustParseAddrPort("10.96.0.10:80")
		r.Service = rep.Service(telemetry.Service{Host: "cart.shop.svc.cluster.local"})
		r.Source = rep.Peer(telemetry.Peer{Workload: "curl", Namespace: "clients"})
		r.Policy, r.Rule, r.Reason = "shop/p", "ns[shop]-policy[p]-rule[0]", "deny_matched"
		r.Audit, r.DryRun, r.DryRunPolicy = "shop/a", "denied", "shop/d"
		r.Trace = rep.Place(nil, parent)
		rep.Begin()
		rep.Done(r)
		return r.Trace
	}
	send("", 200) // not sampled: no parent, 0 %
	want := send("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 503)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := tr.Close(ctx); err != nil {
		t.Fatal(err)
	}
	req := <-c.got
	spans := req.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 1 || len(c.got) != 0 {
		t.Fatalf("%d spans", len(spans))
	}
	s := spans[0]
	if hex.EncodeToString(s.TraceId) != "0af7651916cd43dd8448eb211c80319c" || hex.EncodeToString(s.ParentSpanId) != "b7ad6b7169203331" || hex.EncodeToString(s.SpanId) != hex.EncodeToString(want.Span[:]) {
		t.Errorf("ids %x %x %x", s.TraceId, s.ParentSpanId, s.SpanId)
	}
	if s.Name != "cart.shop.svc.cluster.local:80/*" || s.Kind != tracev1.Span_SPAN_KIND_SERVER || s.Status.GetCode() != tracev1.Status_STATUS_CODE_ERROR ||
		s.EndTimeUnixNano-s.StartTimeUnixNano != uint64(5*time.Millisecond) {
		t.Errorf("span %v", s)
	}
	attrs := map[string]string{}
	for _, kv := range append(s.Attributes, req.ResourceSpans[0].Resource.Attributes...) {
		attrs[kv.Key] = kv.Value.GetStringValue()
	}
	for k, v := range map[string]string{
		"service.name": "waypoint.shop", "http.status_code": "503", "http.url": "http://cart/x", "istio.source_workload": "curl",
		"istio.namespace": "shop", "response_flags": "-", "error": "true",
		"waypoint.policy": "shop/p", "waypoint.policy_rule": "ns[shop]-policy[p]-rule[0]", "waypoint.policy_reason": "deny_matched",
		"waypoint.audit_policy": "shop/a", "waypoint.dry_run": "denied", "waypoint.dry_run_policy": "shop/d",
	} {
		if attrs[k] != v {
			t.Errorf("%s = %q, want %q", k, attrs[k], v)
		}
	}
}

// TestCollectorAway shows that a missing collector costs spans and nothing else.
func TestCollectorAway(t *testing.T) {
	tr, err := New(t.Context(), Options{Endpoint: "127.0.0.1:1", Service: "waypoint"})
	if err != nil {
		t.Fatal(err)
	}
	rep := telemetry.New(telemetry.Options{Tracer: tr, Sampler: telemetry.NewSampler(100)})
	start := time.Now()
	for range 5000 {
		r := &telemetry.Record{}
		r.Reset()
		r.Trace = rep.Place(nil, "")
		rep.Begin()
		rep.Done(r)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("5,000 records took %v", d)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tr.Close(ctx) // what is pending is lost, which is its error
}
