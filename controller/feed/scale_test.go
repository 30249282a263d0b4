package feed

import (
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
	sync, cpu, p50, p99 time.Duration
	heap                uint64
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
	var took []time.Duration
	for i := range changes {
		s := i * 7 % m.services
		at := time.Now()
		m.slice(t, r.store, s, 0)
		w.until(t, "an endpoint unready", func(x *config.Model) bool { return unready(x, s, m) })
		took = append(took, time.Since(at))
		m.slice(t, r.store, s, -1)
		w.until(t, "an endpoint ready", func(x *config.Model) bool { return !unready(x, s, m) })
	}
	slices.Sort(took)
	out.p50, out.p99 = took[len(took)/2], took[len(took)*99/100]
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	out.heap = ms.HeapAlloc
	st := r.server.Stats()
	t.Logf("sync %v with %v of processor time, first build and compile %v; change p50 %v p99 %v; %d MB heap of server and waypoint, %d concerns, %d entries of the index",
		out.sync.Round(time.Millisecond), out.cpu.Round(time.Millisecond), w.first(), out.p50, out.p99, out.heap>>20, st.Concerns, st.Topics)
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

func unready(x *config.Model, s int, m *mesh) bool {
	b := x.Backends[name(s)]
	return b != nil && len(b.Endpoints) == m.pods && b.Endpoints[0].Health == balance.Unhealthy
}

func name(s int) string { return "s" + strconv.Itoa(s) + ".shop.svc.cluster.local|80" }

// The size that must be served: 10,000 services, 5,000 routes, 50,000 endpoints.
// The first sync is to take 10 s on two cores and a change 200 ms (p99).
func BenchmarkScale(b *testing.B) {
	for b.Loop() {
		r := scale(b, &mesh{services: 10000, routes: 5000, pods: 5}, 100)
		b.ReportMetric(r.sync.Seconds(), "s/sync")
		b.ReportMetric(r.cpu.Seconds(), "cpu-s/sync")
		b.ReportMetric(float64(r.p50.Microseconds())/1000, "ms/change-p50")
		b.ReportMetric(float64(r.p99.Microseconds())/1000, "ms/change-p99")
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
	if limit := 200 * time.Millisecond * slack; r.p50 > limit {
		t.Errorf("a change took %v, more than %v", r.p50, limit)
	}
	if limit := uint64(200 << 20); r.heap > limit {
		t.Errorf("server and waypoint hold %d MB, more than %d", r.heap>>20, limit>>20)
	}
}
