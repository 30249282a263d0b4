package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/telemetry"
)

// mesh is a waypoint on loopback with real TLS on both sides.
type mesh struct {
	p      *proxy.Proxy
	store  *config.Store
	srv    *hbone.Server
	addr   netip.AddrPort
	eps    []netip.AddrPort
	client *testmesh.Client
	close  func()
}

// newMesh starts a waypoint whose service cart has an HTTP app in each pod, and
// a client's node proxy.
func newMesh(t testing.TB, handler http.Handler, pods ...string) *mesh {
	t.Helper()
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	var closers []func()
	src := func(ns, sa string) identity.Source {
		s := ca.Source(ns, sa, time.Hour)
		closers = append(closers, func() { _ = s.Close() })
		return s
	}
	var eps []netip.AddrPort
	for _, pod := range pods {
		ln, err := net.Listen("tcp", pod+":0")
		if err != nil {
			t.Fatal(err)
		}
		var pr http.Protocols
		pr.SetHTTP1(true)
		pr.SetUnencryptedHTTP2(true)
		app := &http.Server{Handler: handler, Protocols: &pr}
		go func() { _ = app.Serve(ln) }()
		node, err := testmesh.NewNode(netip.MustParseAddr(pod), src("shop", "cart"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		eps = append(eps, netip.MustParseAddrPort(ln.Addr().String()))
		closers = append(closers, func() { _ = node.Close(); _ = app.Close() })
	}
	m := &mesh{store: new(config.Store), eps: eps}
	snap, _ := config.Compile(proxy.AutoModel(eps...), nil, config.Env{State: proxy.BackendState})
	m.store.Swap(snap)
	own := src("shop", "waypoint")
	pool := hbone.NewPool(hbone.PoolConfig{TLS: own})
	m.p = proxy.New(proxy.Options{Store: m.store, Dialer: pool, Telemetry: telemetry.New(telemetry.Options{}), Local: func() attrs.Principal { return own.SVID().Principal }})
	m.srv = hbone.NewServer(hbone.ServerConfig{TLS: own, DrainDelay: -1}, m.p)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = netip.MustParseAddrPort(ln.Addr().String())
	go func() { _ = m.srv.Serve(ln) }()
	m.client = testmesh.NewClient(src("clients", "curl"))
	m.close = func() {
		m.client.Close()
		_ = m.srv.Close()
		m.p.Close()
		pool.Close()
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	return m
}

// transport sends each connection of an http.Client through a tunnel.
func (m *mesh) transport(h2 bool) *http.Transport {
	var pr http.Protocols
	pr.SetHTTP1(!h2)
	pr.SetUnencryptedHTTP2(h2)
	return &http.Transport{Protocols: &pr, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		tun, err := m.client.Dial(ctx, m.addr, proxy.VIP+":80")
		if err != nil {
			return nil, err
		}
		return proxy.NetConn(tun), nil
	}}
}

func TestEndToEnd(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	m := newMesh(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		w.Header().Set("X-Proto", req.Proto)
		_, _ = w.Write(b)
	}), "127.53.0.1", "127.53.0.2")
	defer m.close()
	for _, h2 := range []bool{false, true} {
		tr := m.transport(h2)
		c := &http.Client{Transport: tr}
		var wg sync.WaitGroup
		var failed atomic.Int32
		for i := range 20 {
			wg.Go(func() {
				for j := range 10 {
					body := big[:(i*j*977)%len(big)]
					resp, err := c.Post("http://cart/", "application/octet-stream", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					want := "HTTP/1.1"
					if h2 {
						want = "HTTP/2.0"
					}
					if err != nil || !bytes.Equal(got, body) || resp.Header.Get("X-Proto") != want || resp.Header.Get("Server") != "istio-envoy" {
						failed.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if n := failed.Load(); n != 0 {
			t.Errorf("h2 %v: %d answers were wrong", h2, n)
		}
		tr.CloseIdleConnections()
	}
	if n := m.p.Panics(); n != 0 {
		t.Errorf("%d panics", n)
	}
}

// Shutdown ends keep-alive tunnels by itself and loses no request.
func TestGracefulShutdown(t *testing.T) {
	entered, hold := make(chan struct{}), make(chan struct{})
	m := newMesh(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/slow" {
			close(entered)
			<-hold
		}
		_, _ = io.WriteString(w, "ok")
	}), "127.53.0.3")
	defer m.close()
	idle, busy := &http.Client{Transport: m.transport(false)}, &http.Client{Transport: m.transport(false)}
	resp, err := idle.Get("http://cart/")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	got := make(chan string, 1)
	go func() {
		resp, err := busy.Get("http://cart/slow")
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		got <- fmt.Sprintf("%s close=%v", b, resp.Close)
	}()
	<-entered
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() { done <- m.srv.Shutdown(ctx) }()
	for m.p.Active() > 1 { // the idle one goes first
		time.Sleep(time.Millisecond)
	}
	close(hold)
	if s := <-got; s != "ok close=true" {
		t.Errorf("busy: %s", s)
	}
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for _, c := range []*http.Client{idle, busy} {
		c.CloseIdleConnections()
	}
}

func BenchmarkEndToEnd(b *testing.B) {
	answer := bytes.Repeat([]byte("x"), 1024)
	m := newMesh(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }), "127.53.0.4")
	defer m.close()
	tun, err := m.client.Dial(context.Background(), m.addr, proxy.VIP+":80")
	if err != nil {
		b.Fatal(err)
	}
	defer tun.Close()
	buf := make([]byte, 8<<10)
	req := []byte(proxy.BrowserGet)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tun.Write(req); err != nil {
			b.Fatal(err)
		}
		for n := 0; ; {
			k, err := tun.Read(buf[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += k
			if i := bytes.Index(buf[:n], []byte("\r\n\r\n")); i > 0 && n == i+4+1024 {
				break
			}
		}
	}
}
