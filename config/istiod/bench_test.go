package istiod

import (
	"runtime"
	"testing"

	"waypoint.dev/waypoint/config"
)

// large is the mesh that a waypoint has to take: 10,000 services, 100,000 endpoints.
func large(b *testing.B) (*mesh, map[string][]Resource) {
	m := &mesh{services: 10_000, endpoints: 10, tags: 30}
	return m, m.resources(b)
}

// BenchmarkFirstSync takes everything, from bytes to a snapshot that serves.
func BenchmarkFirstSync(b *testing.B) {
	_, res := large(b)
	b.ReportMetric(float64(len(res[ListenerType][0].Body))/1e6, "MB-listener")
	for b.Loop() {
		w := NewWorld(testOptions())
		apply(b, w, res)
		config.Compile(w.Model(), nil, config.Env{})
	}
}

// BenchmarkFirstSyncMemory reports what stays in use.
func BenchmarkFirstSyncMemory(b *testing.B) {
	_, res := large(b)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		w := NewWorld(testOptions())
		apply(b, w, res)
		model := w.Model()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-world")
		s, _ := config.Compile(model, nil, config.Env{})
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-all")
		runtime.KeepAlive(s)
		runtime.KeepAlive(w)
	}
}

// BenchmarkEndpointChange takes a change of one service's endpoints.
func BenchmarkEndpointChange(b *testing.B) {
	m, res := large(b)
	w := NewWorld(testOptions())
	apply(b, w, res)
	snap, _ := config.Compile(w.Model(), nil, config.Env{})
	var change [2][]Resource
	for i := range change {
		change[i] = []Resource{m.assignment(b, 77, 9+i)}
	}
	b.Run("model", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w.Apply(EndpointsType, change[i&1], nil)
			w.Model()
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			w.Apply(EndpointsType, change[i&1], nil)
			snap, _ = config.Compile(w.Model(), snap, config.Env{})
		}
	})
}

// BenchmarkListenerAgain takes main_internal with one changed chain.
func BenchmarkListenerAgain(b *testing.B) {
	m, res := large(b)
	w := NewWorld(testOptions())
	apply(b, w, res)
	w.Model()
	n := *m
	n.routes = map[int]string{5: `{"match":{"prefix":"/"},"direct_response":{"status":200}}`}
	change := [2][]Resource{{n.listener(b)}, res[ListenerType]}
	for i := 0; b.Loop(); i++ {
		w.Apply(ListenerType, change[i&1], nil)
		w.Model()
	}
}
