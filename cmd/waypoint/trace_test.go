package main

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// spans is an OTLP receiver that keeps what it gets.
type spans struct {
	v1.UnimplementedTraceServiceServer
	got chan *tracev1.Span
}

func (s *spans) Export(_ context.Context, r *v1.ExportTraceServiceRequest) (*v1.ExportTraceServiceResponse, error) {
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, sp := range ss.Spans {
				s.got <- sp
			}
		}
	}
	return &v1.ExportTraceServiceResponse{}, nil
}

// TestTraces follows one request from its caller's trace to the backend's header
// and the collector.
func TestTraces(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	c := &spans{got: make(chan *tracev1.Span, 16)}
	v1.RegisterTraceServiceServer(g, c)
	done := make(chan struct{})
	go func() { g.Serve(ln); close(done) }()
	defer func() { g.Stop(); <-done }()

	r := newRig(t, "--otlp", ln.Addr().String(), "--trace-sampling", "0", "--drain-delay", "0s")
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for id, tp := range map[string]string{"sampled": parent, "new": ""} {
		req, _ := http.NewRequest("GET", "http://"+r.front.Addr().String()+"/x", nil)
		req.Header.Set("X-Request-Id", id)
		if tp != "" {
			req.Header.Set("Traceparent", tp)
		}
		res, err := r.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	seen := r.app.Find("sampled")[0].Headers["Traceparent"]
	if !strings.HasPrefix(seen, parent[:36]) || seen == parent || !strings.HasSuffix(seen, "-01") {
		t.Errorf("the app saw traceparent %q", seen)
	}
	if fresh := r.app.Find("new")[0].Headers["Traceparent"]; !strings.HasSuffix(fresh, "-00") {
		t.Errorf("without a parent the app saw traceparent %q", fresh)
	}
	select {
	case s := <-c.got:
		if hex.EncodeToString(s.SpanId) != seen[36:52] || hex.EncodeToString(s.ParentSpanId) != parent[36:52] {
			t.Errorf("span %x of %x, the app was told %s", s.SpanId, s.ParentSpanId, seen)
		}
		if s.Name != "cart-v2.shop.svc.cluster.local:80/*" {
			t.Errorf("span name %q", s.Name)
		}
	case <-time.After(15 * time.Second):
		t.Errorf("no span came\n%s", r.said())
	}
}
