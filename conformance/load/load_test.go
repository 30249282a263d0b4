package load

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	server, client := ca.Source("load", "backend", time.Hour), ca.Source("load", "client", time.Hour)
	defer server.Close()
	defer client.Close()
	addr := netip.MustParseAddrPort("127.9.1.1:15008")
	b, err := NewBackend(addr, server)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, tt := range []struct {
		name  string
		p     Protocol
		rate  float64
		bytes int64
	}{
		{"http/1.1", HTTP1, 0, 3000}, {"http/1.1 paced", HTTP1, 2000, 3000}, {"http/2", HTTP2, 0, 3000}, {"grpc", GRPC, 0, 5}, {"grpc paced", GRPC, 2000, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(context.Background(), Workload{Waypoint: addr, Client: client, Authority: "127.9.1.1:8080", Conns: 2, Streams: 3, Protocol: tt.p,
				Request: []byte("GET /3000 HTTP/1.1\r\nhost: backend\r\n\r\n")})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Each(context.Background()); err != nil {
				t.Fatal(err)
			}
			r, err := s.Run(context.Background(), 120, tt.rate)
			if err != nil || r.Failed > 0 || r.Requests != 120 || r.Bytes != 120*tt.bytes {
				t.Errorf("%+v %v %v", r, r.FirstError, err)
			}
			if tt.rate > 0 && r.Elapsed < 50*time.Millisecond {
				t.Errorf("120 requests at 2000/s took %v", r.Elapsed)
			}
			if r.Quantile(.5) <= 0 || r.Quantile(.5) > r.Quantile(.99) {
				t.Errorf("p50 %v, p99 %v", r.Quantile(.5), r.Quantile(.99))
			}
		})
	}
}
