package feed

import (
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// scale drives a store, real gRPC over TLS on loopback, the client, the builder and
// the compiler in one process, and measures the first sync and changes.
func scale(t testing.TB, m *mesh, changes int) (sync, p50, p99 time.Duration) {
	r := newRig(t, Options{})
	filled := time.Now()
	m.fill(t, r.store)
	t.Logf("%d objects put in %v, %d MB as they are sent", r.store.Len(), time.Since(filled).Round(time.Millisecond), r.server.Stats().Bytes>>20)
	start := time.Now()
	w := r.waypoint(t, "shop/waypoint", "shop/waypoint")
	model := w.until(t, "the first sync", func(x *config.Model) bool { return len(x.Destinations) == m.services })
	sync = time.Since(start)
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
		w.until(t, "an endpoint unready", func(x *config.Model) bool {
			return x.Destinations[0] != nil && unready(x, s, m)
		})
		took = append(took, time.Since(at))
		m.slice(t, r.store, s, -1)
		w.until(t, "an endpoint ready", func(x *config.Model) bool { return !unready(x, s, m) })
	}
	slices.Sort(took)
	w.mu.Lock()
	built := slices.Clone(w.took)
	w.mu.Unlock()
	t.Logf("first build %v", built[0])
	slices.Sort(built)
	t.Logf("builds: p50 %v p99 %v", built[len(built)/2], built[max(0, len(built)*99/100-1)])
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	st := r.server.Stats()
	p50, p99 = took[len(took)/2], took[len(took)*99/100]
	t.Logf("sync %v, change p50 %v p99 %v; %d MB heap of server and waypoint, %d concerns, %d topics", sync.Round(time.Millisecond), p50, p99, ms.HeapAlloc>>20, st.Concerns, st.Topics)
	runtime.KeepAlive(w)
	return sync, p50, p99
}

func unready(x *config.Model, s int, m *mesh) bool {
	b := x.Backends[name(s)]
	return b != nil && len(b.Endpoints) == m.pods && b.Endpoints[0].Health == balance.Unhealthy
}

func name(s int) string { return "s" + strconv.Itoa(s) + ".shop.svc.cluster.local|80" }

func TestScale(t *testing.T) {
	m := &mesh{services: 10000, routes: 5000, pods: 5}
	scale(t, m, 20)
}
