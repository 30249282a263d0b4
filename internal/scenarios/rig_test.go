package scenarios

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/stages"
	"waypoint.dev/waypoint/resilience/balance"
)

// fixtures is where the scenarios are; each test runs on them alone.
const fixtures = "../../config/istiod/testdata/"

func TestMain(m *testing.M) {
	if err := trustTestRoots(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.Remove(roots.file)
		os.Exit(code)
	}))
}

// moved is where the networks of the scenarios live here.
var moved = strings.NewReplacer("10.244.", "127.61.", "10.200.1.", "127.61.20.", "172.18.0.", "127.61.30.", "192.0.2.1", "127.61.9.1", "198.51.100.", "127.61.8.")

// pods of services.yaml, with the port that each serves. Those without a tunnel are
// called by plain TCP.
var pods = []struct {
	name, ip, account string
	port              string
	plain             bool
}{
	{"web-1", "127.61.1.21", "web", "8080", false},
	{"web-2", "127.61.2.21", "web", "8080", false},
	{"web-3", "127.61.2.22", "web", "8080", true},
	{"cart-v1-1", "127.61.1.31", "cart", "8080", false},
	{"cart-v2-1", "127.61.2.31", "cart", "8080", false},
	{"pay-1", "127.61.1.41", "pay", "9000", false},
	{"db-1", "127.61.2.51", "db", "5432", false},
	{"auto-1", "127.61.1.61", "auto", "7000", false},
	{"h2c-1", "127.61.1.71", "h2c", "8081", false},
	{"headless-1", "127.61.2.81", "headless", "8080", false},
}

// world is the mesh around one waypoint.
type world struct {
	t       *testing.T
	w       *testmesh.Waypoint
	ca      *identity.CA
	names   map[string]netip.Addr // what DNS knows
	clients map[string]*testmesh.Client
	fronts  map[string]string
	nodes   map[string]*testmesh.Node
	http    *http.Client
	rewrite func(string) string
}

// apps serve at pods in place of the plain ones.
type apps map[string]func(t *testing.T, ln net.Listener, name string)

// newWorld starts the pods and a waypoint that serves nothing yet.
func newWorld(t *testing.T, special apps) *world {
	t.Helper()
	m := &world{t: t, names: map[string]netip.Addr{}, clients: map[string]*testmesh.Client{}, fronts: map[string]string{}, nodes: map[string]*testmesh.Node{}, rewrite: moved.Replace}
	var err error
	if m.ca, err = identity.NewCA("cluster.local"); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		ln, err := net.Listen("tcp", p.ip+":"+p.port)
		if err != nil {
			t.Fatal(err)
		}
		if serve := special[p.name]; serve != nil {
			serve(t, ln, p.name)
		} else {
			serveApp(t, ln, p.name)
		}
		if p.plain {
			continue
		}
		n, err := testmesh.NewNode(netip.MustParseAddr(p.ip), m.source("shop", p.account), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		m.nodes[p.name] = n
	}
	guard := hbone.Guard{Permit: []netip.Prefix{netip.MustParsePrefix("127.61.0.0/16")}}
	names := proxy.NewNames(func(_ context.Context, name string) ([]netip.Addr, error) {
		if a, ok := m.names[name]; ok {
			return []netip.Addr{a}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	})
	t.Cleanup(names.Close)
	m.w, err = testmesh.NewWaypoint(testmesh.WaypointOptions{
		Source:     m.source("shop", "waypoint"),
		PoolConfig: func(c *hbone.PoolConfig) { c.Network = "network-1" },
		Proxy:      func(o *proxy.Options) { o.Guard, o.Names = guard, names },
		Stages:     func(o *stages.Options) { o.Guard = guard },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.w.Close)
	m.http = &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(m.http.CloseIdleConnections)
	return m
}

func (m *world) source(ns, sa string) identity.Source {
	s := m.ca.Source(ns, sa, time.Hour)
	m.t.Cleanup(func() { s.Close() })
	return s
}

// serveApp serves HTTP, in clear HTTP/2 too, and says who it is.
func serveApp(t *testing.T, ln net.Listener, name string) {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	serveHandler(t, ln, name, &http.Server{Protocols: &p})
}

func serveHandler(t *testing.T, ln net.Listener, name string, srv *http.Server) {
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := testmesh.Seen{App: name, Method: r.Method, Path: r.RequestURI, Host: r.Host, Proto: r.Proto, Headers: map[string]string{}}
		for k := range r.Header {
			s.Headers[strings.ToLower(k)] = strings.Join(r.Header[k], ",")
		}
		w.Header().Set("X-E", "of the application")
		w.Header().Set("Server-Internal", "yes")
		_ = json.NewEncoder(w).Encode(s)
	})
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

// fromIstiod is the model of the recorded resources.
func (m *world) fromIstiod(scenario string) *config.Model {
	m.t.Helper()
	all, err := testmesh.ReadScenario(filepath.Join(fixtures, scenario), m.rewrite)
	if err != nil {
		m.t.Fatal(err)
	}
	w := istiod.NewWorld(istiod.Options{Namespace: "shop", Gateway: "waypoint", Class: "istio-waypoint", TrustDomain: "cluster.local",
		RootNamespace: "istio-system", ClusterID: "Kubernetes", Domain: "cluster.local"})
	for _, url := range testmesh.ScenarioTypes {
		var rs []istiod.Resource
		for name, a := range all[url] {
			rs = append(rs, istiod.Resource{Name: name, Version: "1", Body: proto.CloneOf(a).Value})
		}
		for _, err := range w.Apply(url, rs, nil) {
			m.t.Error(err)
		}
	}
	return w.Model()
}

// fromObjects is the model of the objects.
func (m *world) fromObjects(scenario string) *config.Model {
	m.t.Helper()
	objs := kube.NewObjects()
	for _, f := range []string{"base.yaml", "services.yaml", scenario + "/config.yaml", "mesh"} {
		text := []byte(meshConfig)
		if f != "mesh" {
			var err error
			if text, err = os.ReadFile(fixtures + f); err != nil {
				m.t.Fatal(err)
			}
		}
		list, err := kube.Parse(f, []byte(m.rewrite(string(text))))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, o := range list {
			objs.Put(o)
		}
	}
	return kube.NewBuilder(kube.Options{
		Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}, UpstreamTLS: true,
		Locality: balance.Locality{Region: "r1", Zone: "z1"}, Node: "node-1", // the waypoint's pod
	}).Build(objs)
}

// meshConfig is the mesh that the recorded istiod had, as far as objects name it.
const meshConfig = `apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: ext-grpc
      envoyExtAuthzGrpc: {service: h2c.shop.svc.cluster.local, port: 8081, includeRequestBodyInCheck: {maxRequestBytes: 4096, allowPartialMessage: true}}
    - name: ext-http
      envoyExtAuthzHttp: {service: auto.shop.svc.cluster.local, port: 7000, pathPrefix: /check, failOpen: true, statusOnError: "503", headersToUpstreamOnAllow: [x-user], headersToDownstreamOnDeny: [set-cookie]}
`

// ask is one request.
type ask struct {
	as      string // "namespace/account"; empty: clients/curl
	to      string // "10.96.1.1:80"
	method  string // empty: GET
	path    string
	host    string // empty: that of web
	headers []string
	h2      bool
}

// answer is what became of it.
type answer struct {
	status  int // 0: the connection was cut
	app     string
	seen    testmesh.Seen
	headers http.Header
	body    string
}

func (m *world) front(as, to string) string {
	if a := m.fronts[as+to]; a != "" {
		return a
	}
	c := m.clients[as]
	if c == nil {
		ns, sa, _ := strings.Cut(as, "/")
		c = testmesh.NewClientAt(m.source(ns, sa), netip.MustParseAddr("127.61.1.99"))
		m.t.Cleanup(c.Close)
		m.clients[as] = c
	}
	k, err := c.Capture("127.0.0.1:0", func() netip.AddrPort { return m.w.Addr }, to)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { k.Close() })
	m.fronts[as+to] = k.Addr().String()
	return k.Addr().String()
}

func (m *world) ask(a ask) (out answer) {
	if a.as == "" {
		a.as = "clients/curl"
	}
	if a.method == "" {
		a.method = "GET"
	}
	req, err := http.NewRequest(a.method, "http://"+m.front(a.as, a.to)+a.path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Host = a.host
	if a.host == "" {
		req.Host = "web.shop.svc.cluster.local"
	}
	for i := 0; i < len(a.headers); i += 2 {
		req.Header.Add(a.headers[i], a.headers[i+1])
	}
	client := m.http
	if a.h2 {
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		tr := &http.Transport{Protocols: &p}
		defer tr.CloseIdleConnections()
		c := *m.http
		c.Transport, client = tr, &c
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	out = answer{status: res.StatusCode, headers: res.Header, body: string(b)}
	if json.Unmarshal(b, &out.seen) == nil {
		out.app = out.seen.App
	}
	return out
}

// oneOf reports whether s is one of the words.
func oneOf(s, words string) bool { return slices.Contains(strings.Fields(words), s) }
