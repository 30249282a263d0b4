package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

func TestMain(m *testing.M) {
	buf.SetPoison(true)
	goleak.VerifyTestMain(m)
}

// fakeTunnel is an inbound tunnel as a node proxy opens it.
type fakeTunnel struct {
	*memConn
	peer      attrs.Principal
	source    netip.AddrPort
	authority string
	addr      netip.AddrPort
	host      string
	port      uint16
	header    map[string]string
	draining  chan struct{}

	mu      sync.Mutex
	status  int
	reason  string
	decided chan struct{}
	done    chan struct{} // closed when the proxy is through with the tunnel
}

func (t *fakeTunnel) Peer() attrs.Principal                   { return t.peer }
func (t *fakeTunnel) PeerAddr() netip.AddrPort                { return t.source }
func (t *fakeTunnel) LocalAddr() netip.AddrPort               { return netip.MustParseAddrPort("10.1.0.9:15008") }
func (t *fakeTunnel) Authority() string                       { return t.authority }
func (t *fakeTunnel) Header(n string) string                  { return t.header[n] }
func (t *fakeTunnel) Draining() <-chan struct{}               { return t.draining }
func (t *fakeTunnel) Accept() error                           { return t.decide(200, "") }
func (t *fakeTunnel) RefuseReason(s int, reason string) error { return t.decide(s, reason) }
func (t *fakeTunnel) Dest() (netip.AddrPort, string, uint16)  { return t.addr, t.host, t.port }

func (t *fakeTunnel) decide(status int, reason string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status != 0 {
		return hbone.ErrAnswered
	}
	t.status, t.reason = status, reason
	close(t.decided)
	return nil
}

// rig is a proxy with in-memory clients and backends.
type rig struct {
	t     testing.TB
	p     *Proxy
	store *config.Store
	model *config.Model
	snap  *config.Snapshot

	mu       sync.Mutex
	backends map[netip.AddrPort]func(*memConn) // what answers a dial
	dials    []netip.AddrPort
	records  []telemetry.Record
	opened   []*fakeTunnel
	wg       sync.WaitGroup
}

const (
	vip    = "10.0.0.1"
	client = "spiffe://cluster.local/ns/clients/sa/curl"
)

var (
	pod1 = netip.MustParseAddrPort("10.1.0.1:8080")
	pod2 = netip.MustParseAddrPort("10.1.0.2:8080")
)

func (r *rig) Finish(rec *telemetry.Record) {
	c := *rec
	for _, s := range []*string{&c.Method, &c.Path, &c.Authority, &c.UserAgent, &c.RequestID, &c.Forwarded,
		&c.Details, &c.Termination, &c.TransportFailure, &c.Policy, &c.Rule, &c.Reason, &c.SNI} {
		*s = strings.Clone(*s)
	}
	r.mu.Lock()
	r.records = append(r.records, c)
	r.mu.Unlock()
}

// newRig serves one service, cart, at vip:80 with pod1 behind it; edit changes
// the model before it is compiled.
func newRig(t testing.TB, edit func(*config.Model)) *rig {
	r := &rig{t: t, store: new(config.Store), backends: make(map[netip.AddrPort]func(*memConn))}
	r.swap(cartModel(edit))
	r.p = New(Options{Store: r.store, Telemetry: telemetry.New(telemetry.Options{Observer: r}), Local: func() attrs.Principal {
		return attrs.Principal{URI: "spiffe://cluster.local/ns/shop/sa/waypoint", TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "waypoint"}
	}})
	r.p.dial = r.dial
	return r
}

func (r *rig) swap(m *config.Model) {
	snap, problems := config.Compile(m, r.snap, config.Env{State: BackendState})
	for _, p := range problems {
		if p.Severity == config.Error && !strings.Contains(p.Message, "answers") {
			r.t.Logf("problem: %+v", p)
		}
	}
	r.model, r.snap = m, snap
	r.store.Swap(snap)
}

func cartModel(edit func(*config.Model)) *config.Model {
	m := &config.Model{
		Mesh: config.Mesh{TrustDomain: "cluster.local", Network: "net1"},
		Destinations: []*config.Destination{{
			Key: "cart.shop.svc.cluster.local:80", Addrs: []netip.Prefix{netip.MustParsePrefix(vip + "/32")}, Port: 80,
			Hosts: []string{"cart.shop.svc.cluster.local"}, Protocol: config.ProtocolHTTP,
			Service: config.Service{Host: "cart.shop.svc.cluster.local", Name: "cart", Namespace: "shop", Port: 80},
			Backend: "cart.shop.svc.cluster.local|80",
		}},
		Backends: map[string]*config.Backend{},
	}
	addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolHTTP, pod1)
	if edit != nil {
		edit(m)
	}
	return m
}

func addBackend(m *config.Model, key string, proto config.Protocol, pods ...netip.AddrPort) *config.Backend {
	b := &config.Backend{Key: key, Protocol: proto, Balance: balance.Policy{Kind: balance.RoundRobin},
		Service: config.Service{Host: "cart.shop.svc.cluster.local", Name: "cart", Namespace: "shop", Port: 80}}
	for _, a := range pods {
		b.Endpoints = append(b.Endpoints, &balance.Endpoint{Key: a.String(), Addr: a,
			Tunnel:   netip.AddrPortFrom(a.Addr(), 15008),
			Identity: "spiffe://cluster.local/ns/shop/sa/cart"})
	}
	m.Backends[key] = b
	return b
}

// forward is a rule that sends everything to the backend at ref 0.
func forward() routing.Rule {
	return routing.Rule{Route: "shop/r", Kind: "HTTPRoute", Retry: -1, Fault: -1, Session: -1, Hash: -1,
		Backends: []routing.Backend{{Ref: 0, Weight: 1}}}
}

func (r *rig) dial(_ context.Context, ep *balance.Endpoint) (hbone.Conn, error) {
	r.mu.Lock()
	r.dials = append(r.dials, ep.Addr)
	serve := r.backends[ep.Addr]
	r.mu.Unlock()
	if serve == nil {
		return nil, &hbone.DialError{Stage: hbone.StageTCP, Err: fmt.Errorf("connect %v: refused", ep.Addr)}
	}
	a, b := memPair(64 << 10)
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		defer b.Close()
		serve(b)
	}()
	return a, nil
}

// on makes serve answer connections to addr.
func (r *rig) on(addr netip.AddrPort, serve func(*memConn)) {
	r.mu.Lock()
	r.backends[addr] = serve
	r.mu.Unlock()
}

// handle makes an HTTP/1 backend of f.
func (r *rig) handle(addr netip.AddrPort, f http.HandlerFunc) {
	r.on(addr, func(c *memConn) { serveHTTP1(c, f) })
}

// serveHTTP1 answers the requests of one connection with net/http.
func serveHTTP1(c *memConn, f http.HandlerFunc) {
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		w := &recorder{header: http.Header{}, c: c, status: 200}
		f(w, req)
		if w.hijacked {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		if w.finish(req) != nil || w.header.Get("Connection") == "close" {
			return
		}
	}
}

// recorder is a small http.ResponseWriter: the whole answer leaves at the end.
type recorder struct {
	header   http.Header
	c        *memConn
	status   int
	body     bytes.Buffer
	hijacked bool
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(s int)           { w.status = s }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *recorder) finish(req *http.Request) error {
	resp := &http.Response{StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Request: req,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len())}
	var out bytes.Buffer
	if err := resp.Write(&out); err != nil {
		return err
	}
	_, err := w.c.Write(out.Bytes())
	return err
}

// tunnel opens a tunnel to vip:80 and returns the client's end.
func (r *rig) tunnel() (*memConn, *fakeTunnel) { return r.tunnelTo(vip + ":80") }

func (r *rig) tunnelTo(authority string) (*memConn, *fakeTunnel) {
	return r.open(authority, make(chan struct{}))
}

func (r *rig) open(authority string, draining chan struct{}) (*memConn, *fakeTunnel) {
	return r.openWith(authority, draining, nil)
}

// openWith opens a tunnel whose CONNECT has these headers.
func (r *rig) openWith(authority string, draining chan struct{}, header map[string]string) (*memConn, *fakeTunnel) {
	a, b := memPair(64 << 10)
	ft := &fakeTunnel{memConn: b, authority: authority, header: header, draining: draining, decided: make(chan struct{}), done: make(chan struct{}),
		peer:   attrs.Principal{URI: client, TrustDomain: "cluster.local", Namespace: "clients", ServiceAccount: "curl"},
		source: netip.MustParseAddrPort("10.2.0.1:34567")}
	ft.addr, ft.host, ft.port, _ = hbone.ParseAuthority(authority)
	r.mu.Lock()
	r.opened = append(r.opened, ft)
	r.mu.Unlock()
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		defer close(ft.done)
		defer b.Close()
		newTunnel(r.p, ft).serve()
	}()
	return a, ft
}

// close ends the rig: every tunnel and backend has to have ended with it.
func (r *rig) close() {
	r.p.Close()
	r.wg.Wait()
}

// last returns the newest record; there must be n by now.
func (r *rig) last(n int) telemetry.Record {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records) != n {
		r.t.Fatalf("%d records, want %d: %+v", len(r.records), n, r.records)
	}
	return r.records[n-1]
}

// do sends raw bytes on a new tunnel and returns the one answer.
func (r *rig) do(raw string) (*http.Response, string) {
	r.t.Helper()
	c, ft := r.tunnel()
	resp, body := exchangeOn(r.t, c, raw)
	_ = c.Close()
	<-ft.done
	return resp, body
}

// idle waits until the proxy is through with every tunnel.
func (r *rig) idle() {
	r.mu.Lock()
	opened := r.opened
	r.mu.Unlock()
	for _, ft := range opened {
		<-ft.done
	}
}

// exchangeOn writes raw and reads one response.
func exchangeOn(t testing.TB, c *memConn, raw string) (*http.Response, string) {
	t.Helper()
	if _, err := c.Write([]byte(raw)); err != nil {
		t.Fatalf("write: %v", err)
	}
	return readResponse(t, bufio.NewReader(c), raw)
}

func readResponse(t testing.TB, br *bufio.Reader, raw string) (*http.Response, string) {
	t.Helper()
	method, _, _ := strings.Cut(raw, " ")
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return resp, string(body)
}

const get = "GET /a/b?c=d HTTP/1.1\r\nHost: cart\r\nUser-Agent: test\r\n\r\n"
