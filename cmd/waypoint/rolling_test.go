package main

import (
	"net/netip"
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
		n := &rig{t: t, ca: r.ca, dir: r.dir, config: r.config}
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

	asking := r.ask(front.Addr(), 4, "GET", "POST")
	for i := range 2 {
		asking.flow(t)
		next := *live.Load()
		old := next[i]
		next[i] = another()
		live.Store(&next)
		old.cmd.Process.Signal(syscall.SIGTERM)
		if err := old.wait(15 * time.Second); err != nil {
			t.Errorf("exit: %v\n%s", err, old.said())
		}
	}
	asking.end()
	if n := asking.answered.Load(); int(n) != r.app.Count() {
		t.Errorf("%d answers, the app saw %d requests", n, r.app.Count())
	}
	t.Logf("%d requests over two restarts", asking.answered.Load())
}
