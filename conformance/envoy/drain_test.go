package envoy

import (
	"context"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestPodDrains holds the row "a pod's ztunnel that drains" of docs/compatibility.md
// against Envoy: what becomes of the next request when the node proxy of a pod has
// sent GOAWAY, while a kept connection to the application lies in one of its tunnels.
// The drained node proxy takes no connections, so 200 says that the kept one was used.
func TestPodDrains(t *testing.T) {
	g := newGenerator(t)
	s := g.subject("drain", "BASE")
	w := g.World()
	l := startLab(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	boot, err := Stock(w.OracleResources(base(t)), StockOptions{Dir: l.Dir, Address: "127.0.0.1", GenerateID: true, AccessLog: filepath.Join(l.Dir, "access.log")})
	if err != nil {
		t.Fatal(err)
	}
	p := closing[*Process](t)(Start(ctx, boot, l.Dir))
	oracle := l.side("envoy", p.Addr)
	t.Cleanup(oracle.Close)
	ours := closing[*Side](t)(l.Kube(w, s.Norm))

	ask := func(side *Side) int {
		t.Helper()
		q := g.base(s)
		q.Target = "/drain"
		a, err := side.Asker.Ask(q)
		if err != nil {
			t.Fatal(err)
		}
		return a.Status
	}
	for _, side := range []*Side{oracle, ours} {
		if status := ask(side); status != 200 {
			t.Fatalf("%s: %d before the drain", side.Name, status)
		}
	}
	drained := make(chan error, 1)
	pod := l.pods[len(l.pods)-1] // of all subjects
	go func() { drained <- pod.srv.Shutdown(ctx) }()

	notified := regexp.MustCompile(`upstream_cx_close_notify: [1-9]`)
	eventually(ctx, t, "Envoy has the GOAWAY", func() bool {
		text, err := p.Get(ctx, "/stats?filter=upstream_cx_close_notify")
		return err == nil && notified.MatchString(text)
	})
	if status := ask(oracle); status != 200 {
		t.Errorf("Envoy answers %d: it no longer uses kept connections of a pod that drains; docs/compatibility.md says it does", status)
	}
	eventually(ctx, t, "we leave the kept connection", func() bool { return ask(ours) == 503 })
	cancel()
	<-drained
}

// eventually waits for what other processes bring about.
func eventually(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("timeout: ", what)
		case <-tick.C:
		}
	}
}
