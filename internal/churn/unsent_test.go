package churn

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/testmesh"
)

// What the judge rests on: of a pod that dies under load, the app has seen exactly
// the requests of which a tunnel does not say that they never left. So neither loses
// a pod what it was given, nor is a request sent twice that the tunnel calls unsent.
func TestUnsentIsUnseen(t *testing.T) {
	const tunnels, served = 20, 60
	m := newWorld(t)
	ip := netip.MustParseAddr("127.0.42.1")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	src := m.source("shop", "waypoint")
	lost := 0
	for round := range 12 {
		p, err := startPod(&m.network, ip, m.server, &m.ledger)
		if err != nil {
			t.Fatal(err)
		}
		pool := hbone.NewPool(hbone.PoolConfig{TLS: src, DialTCP: m.network.dial})
		var (
			wg     sync.WaitGroup
			done   atomic.Int64
			enough = make(chan struct{})
			lasts  [tunnels]last
		)
		for i := range lasts {
			tun, err := pool.Dial(ctx, hbone.Target{Addr: netip.AddrPortFrom(ip, testmesh.HBONEPort), Authority: ip.String() + ":8080"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer tun.Close()
				lasts[i] = ask(tun, fmt.Sprintf("unsent-%d-%d", round, i), func() {
					if done.Add(1) == served {
						close(enough)
					}
				})
			})
		}
		<-enough
		if err := p.die(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		pool.Close()
		for _, l := range lasts {
			seen := m.ledger.count(l.id)
			if l.left != 0 && l.left != l.whole || l.left > 0 && seen != 1 || l.left == 0 && seen != 0 {
				t.Errorf("%s was seen %d times, and %d of its %d bytes left: %v", l.id, seen, l.left, l.whole, l.err)
			}
			if l.left == 0 {
				lost++
			}
		}
	}
	t.Logf("%d requests never left", lost)
}

// last is the request that a tunnel broke with.
type last struct {
	id          string
	whole, left int64 // bytes
	err         error
}

// ask sends requests, one after the other, until the tunnel breaks.
func ask(tun *hbone.Tunnel, name string, answered func()) last {
	in := bufio.NewReader(tun)
	for n := 0; ; n++ {
		id := fmt.Sprintf("%s-%d", name, n)
		req := "POST / HTTP/1.1\r\nHost: shop\r\nX-Request-Id: " + id + "\r\nContent-Length: 0\r\n\r\n"
		took, err := tun.Write([]byte(req))
		if err == nil {
			err = answer(in)
		}
		if err != nil {
			return last{id, int64(len(req)), int64(took) - tun.Unsent(), err}
		}
		answered()
	}
}

// answer reads one answer away.
func answer(in *bufio.Reader) error {
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
