package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

func protocolIs(p config.Protocol) func(*config.Model) {
	return func(m *config.Model) { m.Destinations[0].Protocol = p }
}

func both(fs ...func(*config.Model)) func(*config.Model) {
	return func(m *config.Model) {
		for _, f := range fs {
			f(m)
		}
	}
}

func readN(t testing.TB, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

func echo(c *memConn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	_ = c.CloseWrite()
}

// A declared TCP port waits for nobody: servers that speak first work at once.
func TestServerFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, protocolIs(config.ProtocolTCP))
		defer r.close()
		r.on(pod1, func(c *memConn) {
			_, _ = io.WriteString(c, "220 hi\r\n")
			echo(c)
		})
		start := time.Now()
		c, _ := r.tunnel()
		if s := readN(t, c, 8); s != "220 hi\r\n" || time.Since(start) != 0 {
			t.Errorf("%q after %v", s, time.Since(start))
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") // stays bytes
		_ = c.CloseWrite()
		if b, err := io.ReadAll(struct{ io.Reader }{c}); err != nil || string(b) != "GET / HTTP/1.1\r\n\r\n" {
			t.Errorf("%q %v", b, err)
		}
		r.idle()
		if rec := r.last(1); rec.Protocol != telemetry.TCP || rec.Received != 18 || rec.Sent != 26 || rec.Flags != 0 || rec.Upstream != pod1 {
			t.Errorf("record %+v", rec)
		}
	})
}

// An undeclared port is a server-first one after a silent while, unless HTTP
// policy guards it.
func TestSniffTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, protocolIs(config.ProtocolAuto))
		defer r.close()
		r.on(pod1, func(c *memConn) {
			_, _ = io.WriteString(c, "220 hi\r\n")
			echo(c)
		})
		start := time.Now()
		c, _ := r.tunnel()
		if s := readN(t, c, 8); s != "220 hi\r\n" || time.Since(start) != defaultDetect {
			t.Errorf("%q after %v", s, time.Since(start))
		}
		_ = c.Close()
		r.idle()
	})
}

func TestUndeclaredPorts(t *testing.T) {
	guarded := policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/secret"}}}})
	tests := []struct {
		name   string
		edit   func(*config.Model)
		send   string
		passes bool
		code   string
	}{
		{"redis", nil, "*1\r\n$4\r\nPING\r\n", true, ""},
		{"line protocol", nil, "HELO there\r\n", true, ""},
		{"HTTP", nil, get, false, "HTTP/1.1 200"},
		{"bytes beside HTTP policy", guarded, "*1\r\n$4\r\nPING\r\n", false, ""},
		{"HTTP beside HTTP policy", guarded, "GET /secret HTTP/1.1\r\nHost: c\r\n\r\n", false, "HTTP/1.1 403"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			edit := protocolIs(config.ProtocolAuto)
			if tt.edit != nil {
				edit = both(edit, tt.edit)
			}
			r := newRig(t, edit)
			defer r.close()
			if tt.passes {
				r.on(pod1, echo)
			} else {
				r.handle(pod1, hello)
			}
			c, _ := r.tunnel()
			_, _ = io.WriteString(c, tt.send)
			if tt.passes {
				if s := readN(t, c, len(tt.send)); s != tt.send {
					t.Errorf("echo %q", s)
				}
			} else if tt.code != "" {
				if s := readN(t, c, len(tt.code)); s != tt.code {
					t.Errorf("answer %q", s)
				}
			} else if b, err := io.ReadAll(struct{ io.Reader }{c}); err == nil || len(b) > 0 {
				t.Errorf("not cut: %q %v", b, err)
			}
			_ = c.Close()
			r.idle()
			if rec := r.last(1); tt.code == "" && !tt.passes && (rec.Flags != telemetry.FlagDPE || rec.Termination != "not_http_on_http_port") {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// hello returns the first bytes of a TLS client.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	a, b := memPair(1 << 20)
	go func() {
		cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true}
		_ = tls.Client(a, cfg).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	return buf[:n]
}

func TestHelloSNI(t *testing.T) {
	h := clientHello(t, "db.example.com")
	if name, more := helloSNI(h); name != "db.example.com" || more {
		t.Fatalf("%q %v", name, more)
	}
	for i := range h {
		if name, more := helloSNI(h[:i]); name != "" || i > 0 && !more {
			t.Fatalf("%d bytes: %q %v", i, name, more)
		}
	}
	// The same hello cut into records of 50 bytes.
	var cut []byte
	for p := h[5:]; len(p) > 0; {
		n := min(50, len(p))
		cut = append(cut, 0x16, 3, 1, 0, byte(n))
		cut = append(cut, p[:n]...)
		p = p[n:]
	}
	if name, more := helloSNI(cut); name != "db.example.com" || more {
		t.Errorf("in records: %q %v", name, more)
	}
}

func TestTLSRoutesBySNI(t *testing.T) {
	h := clientHello(t, "db.example.com")
	r := newRig(t, both(protocolIs(config.ProtocolTLS), func(m *config.Model) {
		addBackend(m, "db|443", config.ProtocolTCP, pod2)
		m.Destinations[0].Refs = []string{"db|443"}
		m.Destinations[0].TCPRoutes = []config.TCPRoute{{Route: "shop/tls", SNI: []string{"*.example.com"}, Backends: []routing.Backend{{Ref: 0, Weight: 1}}}}
	}))
	defer r.close()
	r.on(pod2, echo)
	c, _ := r.tunnel()
	_, _ = c.Write(h)
	if s := readN(t, c, len(h)); !bytes.Equal([]byte(s), h) {
		t.Error("hello was not passed on whole")
	}
	_ = c.Close()
	r.idle()
	if rec := r.last(1); rec.SNI != "db.example.com" || rec.Upstream != pod2 || rec.Route != "shop/tls" {
		t.Errorf("record %+v", rec)
	}
	c, _ = r.tunnel()
	_, _ = c.Write(clientHello(t, "db.example.org"))
	if _, err := io.ReadAll(struct{ io.Reader }{c}); err == nil {
		t.Error("a name without route was served")
	}
	r.idle()
	if rec := r.last(2); rec.Flags != telemetry.FlagNR {
		t.Errorf("record %+v", rec)
	}
}

// A port that may carry HTTP and bytes has a cluster for each, as in istiod.
func TestClusterName(t *testing.T) {
	for _, c := range []struct{ key, protocol, want string }{
		{"cart.shop.svc|80", "http", "inbound-vip|80|http|cart.shop.svc"},
		{"db.shop.svc|5432", "tcp", "inbound-vip|5432|tcp|db.shop.svc"},
		{"cart.shop.svc|80|v2", "http", "inbound-vip|80|http/v2|cart.shop.svc"},
		{"db.shop.svc|5432|v2", "tcp", "inbound-vip|5432|tcp/v2|db.shop.svc"},
		{"inbound-vip|80|http|cart.shop.svc", "tcp", "inbound-vip|80|http|cart.shop.svc"}, // istiod's own
	} {
		if got := clusterName(c.key, c.protocol); got != c.want {
			t.Errorf("clusterName(%q, %q) = %q, want %q", c.key, c.protocol, got, c.want)
		}
	}
}

func TestTCPTriesAnotherEndpoint(t *testing.T) {
	r := newRig(t, both(protocolIs(config.ProtocolTCP), twoPods))
	defer r.close()
	r.on(pod2, echo)
	for range 3 {
		c, _ := r.tunnel()
		_, _ = io.WriteString(c, "x")
		readN(t, c, 1)
		_ = c.Close()
	}
	r.idle()
	if got := r.last(3).UpstreamCluster; !strings.Contains(got, "|tcp|") {
		t.Errorf("upstream cluster %q", got)
	}
}

func TestTCPIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, protocolIs(config.ProtocolTCP))
		defer r.close()
		r.on(pod1, echo)
		c, _ := r.tunnel()
		_, _ = io.WriteString(c, "x")
		readN(t, c, 1)
		start := time.Now()
		if _, err := io.ReadAll(struct{ io.Reader }{c}); err == nil {
			t.Error("ended cleanly")
		}
		if d := time.Since(start); d < defaultTCPIdle || d > defaultTCPIdle*5/4 {
			t.Errorf("cut after %v", d)
		}
		r.idle()
		if rec := r.last(1); rec.Flags != telemetry.FlagSI || rec.Termination != "idle_timeout" {
			t.Errorf("record %+v", rec)
		}
	})
}

// TestTCPBounds ends connections that are silent or open for longer than the route
// says, or the backend where it says nothing.
func TestTCPBounds(t *testing.T) {
	backend := settings(func(s *resilience.Settings) {
		s.TCPIdleTimeout, s.MaxConnectionDuration = 10*time.Second, 40*time.Second
		s.IdleTimeout = time.Second // of HTTP
	})
	route := func(m *config.Model) {
		d := m.Destinations[0]
		d.TCPRoutes = []config.TCPRoute{{Idle: time.Second, Max: 3 * time.Second, Backends: []routing.Backend{{Ref: len(d.Refs), Weight: 1}}}}
	}
	for _, x := range []struct {
		name  string
		edit  func(*config.Model)
		talks bool
		after time.Duration
		flags telemetry.Flags
		why   string
	}{
		{"silent, by the backend", backend, false, 10 * time.Second, telemetry.FlagSI, "idle_timeout"},
		{"busy, by the backend", backend, true, 40 * time.Second, telemetry.FlagDT, "max_duration_timeout"},
		{"silent, by the route", both(backend, route), false, time.Second, telemetry.FlagSI, "idle_timeout"},
		{"busy, by the route", both(backend, route), true, 3 * time.Second, telemetry.FlagDT, "max_duration_timeout"},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, both(protocolIs(config.ProtocolTCP), x.edit))
				defer r.close()
				r.on(pod1, echo)
				c, _ := r.tunnel()
				start := time.Now()
				for i := 0; i == 0 || x.talks; i++ {
					if _, err := io.WriteString(c, "x"); err != nil {
						break
					}
					if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
						break
					}
					time.Sleep(time.Second / 4)
				}
				_, _ = io.ReadAll(struct{ io.Reader }{c})
				if d := time.Since(start); d < x.after || d > x.after*5/4+time.Second/4 {
					t.Errorf("cut after %v, want %v", d, x.after)
				}
				r.idle()
				if rec := r.last(1); rec.Flags != x.flags || rec.Termination != x.why {
					t.Errorf("record %v %s", rec.Flags, rec.Termination)
				}
			})
		})
	}
}

// An open connection that a new policy denies is cut; others stay.
func TestPolicyChangeCutsTCP(t *testing.T) {
	r := newRig(t, protocolIs(config.ProtocolTCP))
	defer r.close()
	r.on(pod1, echo)
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, "x")
	readN(t, c, 1)
	other := policy(authz.Deny, authz.RuleSpec{From: []authz.Source{{Namespaces: []string{"others"}}}})
	r.swap(cartModel(both(protocolIs(config.ProtocolTCP), other)))
	_, _ = io.WriteString(c, "y")
	readN(t, c, 1)
	deny := policy(authz.Deny, authz.RuleSpec{From: []authz.Source{{Namespaces: []string{"clients"}}}})
	r.swap(cartModel(both(protocolIs(config.ProtocolTCP), deny)))
	if _, err := io.ReadAll(struct{ io.Reader }{c}); err == nil {
		t.Error("ended cleanly")
	}
	r.idle()
	if rec := r.last(1); !rec.Denied || rec.Policy != "shop/p" {
		t.Errorf("record %+v", rec)
	}
}

func TestTCPBackpressure(t *testing.T) {
	r := newRig(t, protocolIs(config.ProtocolTCP))
	defer r.close()
	release := make(chan struct{})
	r.on(pod1, func(c *memConn) {
		<-release
		n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
		_, _ = io.WriteString(c, string(rune('0'+n>>20)))
	})
	c, _ := r.tunnel()
	var sent int
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for sent < 3<<20 {
		n, err := c.Write(make([]byte, 16<<10))
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 200<<10 {
		t.Errorf("%d bytes accepted while the backend reads none", sent)
	}
	close(release)
	_ = c.SetWriteDeadline(time.Time{})
	_, _ = c.Write(make([]byte, 3<<20-sent))
	_ = c.CloseWrite()
	if s := readN(t, c, 1); s != "3" {
		t.Errorf("backend got %q MiB", s)
	}
	_ = c.Close()
}

func TestClassify(t *testing.T) {
	tests := []struct {
		in   string
		p    protocol
		more bool
	}{
		{"", protoUnknown, true},
		{"G", protoUnknown, true},
		{"GET", protoUnknown, true},
		{"GET ", protoUnknown, true},
		{"GET /", protoHTTP1, false},
		{"\r\nGET /", protoHTTP1, false},
		{"M-SEARCH * ", protoHTTP1, false},
		{"GET http", protoUnknown, true},
		{"GET HTTP://h/", protoHTTP1, false},
		{"EHLO host", protoOther, false},
		{"CONNECT a:1", protoHTTP1, false},
		{"PRI", protoUnknown, true},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", protoUnknown, true},
		{preface, protoHTTP2, false},
		{"PRI * HTTP/2.0\r\n\r\nXX", protoHTTP1, false},
		{"\x16", protoUnknown, true},
		{"\x16\x03\x01", protoTLS, false},
		{"\x16\x02\x01", protoOther, false},
		{"PING\r\n", protoOther, false},
		{"\x00", protoOther, false},
		{" GET", protoOther, false},
		{"AVERYVERYVERYVERYVERYVERYLONGMETHOD ", protoOther, false},
	}
	for _, tt := range tests {
		if p, more := classify([]byte(tt.in)); p != tt.p || more != tt.more {
			t.Errorf("%q: %v %v, want %v %v", tt.in, p, more, tt.p, tt.more)
		}
	}
}
