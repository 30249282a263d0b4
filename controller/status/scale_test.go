package status

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/client-go/util/workqueue"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/feed"
	"waypoint.dev/waypoint/controller/watch"
)

// big is a mesh whose services and routes are spread over Gateways, each with a
// namespace of its own.
type big struct {
	gateways, services, routes int

	store   *feed.Store
	engine  *Engine
	queue   workqueue.TypedRateLimitingInterface[kube.Key]
	version int
}

// start puts everything and lets the engine judge it once.
func (m *big) start(t testing.TB) (first time.Duration) {
	m.store = feed.NewStore(feed.Mesh{})
	var gws []kube.Key
	for g := range m.gateways {
		gws = append(gws, kube.Key{Group: groupGateway, Kind: "Gateway", Namespace: fmt.Sprint("n", g), Name: "waypoint"})
	}
	m.engine = New(Options{Store: m.store, ControllerName: us, Gateways: func() []kube.Key { return gws }})
	m.engine.judges, m.engine.speakers = map[kube.Key]*judge{}, map[kube.Key][]*judge{}
	m.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[kube.Key]())
	t.Cleanup(func() { m.engine.dismiss(); m.queue.ShutDown() })
	m.put(t, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GatewayClass","metadata":{"name":"waypoint"},"spec":{"controllerName":"waypoint.dev/gateway-controller"}}`)
	for g := range m.gateways {
		m.put(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n%d","labels":{"istio.io/use-waypoint":"waypoint"}}}`, g)
		m.put(t, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"waypoint","namespace":"n%d"},"spec":{"gatewayClassName":"waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE"}]}}`, g)
	}
	for i := range m.services {
		m.service(t, i, 8080)
	}
	for i := range m.routes {
		m.route(t, i, i+m.gateways)
	}
	m.store.SetSynced()
	m.engine.Synced()
	return m.pass()
}

func (m *big) put(t testing.TB, json string, args ...any) {
	t.Helper()
	raw := fmt.Appendf(nil, json, args...)
	k, err := kube.Decode(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	m.version++
	fed{m.engine, m.store}.Put(&watch.Item{Key: k.Key, Version: fmt.Sprint(m.version), JSON: raw}, true)
}

func (m *big) service(t testing.TB, i, target int) {
	m.put(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s%d","namespace":"n%d"},"spec":{"clusterIP":"10.%d.%d.%d","ports":[{"name":"http","port":80,"targetPort":%d}]}}`,
		i, i%m.gateways, 96+i>>16, i>>8&255, i&255, target)
}

// route sends to another service of its namespace.
func (m *big) route(t testing.TB, i, to int) {
	m.put(t, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r%d","namespace":"n%d","generation":%d},
		"spec":{"parentRefs":[{"group":"","kind":"Service","name":"s%d","port":80}],"rules":[{"backendRefs":[{"name":"s%d","port":80,"weight":1}]}]}}`,
		i, i%m.gateways, m.version+1, i, to%m.services)
}

// pass judges and returns how long it took.
func (m *big) pass() time.Duration {
	began := time.Now()
	m.engine.pass(m.queue)
	return time.Since(began)
}

// queued empties the queue of what is to be written.
func (m *big) queued() (n int) {
	for ; m.queue.Len() > 0; n++ {
		k, _ := m.queue.Get()
		m.queue.Done(k)
	}
	return n
}

// change is one of a kind, the n-th.
type change struct {
	kind string
	put  func(t testing.TB, m *big, n int)
	says int // statuses that it changes
}

var scaleChanges = []change{
	{"HTTPRoute", func(t testing.TB, m *big, n int) { m.route(t, n%m.routes, n%m.routes+m.gateways*(2+n)) }, 1},
	{"Service", func(t testing.TB, m *big, n int) { m.service(t, n%m.services, 8081+n) }, 0},
	{"AuthorizationPolicy", func(t testing.TB, m *big, n int) {
		m.put(t, `{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"n0","generation":%d},"spec":{"targetRefs":[{"group":"","kind":"Service","name":"s0"}],"rules":[{"to":[{"operation":{"paths":["/%d"]}}]}]}}`, n+1, n)
	}, 1},
	{"Namespace", func(t testing.TB, m *big, n int) {
		m.put(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"new%d"}}`, n)
	}, 0},
}

// The size that must be served, by one waypoint or by a hundred.
func BenchmarkJudge(b *testing.B) {
	for _, gateways := range []int{1, 100} {
		m := &big{gateways: gateways, services: 10000, routes: 5000}
		b.Run(fmt.Sprintf("gateways=%d", gateways), func(b *testing.B) {
			first := m.start(b)
			m.queued()
			n := 0
			for _, c := range scaleChanges {
				b.Run(c.kind, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						b.StopTimer()
						n++
						c.put(b, m, n)
						b.StartTimer()
						m.pass()
					}
					b.ReportMetric(float64(first.Milliseconds()), "ms/first")
				})
			}
		})
	}
}

// A change is judged by the Gateways that it concerns, and by no others.
func TestChangeIsJudgedWhereItConcerns(t *testing.T) {
	m := &big{gateways: 20, services: 200, routes: 100}
	m.start(t)
	if n := m.queued(); n != m.routes {
		t.Fatalf("%d statuses at first, want %d", n, m.routes)
	}
	for _, c := range scaleChanges {
		for n := range 3 {
			before := m.engine.Stats().Builds
			c.put(t, m, n)
			m.pass()
			if n := m.engine.Stats().Builds - before; n != 1 && c.kind != "Namespace" {
				t.Errorf("%s: %d Gateways are built", c.kind, n)
			}
			if got := m.queued(); got != c.says {
				t.Errorf("%s: %d statuses to write, want %d", c.kind, got, c.says)
			}
		}
	}
}
