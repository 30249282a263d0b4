package main

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/testmesh"
)

// TestTraces follows one request from its caller's trace to the backend's header
// and the collector.
func TestTraces(t *testing.T) {
	c, err := testmesh.NewCollector()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	r := newRig(t, "--otlp", c.Addr, "--trace-sampling", "0", "--drain-delay", "0s")
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
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	s := c.Next(ctx)
	if s == nil {
		t.Fatalf("no span came\n%s", r.said())
	}
	if hex.EncodeToString(s.SpanId) != seen[36:52] || hex.EncodeToString(s.ParentSpanId) != parent[36:52] {
		t.Errorf("span %x of %x, the app was told %s", s.SpanId, s.ParentSpanId, seen)
	}
	if s.Name != "cart-v2.shop.svc.cluster.local:80/*" {
		t.Errorf("span name %q", s.Name)
	}
}
