package hbone

import (
	"testing"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
)

// Never past the peer's limit nor ours; fewest streams first; more connections
// when the threshold is reached.
func TestStreamLimits(t *testing.T) {
	m := newMesh(t)
	for _, tt := range []struct {
		name             string
		peer             uint32
		cfg              PoolConfig
		tunnels          int
		minConns, maxCon int
	}{
		{"peer's limit", 3, PoolConfig{}, 9, 3, 4},
		{"our limit", 200, PoolConfig{MaxStreams: 4, SpreadConns: 1}, 12, 3, 3},
		{"one is enough", 200, PoolConfig{}, 20, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, addr := m.serve(t, ServerConfig{H2: h2.Config{MaxConcurrentStreams: tt.peer}}, echo)
			p := m.pool(t, tt.cfg)
			for range tt.tunnels {
				defer mustDial(t, p, target(addr)).Close()
			}
			n := 0
			for ci := range s.Conns() {
				n++
				if ci.Tunnels > int(tt.peer) || tt.cfg.MaxStreams > 0 && ci.Tunnels > tt.cfg.MaxStreams {
					t.Errorf("%d tunnels on one", ci.Tunnels)
				}
			}
			if n < tt.minConns || n > tt.maxCon {
				t.Errorf("%d connections, want %d to %d", n, tt.minConns, tt.maxCon)
			}
		})
	}
}

func TestSpread(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{SpreadStreams: 2, SpreadConns: 3})
	open := func(n int) {
		for range n {
			t.Cleanup(func() func() { tun := mustDial(t, p, target(addr)); return func() { tun.Close() } }())
		}
	}
	open(3)
	eventually(t, "a second connection", func() bool { return p.Stats().Conns == 2 })
	open(3) // fewest first: 3 and 3
	eventually(t, "a third", func() bool { return p.Stats().Conns == 3 })
	open(6)
	for ci := range s.Conns() {
		if ci.Tunnels < 3 || ci.Tunnels > 5 {
			t.Errorf("%d tunnels on one of three", ci.Tunnels)
		}
	}
	if p.Stats().Conns != 3 {
		t.Errorf("%+v", p.Stats())
	}
}

// At the cap of connections a Dial waits for a slot.
func TestWaitForSlot(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{MaxStreams: 1, MaxConns: 1})
	first := mustDial(t, p, target(addr))
	got := make(chan error, 1)
	go func() {
		tun, err := p.Dial(ctxT(t), target(addr), nil)
		if err == nil {
			tun.Close()
		}
		got <- err
	}()
	eventually(t, "the second waits", func() bool { return p.Stats().Waiting == 1 })
	first.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// A connection that carries bulk takes no new tunnels as long as it does.
func TestBulkSeparation(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{BulkBytes: 256 << 10})
	bulk := mustDial(t, p, target(addr))
	defer bulk.Close()
	msg := string(make([]byte, 64<<10))
	for range 4 {
		roundTrip(t, bulk, msg)
	}
	p.mu.Lock()
	for c := range p.all {
		c.sampled = time.Now().Add(-sampleEvery) // a look is due
	}
	p.mu.Unlock()
	small := mustDial(t, p, target(addr))
	defer small.Close()
	if st := p.Stats(); st.Conns != 2 {
		t.Fatalf("the small tunnel joined the bulk: %+v", st)
	}
	p.mu.Lock()
	for c := range p.all {
		c.sampled = time.Now().Add(-sampleEvery)
	}
	p.mu.Unlock()
	for range 3 {
		defer mustDial(t, p, target(addr)).Close()
	}
	if st := p.Stats(); st.Conns != 2 {
		t.Errorf("bulk over, but a new connection: %+v", st)
	}
	for ci := range s.Conns() {
		if ci.Tunnels < 2 {
			t.Errorf("%d tunnels: bulk is over, but nobody came back", ci.Tunnels)
		}
	}
}

// A slot is given back once, however a tunnel ends.
func TestSlots(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{})
	for _, end := range []func(*Tunnel){
		func(t *Tunnel) { t.Close() },
		func(t *Tunnel) { t.Reset() },
		func(t *Tunnel) { t.Reset(); t.Close(); t.Close() },
		func(t *Tunnel) { t.Close(); t.Reset() },
	} {
		tun := mustDial(t, p, target(addr))
		if got := p.Stats().Tunnels; got != 1 {
			t.Fatalf("%d slots", got)
		}
		end(tun)
		if got := p.Stats().Tunnels; got != 0 {
			t.Fatalf("%d slots left", got)
		}
		if _, err := tun.Write([]byte("x")); err == nil {
			t.Error("wrote to an ended tunnel")
		}
	}
}
