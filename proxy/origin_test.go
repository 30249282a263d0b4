package proxy

import (
	"crypto/tls"
	"io"
	"net/http/httptest"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// A backend that asks for TLS is spoken to by TLS, or not at all.
func TestUpstreamTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	cert := s.TLS.Certificates[0]
	s.Close()
	for _, tt := range []struct {
		name string
		tls  config.UpstreamTLS
		code int
	}{
		{"taken", config.UpstreamTLS{SkipVerify: true}, 200},
		{"unknown root", config.UpstreamTLS{CA: "system"}, 503},
		{"no file", config.UpstreamTLS{CA: t.TempDir() + "/none.pem"}, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(m *config.Model) { m.Backends["cart.shop.svc.cluster.local|80"].TLS = &tt.tls })
			defer r.close()
			served := make(chan int, 16)
			r.on(pod1, func(c *memConn) {
				b := make([]byte, 4096)
				tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
				n, _ := tc.Read(b)
				served <- n
				if n > 0 {
					_, _ = io.WriteString(tc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
				}
			})
			resp, _ := r.do(get)
			if resp.StatusCode != tt.code {
				t.Errorf("status %d", resp.StatusCode)
			}
			if tt.code == 503 && r.last(1).Flags&telemetry.FlagUF == 0 {
				t.Errorf("flags %v", r.last(1).Flags)
			}
			r.close()
			close(served)
			for n := range served {
				if n > 0 != (tt.code == 200) {
					t.Errorf("the backend read %d bytes of a request", n)
				}
			}
		})
	}
}

// A TCP route of a client's namespace replaces the others for that client only.
func TestConsumerTCPRoute(t *testing.T) {
	for ns, want := range map[string]string{"clients": "two", "others": "one"} {
		r := newRig(t, both(protocolIs(config.ProtocolTCP), func(m *config.Model) {
			addBackend(m, "v2|80", config.ProtocolTCP, pod2)
			d := m.Destinations[0]
			d.Refs = []string{"v2|80"}
			d.ConsumerTCP = map[string][]config.TCPRoute{ns: {{Route: "clients/r", Backends: []routing.Backend{{Ref: 0, Weight: 1}}}}}
		}))
		r.on(pod1, func(c *memConn) { _, _ = io.WriteString(c, "one") })
		r.on(pod2, func(c *memConn) { _, _ = io.WriteString(c, "two") })
		c, _ := r.tunnel()
		if s := readN(t, c, 3); s != want {
			t.Errorf("routes of %s: %q", ns, s)
		}
		_ = c.Close()
		r.idle()
		r.close()
	}
}
