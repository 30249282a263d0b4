package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Two waypoints are replaced one after the other under load, as a Deployment
// does it: first there is a new one, then the old one gets SIGTERM. The clients'
// node proxy sends new connections to those that are not ending, and leaves the
// others on GOAWAY.
func TestRollingRestartLosesNothing(t *testing.T) {
	r := newRig(t, "--drain-delay", "200ms", "--drain-timeout", "10s")
	another := func() *rig {
		n := &rig{t: t, ca: r.ca, dir: r.dir, config: r.config, exited: make(chan error, 1)}
		n.start("--drain-delay", "200ms", "--drain-timeout", "10s")
		return n
	}
	var live atomic.Pointer[[2]*rig]
	live.Store(&[2]*rig{r, another()})
	var turn atomic.Uint32
	front, err := r.client.Capture("127.0.0.1:0", func() netip.AddrPort { return live.Load()[turn.Add(1)%2].hbone }, "10.96.0.12:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { front.Close() })

	stop := make(chan struct{})
	var requests atomic.Int64
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			// The transport alone: http.Client would hide a loss by sending again.
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				method := [2]string{"GET", "POST"}[i%2]
				req, _ := http.NewRequest(method, fmt.Sprintf("http://%v/%d/%d", front.Addr(), worker, i), strings.NewReader("body"))
				res, err := tr.RoundTrip(req)
				if err != nil {
					t.Errorf("%s %d: %v", method, i, err)
					continue
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if requests.Add(1); res.StatusCode != 200 {
					t.Errorf("%s %d: %d", method, i, res.StatusCode)
				}
			}
		})
	}
	for i := range 2 {
		before := requests.Load()
		r.eventually("requests go on", func() bool { return requests.Load() > before+50 })
		next := *live.Load()
		old := next[i]
		next[i] = another()
		live.Store(&next)
		old.cmd.Process.Signal(syscall.SIGTERM)
		if err := old.wait(15 * time.Second); err != nil {
			t.Errorf("exit: %v\n%s", err, old.said())
		}
	}
	close(stop)
	wg.Wait()
	if n := requests.Load(); int(n) != r.app.Count() {
		t.Errorf("%d answers, the app saw %d requests", n, r.app.Count())
	}
	t.Logf("%d requests over two restarts", requests.Load())
}
