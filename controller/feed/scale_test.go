package feed

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// result is what a run measured.
type result struct {
	sync, cpu time.Duration
	p50, p99  map[string]time.Duration // of a change, by its kind
	heap      uint64
}

// move is a change of one kind, the n-th, and what of the model shows that it is
// applied; nil: that anything was built.
type move struct {
	kind    string
	put     func(t testing.TB, m *mesh, s *Store, n int)
	applied func(x *config.Model, m *mesh, n int) bool
}

// of is the service that the n-th change is about.
func (m *mesh) of(n int) int { return n * 7 % m.services }

var moves = []move{
	{"EndpointSlice", func(t testing.TB, m *mesh, s *Store, n int) { m.slice(t, s, m.of(n/2), -(n % 2)) },
		func(x *config.Model, m *mesh, n int) bool {
			b := x.Backends[name(m.of(n/2))]
			return b != nil && len(b.Endpoints) == m.pods && (b.Endpoints[0].Health == balance.Unhealthy) == (n%2 == 0)
		}},
	{"Pod", func(t testing.TB, m *mesh, s *Store, n int) { m.podAs(t, s, m.of(n), 0, "sa"+strconv.Itoa(n)) },
		func(x *config.Model, m *mesh, n int) bool {
			w, _ := x.Backends[name(m.of(n))].Endpoints[0].Workload.(*config.Workload)
			return w != nil && w.ServiceAccount == "sa"+strconv.Itoa(n)
		}},
	{"HTTPRoute", func(t testing.TB, m *mesh, s *Store, n int) { m.route(t, s, n%m.routes, m.of(n)+2+n) },
		func(x *config.Model, m *mesh, n int) bool {
			d := destination(x, n%m.routes, 80)
			return d != nil && slices.Contains(d.Refs, name((m.of(n)+2+n)%m.services))
		}},
	{"Service", func(t testing.TB, m *mesh, s *Store, n int) { m.service(t, s, m.of(n), 9000+n) },
		func(x *config.Model, m *mesh, n int) bool { return destination(x, m.of(n), 9000+n) != nil }},
	{"AuthorizationPolicy", func(t testing.TB, m *mesh, s *Store, n int) {
		m.put(t, s, `{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"shop"},
			"spec":{"targetRefs":[{"group":"","kind":"Service","name":"s%d"}],"rules":[{"to":[{"operation":{"paths":["/%d"]}}]}]}}`, m.of(n), n)
	}, func(x *config.Model, m *mesh, n int) bool { return len(destination(x, m.of(n), 80).Stages) > 0 }},
	{"Namespace", func(t testing.TB, m *mesh, s *Store, n int) {
		m.put(t, s, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"new%d"}}`, n)
	}, nil},
	{"Node", func(t testing.TB, m *mesh, s *Store, n int) {
		m.put(t, s, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"new%d","labels":{"topology.kubernetes.io/zone":"z1"}}}`, n)
	}, nil},
}

// destination finds that of a service's port.
func destination(x *config.Model, service, port int) *config.Destination {
	key := fmt.Sprintf("s%d.shop.svc.cluster.local:%d", service, port)
	i := slices.IndexFunc(x.Destinations, func(d *config.Destination) bool { return d.Key == key })
	if i < 0 {
		return nil
	}
	return x.Destinations[i]
}

// scale drives a store, real gRPC over TLS on loopback, the client, the builder and
// the compiler in one process, and measures the first sync and changes.
func scale(t testing.TB, m *mesh, changes int) (out result) {
	r := newRig(t, Options{})
	filled := time.Now()
	m.fill(t, r.store)
	t.Logf("%d objects put in %v, %d MB as they are sent", r.store.Len(), time.Since(filled).Round(time.Millisecond), r.server.Stats().Bytes>>20)
	runtime.GC()
	start, cpu := time.Now(), processorTime(t)
	w := r.waypoint(t, "shop/waypoint", "shop/waypoint")
	model := w.until(t, "the first sync", func(x *config.Model) bool { return len(x.Destinations) == m.services })
	out.sync, out.cpu = time.Since(start), processorTime(t)-cpu
	n := 0
	for _, b := range model.Backends {
		n += len(b.Endpoints)
	}
	if n != m.services*m.pods {
		t.Fatalf("%d endpoints", n)
	}
	out.p50, out.p99 = map[string]time.Duration{}, map[string]time.Duration{}
	for _, c := range moves {
		var took []time.Duration
		before := processorTime(t)
		for n := range changes {
			built, at := w.builds(), time.Now()
			c.put(t, m, r.store, n)
			w.until(t, c.kind, func(x *config.Model) bool {
				if c.applied == nil {
					return w.built > built
				}
				return c.applied(x, m, n)
			})
			took = append(took, time.Since(at))
		}
		slices.Sort(took)
		out.p50[c.kind], out.p99[c.kind] = took[len(took)/2], took[len(took)*99/100]
		each := (processorTime(t) - before) / time.Duration(changes)
		t.Logf("%s: p50 %v p99 %v, processor time of one %v", c.kind, out.p50[c.kind].Round(10*time.Microsecond), out.p99[c.kind].Round(10*time.Microsecond), each.Round(10*time.Microsecond))
	}
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	out.heap = ms.HeapAlloc
	st := r.server.Stats()
	t.Logf("sync %v with %v of processor time, first build and compile %v; %d MB heap of server and waypoint, %d concerns, %d entries of the index",
		out.sync.Round(time.Millisecond), out.cpu.Round(time.Millisecond), w.first(), out.heap>>20, st.Concerns, st.Topics)
	return out
}

// processorTime is what this process used of all processors.
func processorTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func name(s int) string { return "s" + strconv.Itoa(s) + ".shop.svc.cluster.local|80" }

// The size that must be served: 10,000 services, 5,000 routes, 50,000 endpoints.
// The first sync is to take 10 s on two cores and a change 200 ms (p99).
func BenchmarkScale(b *testing.B) {
	for b.Loop() {
		r := scale(b, &mesh{services: 10000, routes: 5000, pods: 5}, 200)
		b.ReportMetric(r.sync.Seconds(), "s/sync")
		b.ReportMetric(r.cpu.Seconds(), "cpu-s/sync")
		for kind, d := range r.p99 {
			b.ReportMetric(float64(d.Microseconds())/1000, "ms/"+kind+"-p99")
		}
		b.ReportMetric(float64(r.heap>>20), "MB/heap")
	}
}

// A tenth of it, or less, within budgets that leave room for a busy machine: time of
// the processors for the sync, and the median for changes.
func TestScale(t *testing.T) {
	r := scale(t, &mesh{services: services, routes: services / 2, pods: 5}, 20)
	if limit := 2 * 10 * time.Second * services / 10000 * slack; r.cpu > limit {
		t.Errorf("the first sync took %v of processor time, more than %v", r.cpu, limit)
	}
	for kind, took := range r.p50 {
		if limit := 200 * time.Millisecond * slack; took > limit {
			t.Errorf("a change of a %s took %v, more than %v", kind, took, limit)
		}
	}
	if limit := uint64(200 << 20); r.heap > limit {
		t.Errorf("server and waypoint hold %d MB, more than %d", r.heap>>20, limit>>20)
	}
}
