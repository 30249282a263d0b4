package kube

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

func manifest(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// decide asks the compiled authorization stages of a destination.
func decide(t *testing.T, m *config.Model, key string, r *attrs.Request) authz.Decision {
	t.Helper()
	s, _ := config.Compile(m, nil, config.Env{})
	c := s.Chain(key)
	if c == nil {
		t.Fatalf("no destination %s", key)
	}
	for _, st := range c.Stages {
		if st.Kind == config.StageAuthz {
			return st.Authz.Check(r)
		}
	}
	return authz.Decision{Allowed: true, Reason: authz.ReasonNoPolicy}
}

const cartKey = "cart.shop.svc.cluster.local:80"

func request(path string) *attrs.Request {
	return &attrs.Request{Method: "GET", Path: path, Authority: "cart", Conn: &attrs.Conn{
		Source: netip.MustParseAddrPort("10.244.9.9:1"), Dest: netip.MustParseAddrPort("10.96.0.2:80"), DestPort: 80,
		Peer: attrs.Principal{URI: "spiffe://cluster.local/ns/clients/sa/curl", TrustDomain: "cluster.local", Namespace: "clients", ServiceAccount: "curl"},
	}}
}

func allowPolicy(rules string) string {
	return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {targetRefs: [{group: '', kind: Service, name: cart}], rules: " + rules + "}"
}

func TestPolicyLastGood(t *testing.T) {
	good := allowPolicy("[{to: [{operation: {paths: [/ok]}}]}]")
	for name, bad := range map[string]string{
		"strict":   allowPolicy("[{to: [{operation: {pathz: [/evil]}}]}]"),
		"compiled": allowPolicy("[{to: [{operation: {paths: ['/a/{**}/{**}']}}]}]"), // a template that no proxy takes
	} {
		t.Run(name, func(t *testing.T) {
			base := manifest(t, "testdata/base.yaml")
			// Without a last good version it denies.
			m := NewBuilder(Options{}).Build(store(t, base, bad))
			if d := decide(t, m, cartKey, request("/ok")); d.Allowed || d.Reason != authz.ReasonPolicyInvalid {
				t.Errorf("an invalid policy decides %+v", d)
			}
			if !hasProblem(m, "deny every request") {
				t.Errorf("problems %v", m.Problems)
			}
			// With one, that one serves, again and again.
			s := store(t, base, good)
			b := NewBuilder(Options{})
			b.Build(s)
			put(t, s, bad)
			for range 2 {
				m = b.Build(s)
				if d := decide(t, m, cartKey, request("/ok")); !d.Allowed {
					t.Errorf("the last good version is gone: %+v", d)
				}
				if d := decide(t, m, cartKey, request("/evil")); d.Allowed {
					t.Error("the bad version serves")
				}
				if !hasProblem(m, "last good version serves") {
					t.Errorf("problems %v", m.Problems)
				}
			}
			// Deleted means gone.
			s.Delete(Key{groupSecurity, "AuthorizationPolicy", "shop", "p"})
			if d := decide(t, b.Build(s), cartKey, request("/evil")); !d.Allowed {
				t.Error("a deleted policy still decides")
			}
		})
	}
}

// A policy whose targets cannot be read closes its namespace.
func TestUnreadableTargets(t *testing.T) {
	bad := "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {targetref: {kind: Service, name: cart}, action: DENY, rules: [{}]}"
	m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), bad))
	if d := decide(t, m, cartKey, request("/")); d.Allowed {
		t.Error("open")
	}
}

func TestRouteLastGood(t *testing.T) {
	route := func(path, extra string) string {
		return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{matches: [{path: {value: " + path + "}}], " + extra + "backendRefs: [{name: cart, port: 80}]}]}"
	}
	s := store(t, manifest(t, "testdata/base.yaml"), route("/a", ""))
	b := NewBuilder(Options{})
	b.Build(s)
	put(t, s, route("/b", "nope: 1, "))
	m := b.Build(s)
	for _, d := range m.Destinations {
		if d.Key == cartKey && (len(d.Routes) != 1 || d.Routes[0].Matches[0].Path.Value != "/a" || d.Routes[0].Broken != "") {
			t.Errorf("routes %+v", d.Routes)
		}
	}
}

func hasProblem(m *config.Model, part string) bool {
	for _, p := range m.Problems {
		if strings.Contains(p.Message, part) {
			return true
		}
	}
	return false
}

func TestWhichGateway(t *testing.T) {
	base := manifest(t, "testdata/base.yaml")
	second := "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: other, namespace: shop}\nspec: {gatewayClassName: istio-waypoint}"
	if m := NewBuilder(Options{}).Build(store(t, base, second)); len(m.Destinations) != 0 || !hasProblem(m, "several waypoint Gateways") {
		t.Error("two Gateways and no choice serve something")
	}
	if m := NewBuilder(Options{Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}}).Build(store(t, base, second)); len(m.Destinations) != 3 {
		t.Errorf("%d destinations, want 3", len(m.Destinations))
	}
	if m := NewBuilder(Options{Waypoint: config.Owner{Namespace: "shop", Name: "nosuch"}}).Build(store(t, base)); len(m.Destinations) != 0 || !hasProblem(m, "does not exist") {
		t.Error("a missing Gateway serves something")
	}
}

func TestWaypointFor(t *testing.T) {
	base := manifest(t, "testdata/base.yaml")
	for value, want := range map[string][2]int{"service": {3, 0}, "workload": {0, 2}, "all": {3, 2}, "none": {0, 0}, "strange": {0, 0}} {
		for _, onClass := range []bool{false, true} {
			over := "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: " + value + "}}\nspec: {gatewayClassName: istio-waypoint}"
			if onClass {
				over = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: istio-waypoint, labels: {istio.io/waypoint-for: " + value + "}}\nspec: {controllerName: istio.io/mesh-controller}"
			}
			m := NewBuilder(Options{}).Build(store(t, base, over))
			var got [2]int
			for _, d := range m.Destinations {
				if d.Workload {
					got[1]++
				} else {
					got[0]++
				}
			}
			if got != want {
				t.Errorf("waypoint-for %s (class %v): %d services and %d workloads, want %v", value, onClass, got[0], got[1], want)
			}
		}
	}
}

func TestCaptured(t *testing.T) {
	pod := func(meta, spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shop" + meta + "}\nspec: {" + spec + "}\nstatus: {podIP: 10.244.3.3}"
	}
	for _, tc := range []struct {
		name, manifest string
		want           bool
	}{
		{"namespace", pod("", ""), true},
		{"opt out", pod(", labels: {istio.io/dataplane-mode: none}", ""), false},
		{"host network", pod(", annotations: {ambient.istio.io/redirection: enabled}", "hostNetwork: true"), false},
		{"sidecar", pod(", annotations: {sidecar.istio.io/status: x}", ""), false},
		{"sidecar with tunnel", pod(", labels: {networking.istio.io/tunnel: http}, annotations: {sidecar.istio.io/status: x}", ""), true},
		{"a marked namespace", pod("", "") + "\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: other, namespace: shop, annotations: {ambient.istio.io/redirection: enabled}}", false},
	} {
		m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), tc.manifest))
		for _, w := range m.Workloads {
			if w.Name == "x" && w.Tunnel != tc.want {
				t.Errorf("%s: tunnel %v, want %v", tc.name, w.Tunnel, tc.want)
			}
		}
	}
}

func TestTrafficDistribution(t *testing.T) {
	base := strings.Replace(manifest(t, "testdata/base.yaml"), "    clusterIP: 10.96.0.2\n", "    clusterIP: 10.96.0.2\n    trafficDistribution: PreferClose\n", 1)
	o := Options{}
	o.Locality.Region, o.Locality.Zone = "r1", "z1"
	m := NewBuilder(o).Build(store(t, base))
	es := m.Backends["cart.shop.svc.cluster.local|80"].Endpoints
	if es[0].Priority != 0 || es[1].Priority != 1 {
		t.Errorf("priorities %d, %d", es[0].Priority, es[1].Priority)
	}
}

func TestIncrementalBuild(t *testing.T) {
	s := store(t, manifest(t, "testdata/base.yaml"), manifest(t, "testdata/routes.in.yaml"), manifest(t, "testdata/authz.in.yaml"))
	b := NewBuilder(Options{})
	m := b.Build(s)
	// The same text, and an endpoint that goes.
	put(t, s, manifest(t, "testdata/routes.in.yaml"))
	put(t, s, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: cart-v2-a, namespace: shop, labels: {kubernetes.io/service-name: cart-v2}}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints: []")
	n := b.Build(s)
	for i, d := range m.Destinations {
		if n.Destinations[i] != d {
			t.Errorf("%s was replaced", d.Key)
		}
	}
	for key, x := range m.Backends {
		if changed := n.Backends[key] != x; changed != (key == "cart-v2.shop.svc.cluster.local|80") {
			t.Errorf("backend %s changed: %v", key, changed)
		}
	}
	for i, w := range m.Workloads {
		if n.Workloads[i] != w {
			t.Errorf("workload %s was replaced", w.UID)
		}
	}
}

// The inputs that a real istiod was given load as well.
func TestSharedInputs(t *testing.T) {
	const from = "../istiod/testdata/"
	dirs, _ := filepath.Glob(from + "*/config.yaml")
	if len(dirs) < 10 {
		t.Fatalf("%d inputs", len(dirs))
	}
	for _, c := range dirs {
		dir := t.TempDir()
		for _, f := range []string{from + "base.yaml", from + "services.yaml", c} {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), []byte(manifest(t, f)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		objs, err := LoadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		m := NewBuilder(Options{}).Build(objs)
		if len(m.Destinations) < 19 {
			t.Errorf("%s: %d destinations", c, len(m.Destinations))
		}
		for _, p := range m.Problems {
			if p.Reason == "Invalid" || p.Reason == "UnknownKind" || p.Reason == "Unreadable" {
				t.Errorf("%s: %s", c, ProblemLine(p))
			}
		}
	}
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ns := func(n string) string { return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + n + "}\n" }
	write("a.yaml", ns("a"))
	write("sub/b.yml", ns("b"))
	write("c.json", `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c"}}`)
	write("notes.txt", "kind: [")
	write("..data/x.yaml", ns("x"))
	d := NewDir(dir)
	if changed, err := d.Load(); !changed || err != nil || d.Objects().Len() != 3 {
		t.Fatal(changed, err, d.Objects().Len())
	}
	if changed, err := d.Load(); changed || err != nil {
		t.Error("nothing changed", err)
	}
	// A change counts when it is seen twice; a broken file keeps what it had.
	write("a.yaml", ns("a")+"---\nkind: [")
	write("d.yaml", ns("d")+"---\n"+ns("b"))
	if changed, _ := d.Settled(); changed {
		t.Error("applied at first sight")
	}
	changed, err := d.Settled()
	if !changed || err == nil || d.Objects().Get(Key{"", "Namespace", "", "a"}) == nil || d.Objects().Get(Key{"", "Namespace", "", "d"}) == nil {
		t.Error(changed, err)
	}
	var text string
	for _, p := range d.Objects().Problems() {
		text += ProblemLine(p) + "\n"
	}
	if !strings.Contains(text, "a.yaml:5: ") || !strings.Contains(text, "last good version serves") || !strings.Contains(text, "stands elsewhere already (d.yaml:5)") {
		t.Error(text)
	}
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if changed, err := d.Load(); !changed || err != nil || d.Objects().Get(Key{"", "Namespace", "", "a"}) != nil {
		t.Error("a removed file still serves", err)
	}
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("kind: [")
	if err := Watch(t.Context(), dir, WatchOptions{}, func(*Objects) { t.Error("applied") }); err == nil {
		t.Error("starts with an unreadable file")
	}
	write("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
	ctx, cancel := context.WithCancel(t.Context())
	ticks, applied, done := make(chan time.Time), make(chan int, 10), make(chan error)
	go func() {
		done <- Watch(ctx, dir, WatchOptions{Ticks: ticks}, func(o *Objects) { applied <- o.Len() })
	}()
	if n := <-applied; n != 1 {
		t.Error(n)
	}
	ticks <- time.Time{} // nothing new
	write("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n")
	ticks <- time.Time{}
	ticks <- time.Time{}
	if n := <-applied; n != 2 {
		t.Error(n)
	}
	cancel()
	if err := <-done; err != nil || len(applied) != 0 {
		t.Error(err, len(applied))
	}
}

func manyServices(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
{"apiVersion":"v1","kind":"Service","metadata":{"name":"s%[1]d","namespace":"shop"},"spec":{"clusterIP":"10.%[2]d.%[3]d.%[4]d","ports":[{"name":"http","port":80,"targetPort":8080}]}}
---
{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s%[1]d","namespace":"shop","labels":{"kubernetes.io/service-name":"s%[1]d"}},"addressType":"IPv4","ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":["11.%[2]d.%[3]d.%[4]d"]},{"addresses":["12.%[2]d.%[3]d.%[4]d"]}]}
`, i, i>>16, i>>8&255, i&255)
	}
	return b.String()
}

func BenchmarkBuild10k(b *testing.B) {
	s := store(b, manifest(b, "testdata/base.yaml"), manyServices(10000))
	bl := NewBuilder(Options{})
	bl.Build(s)
	slice := func(i int) string {
		return fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s5","namespace":"shop","labels":{"kubernetes.io/service-name":"s5"}},"addressType":"IPv4","ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":["11.9.9.%d"]}]}`, i&127)
	}
	for i := 0; b.Loop(); i++ {
		put(b, s, slice(i))
		bl.Build(s)
	}
}

func TestSettings(t *testing.T) {
	base := strings.Replace(manifest(t, "testdata/base.yaml"), "metadata: {name: waypoint, namespace: shop}",
		"metadata: {name: waypoint, namespace: shop, annotations: {"+annXFCC+": 'true'}}", 1)
	m := NewBuilder(Options{Mesh: config.Mesh{Normalization: config.NormalizeMergeSlashes}}).Build(store(t, base))
	for _, d := range m.Destinations {
		if !d.Settings.XFCC || d.Settings.Normalization != config.NormalizeMergeSlashes {
			t.Errorf("%s: %+v", d.Key, d.Settings)
		}
	}
}
