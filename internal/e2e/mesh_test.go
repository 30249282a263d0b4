package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	podV1 = "127.60.0.1"
	podV2 = "127.60.0.2"
	dead  = "127.60.0.9" // a pod whose node proxy is gone
)

const frame = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
`

// service is the manifest of one service of port 80 with its endpoints.
func service(n int, name, protocol string, port int, pods ...string) string {
	s := fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: shop}
spec: {clusterIP: 10.96.7.%[2]d, ports: [{name: p, port: 80, targetPort: %[4]d, appProtocol: %[3]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-1, namespace: shop, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: p, port: %[4]d}]
endpoints:
`, name, n, protocol, port)
	if len(pods) == 0 {
		return strings.TrimSuffix(s, "\n") + " []\n---\n"
	}
	for _, p := range pods {
		s += fmt.Sprintf("- {addresses: [%s], targetRef: {kind: Pod, name: pod-%s, namespace: shop}}\n", p, p[strings.LastIndex(p, ".")+1:])
	}
	return s + "---\n"
}

func pod(ip string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: pod-%s, namespace: shop}
spec: {serviceAccountName: cart}
status: {phase: Running, podIP: %s, conditions: [{type: Ready, status: "True"}]}
---
`, ip[strings.LastIndex(ip, ".")+1:], ip)
}

// mesh is a waypoint that serves testdata/routes.yaml, and its surroundings.
type mesh struct {
	root    *testing.T // what was started ends with it
	t       *testing.T // the test under way
	w       *testmesh.Waypoint
	v1, v2  *testmesh.App
	builder *kube.Builder
	opts    kube.Options // of the next builder
	ca      *identity.CA
	clients map[string]*testmesh.Client
	nodes   map[string]*testmesh.Node // by pod
	http    *http.Client
	fronts  map[string]string // address by client namespace and VIP

	mu      sync.Mutex
	records map[string]telemetry.Record // guarded by mu: by request id
	conns   []telemetry.Record          // guarded by mu: of connections without HTTP
	arrived *sync.Cond
}

// Finish implements telemetry.Tracer.
func (m *mesh) Finish(r *telemetry.Record) {
	c := *r
	for _, s := range []*string{&c.RequestID, &c.Details, &c.Termination, &c.Policy, &c.Rule, &c.Reason, &c.Audit, &c.DryRunPolicy} {
		*s = strings.Clone(*s)
	}
	m.mu.Lock()
	if c.Protocol == telemetry.TCP {
		m.conns = append(m.conns, c)
	} else {
		m.records[c.RequestID] = c
	}
	m.mu.Unlock()
	m.arrived.Broadcast()
}

// record waits for what the data path logged of a request.
func (m *mesh) record(id string) telemetry.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		if r, ok := m.records[id]; ok {
			return r
		}
		m.arrived.Wait()
	}
}

// newMesh serves testdata/routes.yaml.
func newMesh(t *testing.T) *mesh {
	m := startMesh(t, nil)
	routes, err := os.ReadFile("testdata/routes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m.serve(frame + pod(podV1) + pod(podV2) + pod(dead) +
		service(1, "cart", "http", 8080, podV1, podV2) + service(2, "v1", "http", 8080, podV1) +
		service(3, "v2", "http", 8080, podV2) + service(4, "empty", "http", 8080) +
		service(5, "dead", "http", 8080, dead) + service(6, "anyport", "http", 8080, podV1) +
		service(7, "rpc", "grpc", 9090, podV1) + service(8, "raw", "tcp", 7070) +
		service(9, "greeter", "tcp", 7070, podV1) + string(routes))
	return m
}

// startMesh starts a waypoint and two pods with their applications, and serves
// nothing yet.
func startMesh(t *testing.T, edit func(*proxy.Options)) *mesh {
	return startMeshAs(t, func(m *mesh) identity.Source { return m.source("shop", "waypoint") }, edit)
}

// startMeshAs is startMesh of a waypoint that proves its identity by own.
func startMeshAs(t *testing.T, own func(*mesh) identity.Source, edit func(*proxy.Options)) *mesh {
	m := &mesh{root: t, t: t, records: map[string]telemetry.Record{}, clients: map[string]*testmesh.Client{}, nodes: map[string]*testmesh.Node{}, fronts: map[string]string{}}
	m.arrived = sync.NewCond(&m.mu)
	var err error
	if m.ca, err = identity.NewCA("cluster.local"); err != nil {
		t.Fatal(err)
	}
	apps := map[string]**testmesh.App{podV1: &m.v1, podV2: &m.v2}
	for ip, app := range apps {
		if *app, err = testmesh.NewApp("v"+ip[len(ip)-1:], ip+":8080"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*app).Close() })
		n, err := testmesh.NewNode(netip.MustParseAddr(ip), m.source("shop", "cart"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		m.nodes[ip] = n
	}
	m.w, err = testmesh.NewWaypoint(testmesh.WaypointOptions{Source: own(m), Proxy: func(o *proxy.Options) {
		o.Telemetry = telemetry.New(telemetry.Options{Observer: m})
		if edit != nil {
			edit(o)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.w.Close)
	m.http = &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(m.http.CloseIdleConnections)
	return m
}

func (m *mesh) serve(yaml string) {
	m.t.Helper()
	objs := kube.NewObjects()
	list, err := kube.Parse("mesh.yaml", []byte(yaml))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, o := range list {
		objs.Put(o)
	}
	m.builder = kube.NewBuilder(m.opts)
	for _, p := range m.w.Serve(m.builder.Build(objs)) {
		// Backends that are missing, filters that nobody knows, and the kind that loses
		// a port, are meant.
		if p.Severity == config.Error && p.Reason != "BackendNotFound" && p.Reason != "UnsupportedValue" && p.Name != "loser" {
			m.t.Errorf("%s %s/%s %s: %s (%s)", p.Kind, p.Namespace, p.Name, p.Field, p.Message, p.Reason)
		}
	}
}

func (m *mesh) source(ns, sa string) identity.Source {
	s := m.ca.Source(ns, sa, time.Hour)
	m.root.Cleanup(func() { s.Close() })
	return s
}

// front is where a client of a namespace reaches 10.96.7.vip:80.
func (m *mesh) front(ns string, vip int) string {
	m.t.Helper()
	return m.frontTo(ns, fmt.Sprintf("10.96.7.%d:80", vip))
}

// frontTo is where a client of a namespace reaches an address.
func (m *mesh) frontTo(ns, to string) string {
	m.t.Helper()
	if a := m.fronts[ns+to]; a != "" {
		return a
	}
	c := m.clients[ns]
	if c == nil {
		c = testmesh.NewClient(m.source(ns, "curl"))
		m.root.Cleanup(c.Close)
		m.clients[ns] = c
	}
	k, err := c.Capture("127.0.0.1:0", func() netip.AddrPort { return m.w.Addr }, to)
	if err != nil {
		m.t.Fatal(err)
	}
	m.root.Cleanup(func() { k.Close() })
	m.fronts[ns+to] = k.Addr().String()
	return k.Addr().String()
}

// answer is a response with what the waypoint logged of it.
type answer struct {
	*http.Response
	body string
	rec  telemetry.Record
	id   string
}

// ask makes one request and holds Explain to what became of it.
func (m *mesh) ask(ns string, vip int, method, target string, headers ...string) answer {
	m.t.Helper()
	return m.askAt(ns, fmt.Sprintf("10.96.7.%d:80", vip), method, target, headers...)
}

// askAt is ask for an address.
func (m *mesh) askAt(ns, to, method, target string, headers ...string) answer {
	m.t.Helper()
	req, err := http.NewRequest(method, "http://"+m.frontTo(ns, to)+target, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	a := answer{id: fmt.Sprintf("%s-%d", strings.ReplaceAll(m.t.Name(), "/", "-"), time.Now().UnixNano())}
	req.Host = "cart.shop"
	req.Header.Set("X-Request-Id", a.id)
	q := proxy.Question{Method: method, URL: "http://" + to + target, Headers: []attrs.Field{{Name: "host", Value: "cart.shop"}}}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
		q.Headers = append(q.Headers, attrs.Field{Name: headers[i], Value: headers[i+1]})
	}
	e := m.explain(ns, q)
	if a.Response, err = m.http.Do(req); err != nil {
		m.t.Fatal(err)
	}
	b, err := io.ReadAll(a.Body)
	a.Body.Close()
	if err != nil {
		m.t.Fatal(err)
	}
	a.body, a.rec = string(b), m.record(a.id)
	m.compare(e, &a.rec)
	if loc := a.Header.Get("Location"); loc != e.Location && !slices.ContainsFunc(e.Backends, func(b proxy.ExplainedBackend) bool { return b.Location == loc }) {
		m.t.Errorf("%s %s: Location %q, explained as %q", method, target, loc, e.Location)
	}
	return a
}

// explain asks what would become of a request of a client of that namespace.
func (m *mesh) explain(ns string, q proxy.Question) *proxy.Explanation {
	m.t.Helper()
	q.Source = netip.MustParseAddr("127.0.0.1") // where every connection of a test comes from
	uri := identity.URI("cluster.local", ns, "curl")
	if c := m.clients[ns]; c != nil {
		uri = c.Source.SVID().Principal.URI
	}
	var err error
	if q.From, err = identity.Parse(uri); err != nil {
		m.t.Fatal(err)
	}
	e, err := proxy.Explain(m.w.Store, q)
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

// compare holds an explanation to what was logged of the request.
func (m *mesh) compare(e *proxy.Explanation, r *telemetry.Record) {
	m.t.Helper()
	if slices.ContainsFunc(e.NotAsked, func(s string) bool { return strings.HasPrefix(s, "external authorization") }) {
		return // what it said, explain cannot know
	}
	if e.Audit != r.Audit || e.DryRun != r.DryRun || e.DryRunPolicy != r.DryRunPolicy {
		m.t.Errorf("explained as audited by %q, dry run %q %q; logged %q, %q %q", e.Audit, e.DryRun, e.DryRunPolicy, r.Audit, r.DryRun, r.DryRunPolicy)
	}
	if e.Policy != r.Policy || e.PRule != r.Rule || e.Reason != r.Reason || (e.Decision == "deny") != r.Denied {
		m.t.Errorf("explained as %s by %s %s %s, logged denied %v by %s %s %s", e.Decision, e.Policy, e.PRule, e.Reason, r.Denied, r.Policy, r.Rule, r.Reason)
	}
	route := "default"
	if e.Route != "" {
		route = e.Route + "/" + e.Rule
	}
	if route != r.Route {
		m.t.Errorf("logged route %s, explained as %s", r.Route, route)
	}
	switch e.Action {
	case "forward":
		if r.Flags == telemetry.FlagNC && slices.ContainsFunc(e.Backends, func(b proxy.ExplainedBackend) bool { return b.Invalid != "" && b.Weight > 0 }) {
			return // the share of a backend that is missing
		}
		if r.Attempts == 0 && slices.ContainsFunc(e.Backends, func(b proxy.ExplainedBackend) bool { return b.Status == r.Code && b.Weight > 0 }) {
			return // the share of a backend that answers it by a filter
		}
		if r.Attempts == 0 {
			m.t.Errorf("explained as forwarded, logged %d %s", r.Code, r.Details)
		}
		if !slices.ContainsFunc(e.Backends, func(b proxy.ExplainedBackend) bool {
			return b.Invalid == "" && (b.Status == r.Code && !r.Upstream.IsValid() || cluster(b.Backend) == r.UpstreamCluster)
		}) {
			m.t.Errorf("logged cluster %q, explained as one of %+v", r.UpstreamCluster, e.Backends)
		}
	default:
		if r.Attempts > 0 && slices.ContainsFunc(e.Backends, func(b proxy.ExplainedBackend) bool {
			return b.Status == 0 && cluster(b.Backend) == r.UpstreamCluster
		}) {
			return // the share of another backend, which is forwarded
		}
		// An endpoint is looked for by the first attempt, which then finds none.
		if e.Status != r.Code || e.Details != r.Details || e.Flags != r.Flags.String() || r.Attempts != 0 && e.Flags != "UH" {
			m.t.Errorf("explained as %d %s %s, logged %d %s %v", e.Status, e.Details, e.Flags, r.Code, r.Details, r.Flags)
		}
	}
}

// cluster is the name under which the data path logs a backend "host|port".
func cluster(key string) string {
	host, port, _ := strings.Cut(key, "|")
	if port == "" {
		return key
	}
	return "inbound-vip|" + port + "|http|" + host
}

// one returns what an application saw of the request.
func (a *answer) one(t *testing.T, app *testmesh.App) testmesh.Seen {
	t.Helper()
	s := app.Find(a.id)
	if len(s) != 1 {
		t.Fatalf("the application saw it %d times: %d %s", len(s), a.StatusCode, a.body)
	}
	return s[0]
}
