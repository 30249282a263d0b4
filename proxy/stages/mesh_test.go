package stages_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/stages"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	vip      = "10.96.0.10:80"
	cart     = "cart.shop.svc.cluster.local"
	waypoint = "spiffe://cluster.local/ns/shop/sa/waypoint"
)

// mesh is a waypoint on loopback with one app, a client, and pods for
// authorizers and key servers.
type mesh struct {
	t      *testing.T
	ca     *identity.CA
	w      *testmesh.Waypoint
	app    *testmesh.App
	client *testmesh.Client
	http   *http.Client
	model  *config.Model
	ids    int
	moves  bool // keys change under the test: what is explained may be a moment newer

	mu      sync.Mutex
	records map[string]chan telemetry.Record // guarded by mu: by request id
	conns   chan telemetry.Record            // of TCP connections
}

// Finish implements telemetry.Tracer.
func (m *mesh) Finish(r *telemetry.Record) {
	c := *r
	for _, s := range []*string{&c.RequestID, &c.Details, &c.Policy, &c.Rule, &c.Reason, &c.Termination, &c.DryRunPolicy, &c.Path} {
		*s = strings.Clone(*s)
	}
	if c.Protocol == telemetry.TCP {
		m.conns <- c
		return
	}
	m.record(c.RequestID) <- c
}

func (m *mesh) record(id string) chan telemetry.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[id] == nil {
		m.records[id] = make(chan telemetry.Record, 1)
	}
	return m.records[id]
}

var nets = struct {
	sync.Mutex
	n int
}{}

// newMesh starts a mesh whose cart has an app behind it. edit changes how the
// waypoint's stages are made.
func newMesh(t *testing.T, edit ...func(*stages.Options)) *mesh {
	t.Helper()
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, ca: ca, records: map[string]chan telemetry.Record{}, conns: make(chan telemetry.Record, 16)}
	m.w, err = testmesh.NewWaypoint(testmesh.WaypointOptions{Source: m.source("shop", "waypoint"), Observer: m, Stages: func(o *stages.Options) {
		for _, f := range edit {
			f(o)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.w.Close)
	ip, _ := m.pod("shop", "cart")
	if m.app, err = testmesh.NewApp("cart", ip.String()+":8080"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.app.Close() })
	m.client = testmesh.NewClient(m.source("clients", "curl"))
	t.Cleanup(m.client.Close)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return m.dial(ctx) }, DisableKeepAlives: true}
	m.http = &http.Client{Transport: tr, Timeout: 10 * time.Second}
	m.model = &config.Model{Mesh: config.Mesh{TrustDomain: "cluster.local", Domain: "cluster.local"}, Backends: map[string]*config.Backend{}}
	m.backend(cart, 80, "shop", "cart", netip.AddrPortFrom(ip, 8080))
	return m
}

func (m *mesh) source(ns, sa string) identity.Source {
	s := m.ca.Source(ns, sa, time.Hour)
	m.t.Cleanup(func() { _ = s.Close() })
	return s
}

// pod starts a node proxy on an address of its own.
func (m *mesh) pod(ns, sa string) (netip.Addr, *testmesh.Node) {
	m.t.Helper()
	nets.Lock()
	nets.n++
	ip := netip.AddrFrom4([4]byte{127, 54, byte(nets.n >> 8), byte(nets.n)})
	nets.Unlock()
	n, err := testmesh.NewNode(ip, m.source(ns, sa), nil, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = n.Close() })
	return ip, n
}

// backend adds a service port with one pod in the mesh, and returns its key.
func (m *mesh) backend(host string, port uint16, ns, sa string, addr netip.AddrPort) string {
	key := host + "|" + strconv.Itoa(int(port))
	m.model.Backends[key] = &config.Backend{Key: key, Protocol: config.ProtocolHTTP, Endpoints: []*balance.Endpoint{{
		Key: addr.String(), Addr: addr, Tunnel: netip.AddrPortFrom(addr.Addr(), testmesh.HBONEPort), Identity: identity.URI("cluster.local", ns, sa),
	}}}
	return key
}

// serve makes cart's destination serve, as edit changes it.
func (m *mesh) serve(edit func(*config.Destination)) {
	m.t.Helper()
	d := &config.Destination{
		Key: cart + ":80", Addrs: []netip.Prefix{netip.MustParsePrefix("10.96.0.10/32")}, Port: 80, Protocol: config.ProtocolHTTP,
		Service: config.Service{Host: cart, Name: "cart", Namespace: "shop", Port: 80}, Backend: cart + "|80", Refs: []string{cart + "|80"},
	}
	edit(d)
	n := *m.model
	n.Destinations = []*config.Destination{d}
	if p := m.w.Serve(&n); len(p) > 0 {
		m.t.Fatalf("problems: %+v", p)
	}
}

func (m *mesh) dial(ctx context.Context) (net.Conn, error) {
	t, err := m.client.Dial(ctx, m.w.Addr, vip)
	if err != nil {
		return nil, err
	}
	return conn{t}, nil
}

// answer is what came of one request.
type answer struct {
	code   int
	body   string
	header http.Header
	rec    telemetry.Record
	seen   []testmesh.Seen
}

// ask sends a request and returns what the client, the log and the app saw. What
// Explain says of it must be what happened, unless somebody outside was asked.
func (m *mesh) ask(method, target string, body io.Reader, fields ...string) answer {
	m.t.Helper()
	m.ids++
	id := "id-" + strconv.Itoa(m.ids)
	req, err := http.NewRequest(method, "http://"+cart+target, body)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("X-Request-Id", id)
	q := proxy.Question{Method: method, URL: "http://" + vip + target, Headers: []attrs.Field{{Name: "host", Value: cart}, {Name: "x-request-id", Value: id}}}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
		q.Headers = append(q.Headers, attrs.Field{Name: fields[i], Value: fields[i+1]})
	}
	if q.From, err = identity.Parse(identity.URI("cluster.local", "clients", "curl")); err != nil {
		m.t.Fatal(err)
	}
	resp, err := m.http.Do(req)
	if err != nil {
		m.t.Fatalf("%s %s: %v", method, target, err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		m.t.Fatal(err)
	}
	a := answer{code: resp.StatusCode, body: string(b), header: resp.Header, rec: <-m.record(id), seen: m.app.Find(id)}
	e, err := proxy.Explain(m.w.Store, q)
	if err != nil {
		m.t.Fatal(err)
	}
	if len(e.NotAsked) == 0 && !m.moves {
		if e.Status != a.rec.Code || (e.Decision == "deny") != a.rec.Denied || (e.Action == "forward") != (len(a.seen) == 1) || a.rec.Denied && e.Details != a.rec.Details {
			m.t.Errorf("%s %s: explained as %s %d %q, logged as %d %q, denied %v", method, target, e.Decision, e.Status, e.Details, a.rec.Code, a.rec.Details, a.rec.Denied)
		}
	}
	if (a.code == 200) != (len(a.seen) == 1) {
		m.t.Errorf("%s %s: answered %d, and the app saw %d requests", method, target, a.code, len(a.seen))
	}
	return a
}

func rule() routing.Rule {
	return routing.Rule{Retry: -1, Fault: -1, Session: -1, Hash: -1, Backends: []routing.Backend{{Weight: 1}}}
}

// conn is a tunnel as a net.Conn.
type conn struct{ *hbone.Tunnel }

func (c conn) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (c conn) RemoteAddr() net.Addr { return &net.TCPAddr{} }
