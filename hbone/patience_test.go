package hbone

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A dial has as long as those who wait for it, ten seconds if they do not say; what
// the pool was told bounds them all.
func TestDialHasItsCallersTime(t *testing.T) {
	const none = -1
	for _, tt := range []struct {
		name    string
		pool    time.Duration
		callers []time.Duration // what they have, and after what they heard
		heard   []time.Duration
		tcp     time.Duration // when the dial of TCP was given up
	}{
		{"no deadline", 0, []time.Duration{none}, []time.Duration{10 * time.Second}, 10 * time.Second},
		{"less", 0, []time.Duration{3 * time.Second}, []time.Duration{3 * time.Second}, 10 * time.Second},
		{"more", 0, []time.Duration{30 * time.Second}, []time.Duration{30 * time.Second}, 30 * time.Second},
		{"several", 0, []time.Duration{3 * time.Second, 30 * time.Second, none, 20 * time.Second},
			[]time.Duration{3 * time.Second, 30 * time.Second, 10 * time.Second, 20 * time.Second}, 30 * time.Second},
		{"the pool's", 2 * time.Second, []time.Duration{30 * time.Second, time.Second}, []time.Duration{2 * time.Second, time.Second}, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var tcp atomic.Int64
				p := newMesh(t).pool(t, PoolConfig{ConnectTimeout: tt.pool, DialTCP: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
					defer func() { tcp.Store(int64(time.Since(start))) }()
					return swallow(ctx, a)
				}})
				var wg sync.WaitGroup
				for i, has := range tt.callers {
					wg.Go(func() {
						ctx, cancel := context.WithCancel(context.Background())
						if has != none {
							ctx, cancel = context.WithTimeout(context.Background(), has)
						}
						defer cancel()
						_, err := p.Dial(ctx, target(netip.MustParseAddrPort("10.0.0.1:15008")), nil)
						if d := time.Since(start); stageOf(t, err).Stage != StageTimeout || d != tt.heard[i] {
							t.Errorf("who has %v heard after %v: %v", has, d, err)
						}
					})
				}
				wg.Wait()
				time.Sleep(time.Minute)
				if got := time.Duration(tcp.Load()); got != tt.tcp {
					t.Errorf("the dial was given up after %v, want %v", got, tt.tcp)
				}
				if st := p.Stats(); st.Dials != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}
