package hbone

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handlerFunc makes a Handler of a function.
type handlerFunc func(*Tunnel)

func (f handlerFunc) ServeTunnel(t *Tunnel) { f(t) }

// echo sends back what comes.
var echo = handlerFunc(func(t *Tunnel) {
	if t.Accept() != nil {
		return
	}
	if _, err := t.WriteTo(t); err == nil {
		_ = t.CloseWrite()
	}
})

const (
	serverURI = "spiffe://td/ns/istio-system/sa/ztunnel"
	clientURI = "spiffe://td/ns/shop/sa/waypoint"
)

// mesh is a CA with two identities.
type mesh struct {
	ca             *identity.CA
	server, client identity.Source
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	ca, err := identity.NewCA("td")
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{ca: ca, server: ca.Source("istio-system", "ztunnel", time.Hour), client: ca.Source("shop", "waypoint", time.Hour)}
	t.Cleanup(func() { m.server.Close(); m.client.Close() })
	return m
}

func listen(t testing.TB) (net.Listener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln, addrPort(ln.Addr())
}

// serve starts a server on loopback; it is closed with the test.
func (m *mesh) serve(t testing.TB, cfg ServerConfig, h Handler) (*Server, netip.AddrPort) {
	t.Helper()
	if cfg.TLS == nil {
		cfg.TLS = m.server
	}
	if cfg.DrainDelay == 0 {
		cfg.DrainDelay = -1
	}
	s := NewServer(cfg, h)
	ln, addr := listen(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, addr
}

func (m *mesh) pool(t testing.TB, cfg PoolConfig) *Pool {
	t.Helper()
	if cfg.TLS == nil {
		cfg.TLS = m.client
	}
	p := NewPool(cfg)
	t.Cleanup(p.Close)
	return p
}

// ctxT ends what hangs; a busy machine may take a while for what does not.
func ctxT(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func target(addr netip.AddrPort) Target {
	return Target{Addr: addr, Authority: "10.1.2.3:8080"}
}

func mustDial(t testing.TB, p *Pool, to Target) *Tunnel {
	t.Helper()
	tun, err := p.Dial(ctxT(t), to, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tun
}

// roundTrip sends msg through an echo tunnel and checks what comes back.
func roundTrip(t testing.TB, tun Conn, msg string) {
	t.Helper()
	_ = tun.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(tun, msg); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(tun, got); err != nil || string(got) != msg {
		t.Fatalf("echo of %q: %q, %v", msg, got, err)
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func tlsServer(nc net.Conn, src identity.Source) *tls.Conn {
	return tls.Server(nc, identity.ServerTLS(src))
}
