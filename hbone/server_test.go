package hbone

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

type logBuf struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuf) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuf) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logBuf) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestTunnelBothWays(t *testing.T) {
	m := newMesh(t)
	type seen struct {
		peer            attrs.Principal
		auth, bag, none string
		dest            string
		port            uint16
	}
	got := make(chan seen, 1)
	_, addr := m.serve(t, ServerConfig{}, handlerFunc(func(tun *Tunnel) {
		d, _, port := tun.Dest()
		got <- seen{tun.Peer(), tun.Authority(), tun.Header("baggage"), tun.Header("traceparent"), d.String(), port}
		if !tun.PeerAddr().IsValid() || !tun.LocalAddr().IsValid() {
			t.Error("no addresses")
		}
		echo(tun)
	}))
	p := m.pool(t, PoolConfig{})
	tun, err := p.Dial(ctxT(t), Target{Addr: addr, Authority: "10.1.2.3:8080", Identity: serverURI}, []attrs.Field{{Name: "baggage", Value: "service.name=x"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	s := <-got
	if s.peer.URI != clientURI || s.peer.Namespace != "shop" || s.auth != "10.1.2.3:8080" || s.bag != "service.name=x" || s.none != "" || s.dest != "10.1.2.3:8080" || s.port != 8080 {
		t.Errorf("server saw %+v", s)
	}
	if tun.Peer().URI != serverURI || tun.PeerAddr() != addr {
		t.Errorf("client saw %v at %v", tun.Peer(), tun.PeerAddr())
	}
	roundTrip(t, tun, "hello")
	if _, err := tun.WriteMore([]byte("a")); err != nil {
		t.Fatal(err)
	}
	roundTripTail(t, tun, "b", "ab")
	if err := tun.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := tun.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after half close: %d, %v", n, err)
	}
}

func roundTripTail(t *testing.T, tun Conn, send, want string) {
	t.Helper()
	if _, err := io.WriteString(tun, send); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(tun, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestRefusals(t *testing.T) {
	m := newMesh(t)
	logs := &logBuf{}
	s, addr := m.serve(t, ServerConfig{Log: logs.logger()}, handlerFunc(func(tun *Tunnel) {
		switch _, host, port := tun.Dest(); {
		case host == "deny":
			_ = tun.RefuseReason(403, "policy x")
			if err := tun.Accept(); !errors.Is(err, ErrAnswered) {
				t.Errorf("Accept after Refuse: %v", err)
			}
		case host == "silent":
		case port == 404:
			_ = tun.Refuse(404)
		default:
			echo(tun)
		}
	}))
	p := m.pool(t, PoolConfig{})
	for _, tt := range []struct {
		authority string
		status    int
	}{
		{"deny:80", 403}, {"silent:80", 503}, {"any:404", 404}, {"noport", 400}, {"127.1:80", 400}, {"[::1%a]:80", 400},
	} {
		_, err := p.Dial(ctxT(t), Target{Addr: addr, Authority: tt.authority}, nil)
		var de *DialError
		if !errors.As(err, &de) || de.Stage != StageConnect || de.Status != tt.status {
			t.Errorf("%s: %v, want status %d", tt.authority, err, tt.status)
		}
	}
	st := s.Stats()
	if st.Refused400 != 3 || st.Refused403 != 1 || st.Refused404 != 1 || st.Refused503 != 1 || logs.count("tunnel refused") != 6 || logs.count("policy x") != 1 {
		t.Errorf("counted %+v, logged %d", st, logs.count("tunnel refused"))
	}
	if ps := p.Stats(); ps.Refused != 6 || ps.Tunnels != 0 || ps.Conns != 1 {
		t.Errorf("pool: %+v", ps)
	}
}

func TestRefusalLogIsBounded(t *testing.T) {
	m := newMesh(t)
	logs := &logBuf{}
	s, addr := m.serve(t, ServerConfig{Log: logs.logger()}, handlerFunc(func(tun *Tunnel) { _ = tun.Refuse(404) }))
	p := m.pool(t, PoolConfig{})
	const n = 3 * refusalBurst
	for range n {
		if _, err := p.Dial(ctxT(t), target(addr), nil); err == nil {
			t.Fatal("not refused")
		}
	}
	if got := logs.count("tunnel refused"); s.Stats().Refused404 != n || got < refusalBurst || got > 2*refusalBurst {
		t.Errorf("%d counted, %d logged", s.Stats().Refused404, got)
	}
}

func TestHandlerPanicIsContained(t *testing.T) {
	m := newMesh(t)
	logs := &logBuf{}
	s, addr := m.serve(t, ServerConfig{Log: logs.logger()}, handlerFunc(func(tun *Tunnel) {
		if _, host, _ := tun.Dest(); host == "boom" {
			_ = tun.Accept()
			panic("boom went the handler")
		}
		echo(tun)
	}))
	p := m.pool(t, PoolConfig{})
	good := mustDial(t, p, target(addr))
	defer good.Close()
	bad := mustDial(t, p, Target{Addr: addr, Authority: "boom:1"})
	defer bad.Close()
	_ = bad.SetDeadline(time.Now().Add(5 * time.Second))
	var se *h2.StreamError
	if _, err := bad.Read(make([]byte, 1)); !errors.As(err, &se) || !se.Remote {
		t.Errorf("read: %v, want a reset", err)
	}
	roundTrip(t, good, "still here")
	if s.Stats().Panics != 1 || logs.count("boom went the handler") != 1 || logs.count("server_test.go") == 0 {
		t.Errorf("panics %d, logged %d", s.Stats().Panics, logs.count("boom went the handler"))
	}
}

func TestSlowHandshake(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{HandshakeTimeout: time.Second, MaxHandshakes: 1}, echo)
	slow, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	// The one slot is taken until the time is over; then others are served.
	roundTripOnce(t, m.pool(t, PoolConfig{}), target(addr))
	_ = slow.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := slow.Read(make([]byte, 1)); errors.Is(err, syscall.ETIMEDOUT) || err == nil {
		t.Errorf("slow peer: %v", err)
	}
	eventually(t, "the failed handshake is counted", func() bool { return s.Stats().HandshakeErrors == 1 })
}

func roundTripOnce(t testing.TB, p *Pool, to Target) {
	t.Helper()
	tun := mustDial(t, p, to)
	defer tun.Close()
	roundTrip(t, tun, "ping")
}

func TestMaxConns(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{MaxConns: 1}, echo)
	first := mustDial(t, m.pool(t, PoolConfig{}), target(addr))
	defer first.Close()
	_, err := m.pool(t, PoolConfig{}).Dial(ctxT(t), target(addr), nil)
	var de *DialError
	if !errors.As(err, &de) || de.Stage != StageTLS {
		t.Errorf("second: %v", err)
	}
	roundTrip(t, first, "x")
	if s.Stats().OverLimit != 1 {
		t.Errorf("stats: %+v", s.Stats())
	}
}

// flaky fails to accept for a while as a process without descriptors does.
type flaky struct {
	net.Listener
	mu    sync.Mutex
	fails int
}

func (f *flaky) Accept() (net.Conn, error) {
	f.mu.Lock()
	fail := f.fails > 0
	f.fails--
	f.mu.Unlock()
	if fail {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestAcceptSurvivesEMFILE(t *testing.T) {
	m := newMesh(t)
	s := NewServer(ServerConfig{TLS: m.server, DrainDelay: -1}, echo)
	ln, addr := listen(t)
	done := make(chan error, 1)
	go func() { done <- s.Serve(&flaky{Listener: ln, fails: 3}) }()
	roundTripOnce(t, m.pool(t, PoolConfig{}), target(addr))
	if s.Stats().AcceptErrors != 3 {
		t.Errorf("stats: %+v", s.Stats())
	}
	s.Close()
	if err := <-done; !errors.Is(err, ErrServerClosed) {
		t.Error(err)
	}
	if err := s.Serve(ln); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
}

func TestServeReturnsListenerError(t *testing.T) {
	m := newMesh(t)
	s := NewServer(ServerConfig{TLS: m.server}, echo)
	defer s.Close()
	ln, _ := listen(t)
	ln.Close()
	if err := s.Serve(ln); err == nil || errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
}

// Shutdown keeps taking connections and tunnels during the delay, then warns the
// tunnels and waits for them.
func TestShutdown(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{DrainDelay: 300 * time.Millisecond}, handlerFunc(func(tun *Tunnel) {
		if tun.Accept() != nil {
			return
		}
		go func() { // as a codec does: end at the next boundary
			<-tun.Draining()
			_, _ = io.WriteString(tun, "bye")
			_ = tun.CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, tun)
		<-tun.Draining()
	}))
	p := m.pool(t, PoolConfig{})
	before := mustDial(t, p, target(addr))
	defer before.Close()
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	eventually(t, "shutdown begins", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.stopping })
	during := mustDial(t, m.pool(t, PoolConfig{}), target(addr)) // a new connection
	defer during.Close()
	select {
	case <-before.Draining():
		t.Error("draining during the delay")
	default:
	}
	for _, tun := range []*Tunnel{before, during} {
		_ = tun.SetDeadline(time.Now().Add(5 * time.Second))
		if b, err := io.ReadAll(tun); err != nil || string(b) != "bye" {
			t.Errorf("%q, %v", b, err)
		}
		<-tun.Draining()
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned with open tunnels: %v", err)
	default:
	}
	_, err := m.pool(t, PoolConfig{}).Dial(ctxT(t), target(addr), nil)
	var de *DialError
	if !errors.As(err, &de) || de.Stage != StageTCP {
		t.Errorf("after the delay: %v", err)
	}
	before.Close()
	during.Close()
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownDeadline(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, echo)
	tun := mustDial(t, m.pool(t, PoolConfig{}), target(addr))
	defer tun.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Shutdown: %v", err)
	}
	roundTrip(t, tun, "runs on until Close")
	s.Close()
	if _, err := tun.Read(make([]byte, 1)); err == nil {
		t.Error("the tunnel outlived Close")
	}
}

func TestMaxAge(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{MaxAge: 50 * time.Millisecond}, echo)
	p := m.pool(t, PoolConfig{})
	old := mustDial(t, p, target(addr))
	defer old.Close()
	<-old.Draining()
	roundTrip(t, old, "an old tunnel goes on")
	roundTripOnce(t, p, target(addr)) // and a new one finds a new connection
	if st := p.Stats(); st.Dials < 2 {
		t.Errorf("stats: %+v", st)
	}
}

func TestConns(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{})
	for range 3 {
		defer mustDial(t, p, target(addr)).Close()
	}
	n := 0
	for ci := range s.Conns() {
		n++
		if ci.Peer.URI != clientURI || ci.Tunnels != 3 || ci.Draining || time.Since(ci.Since) > time.Minute || ci.LocalAddr != addr {
			t.Errorf("%+v", ci)
		}
	}
	if n != 1 || s.Stats().Open != 3 {
		t.Errorf("%d connections, %+v", n, s.Stats())
	}
}

// Garbage instead of TLS or HTTP/2 must not disturb the others.
func TestGarbage(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{})
	tun := mustDial(t, p, target(addr))
	defer tun.Close()
	raw, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(raw, "GET / HTTP/1.1\r\n\r\n")
	_, _ = io.Copy(io.Discard, raw)
	raw.Close()
	tc, err := tls.Dial("tcp", addr.String(), identity.ClientTLS(m.client, nil))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(tc, strings.Repeat("x", 100))
	_, _ = io.Copy(io.Discard, tc)
	tc.Close()
	roundTrip(t, tun, "fine")
}

// TestRevocationCutsOpenTunnels closes the connections of a peer that a list names
// from now on, though their tunnels are open, at both ends.
func TestRevocationCutsOpenTunnels(t *testing.T) {
	m := newMesh(t)
	var bad atomic.Pointer[x509.Certificate]
	is := func(c *x509.Certificate) bool { b := bad.Load(); return b != nil && c.Equal(b) }
	for _, side := range []string{"client", "server"} {
		t.Run(side, func(t *testing.T) {
			bad.Store(nil)
			server, client := m.ca.Source("istio-system", "ztunnel", time.Hour), m.ca.Source("shop", "waypoint", time.Hour)
			defer server.Close()
			defer client.Close()
			_, addr := m.serve(t, ServerConfig{TLS: server, Revoked: is}, echo)
			p := m.pool(t, PoolConfig{TLS: client, Revoked: is})
			tun := mustDial(t, p, target(addr))
			defer tun.Close()
			roundTrip(t, tun, "before")
			who, other := client, server
			if side == "server" {
				who, other = server, client
			}
			bad.Store(who.SVID().Certificate.Leaf)
			other.(interface{ Recheck() }).Recheck() // the end that learns of it
			if _, err := tun.Read(make([]byte, 1)); err == nil {
				t.Error("the tunnel of a revoked peer is open")
			}
			if _, err := p.Dial(ctxT(t), target(addr), nil); err == nil {
				t.Error("a revoked peer has a new tunnel")
			}
		})
	}
}

// What is no CONNECT, or a malformed one, is answered 400, counted and logged like any
// other refusal, though no tunnel came of it.
func TestNoConnect(t *testing.T) {
	m := newMesh(t)
	logs := &logBuf{}
	s, addr := m.serve(t, ServerConfig{Log: logs.logger()}, echo)
	nc, err := tls.Dial("tcp", addr.String(), identity.ClientTLS(m.client, nil))
	if err != nil {
		t.Fatal(err)
	}
	c := h2.NewClient(nc, h2.Config{})
	done := make(chan error, 1)
	go func() { done <- c.Serve() }()
	for _, h := range []h2.Head{
		{Method: "GET", Scheme: "https", Authority: "10.0.0.1:80", Path: "/"},
		{Method: "CONNECT"}, // without authority
	} {
		st, err := c.Open(&h, h2.End)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := st.ReadHead(); err != nil || got.Status != 400 {
			t.Errorf("%+v: %+v, %v", h, got, err)
		}
		_ = st.Close()
	}
	c.Close(h2.ErrClosed)
	<-done
	if st := s.Stats(); st.Refused400 != 2 || logs.count("tunnel refused") != 2 || logs.count(clientURI) < 2 {
		t.Errorf("%+v, logged %d", st, logs.count("tunnel refused"))
	}
}
