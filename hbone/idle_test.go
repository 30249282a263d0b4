package hbone

import (
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
)

// maxIdleTunnel is what an idle, accepted tunnel may cost, its share of the
// connection included.
const maxIdleTunnel = 8 << 10

// idleTunnels holds tunnels open, perConn to a connection, checks that each
// works, and returns the bytes that one costs: heap and stacks of both ends.
func idleTunnels(t testing.TB, conns, perConn int) float64 {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, handlerFunc(func(tun *Tunnel) {
		if tun.Accept() != nil {
			return
		}
		b := make([]byte, 1)
		for {
			if _, err := tun.Read(b); err != nil {
				return
			}
			if _, err := tun.Write(b); err != nil {
				return
			}
		}
	}))
	p := m.pool(t, PoolConfig{MaxStreams: perConn, SpreadStreams: perConn, MaxConns: conns})
	roundTripOnce(t, p, target(addr))
	before := footprint()
	n := conns * perConn
	tunnels := make([]*Tunnel, n)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				tun, err := p.Dial(ctxT(t), target(addr), nil)
				if err != nil {
					t.Error(err)
					return
				}
				tunnels[i] = tun
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	each := float64(footprint()-before) / float64(n)
	if st := s.Stats(); st.Open != n {
		t.Errorf("%d tunnels open, want %d", st.Open, n)
	}
	live := 0
	for range s.Conns() {
		live++
	}
	if live != conns {
		t.Errorf("%d connections, want %d", live, conns)
	}
	for _, tun := range tunnels {
		roundTrip(t, tun, "x")
	}
	for _, tun := range tunnels {
		tun.Close()
	}
	return each
}

// footprint is the memory in use after a thorough collection.
func footprint() int64 {
	debug.FreeOSMemory()
	runtime.GC() // a second one shrinks the stacks and empties the pools
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return int64(ms.HeapAlloc + ms.StackInuse)
}

func TestIdleTunnelIsCheap(t *testing.T) {
	each := idleTunnels(t, 40, 50)
	t.Logf("an idle tunnel costs %.0f bytes, both ends together", each)
	if each > maxIdleTunnel && !raceEnabled {
		t.Errorf("an idle tunnel costs %.0f bytes, want at most %d", each, maxIdleTunnel)
	}
}

// BenchmarkIdleTunnels is the soak of the design's size: 15,000 tunnels over 300
// connections, all of them alive (make soak).
func BenchmarkIdleTunnels(b *testing.B) {
	for range b.N {
		each := idleTunnels(b, 300, 50)
		b.ReportMetric(each, "B/tunnel")
		if each > maxIdleTunnel {
			b.Errorf("an idle tunnel costs %.0f bytes, want at most %d", each, maxIdleTunnel)
		}
	}
}
