package churn

import (
	"context"
	"crypto/x509"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/telemetry"
)

var (
	duration = flag.Duration("churn.duration", 8*time.Second, "how long to churn")
	verbose  = flag.Bool("churn.log", false, "print the waypoint's log and access log")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	workers = 10 // of each kind of load; some always wait for a pod that is silent
	// ttl is of certificates; they are renewed at half of it.
	ttl = 4 * time.Second
	// swaps is how long one configuration serves.
	swaps = 100 * time.Millisecond
	// notice is how long the control plane takes to learn that a pod is gone.
	notice = 300 * time.Millisecond
)

// mesh is everything around the load.
type mesh struct {
	t        *testing.T
	ca       *identity.CA
	waypoint *testmesh.Waypoint
	server   hbone.ServerConfig // of the nodes
	network  network
	shops    []*fleet
	ledger   ledger
	ends     ends
	records  records

	kills, silences, leaves, cuts, snapshots atomic.Int64

	mu      sync.Mutex
	serials map[string]map[string]bool // guarded by mu: who saw whose certificates
	next    chan struct{}              // guarded by mu: closed when the model that is being made serves
}

// sees notes the certificates of peers, as whoever verifies them sees them.
func (m *mesh) sees(who string) func(*x509.Certificate) bool {
	return func(c *x509.Certificate) bool {
		if c.IsCA {
			return false
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.serials[who] == nil {
			m.serials[who] = map[string]bool{}
		}
		m.serials[who][c.SerialNumber.String()] = true
		return false
	}
}

func (m *mesh) source(ns, sa string) identity.Source {
	s := m.ca.Source(ns, sa, ttl)
	m.t.Cleanup(func() { s.Close() })
	return s
}

// rotate changes roots, with an overlap of one life of a certificate.
func (m *mesh) rotate(ctx context.Context) {
	for {
		for _, step := range []func() error{m.ca.RotateRoot, func() error { m.ca.RetireRoots(); return nil }} {
			select {
			case <-time.After(ttl * 3 / 4):
			case <-ctx.Done():
				return
			}
			if err := step(); err != nil {
				m.t.Error(err)
			}
		}
	}
}

// publish makes a model and serves it.
func (m *mesh) publish() []config.Problem {
	out := &config.Model{Mesh: config.Mesh{TrustDomain: "cluster.local"}, Backends: map[string]*config.Backend{}}
	for _, f := range m.shops {
		f.addTo(out)
	}
	problems := m.waypoint.Serve(out)
	m.snapshots.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.next)
	m.next = make(chan struct{})
	return problems
}

// published returns when a configuration serves that was made after the call.
func (m *mesh) published(ctx context.Context) {
	for range 2 { // one may be half made
		m.mu.Lock()
		next := m.next
		m.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}

// reconfigure publishes on time, and what it could not at once on a busy machine.
func (m *mesh) reconfigure(ctx context.Context) {
	for due := time.Now(); ctx.Err() == nil; due = due.Add(swaps) {
		pause(ctx, time.Until(due))
		if problems := m.publish(); len(problems) > 0 {
			m.t.Error(problems)
		}
	}
}

// newWorld makes what pods need.
func newWorld(t *testing.T) *mesh {
	m := &mesh{t: t, serials: map[string]map[string]bool{}, next: make(chan struct{})}
	var err error
	if m.ca, err = identity.NewCA("cluster.local"); err != nil {
		t.Fatal(err)
	}
	m.server = hbone.ServerConfig{TLS: m.source("shop", "cart"), Revoked: m.sees("pod"), DrainDelay: -1}
	return m
}

func newMesh(t *testing.T) *mesh {
	m := newWorld(t)
	o := testmesh.WaypointOptions{
		Source: m.source("shop", "waypoint"), MaxAge: 2 * time.Second, Observer: &m.records,
		HBONE: func(c *hbone.ServerConfig) { c.Revoked = m.sees("waypoint, of clients") },
		PoolConfig: func(c *hbone.PoolConfig) {
			c.Revoked, c.DialTCP = m.sees("waypoint, of pods"), m.network.dial
			// Silence is noticed within four and a half seconds, not Istio's 30, for a
			// run of a minute to have many of it. A busy machine needs the four.
			c.H2 = h2.Config{KeepaliveInterval: 500 * time.Millisecond, KeepaliveTimeout: 4 * time.Second}
		},
	}
	if *verbose {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		o.AccessLog = telemetry.NewAccessLog(os.Stderr, telemetry.Text)
		t.Cleanup(func() { o.AccessLog.Close() })
	}
	m.shops = m.fleets()
	for _, f := range m.shops {
		if err := f.start(); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if m.waypoint, err = testmesh.NewWaypoint(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.waypoint.Close)
	return m
}

// clients makes the client's node proxy, with one capture for each service.
func (m *mesh) clients(l *load) {
	src := m.source("clients", "curl")
	c := &testmesh.Client{Source: src, Pool: hbone.NewPool(hbone.PoolConfig{TLS: src, Revoked: m.sees("client")}), Join: testmesh.Deliver}
	m.t.Cleanup(c.Close)
	for _, f := range m.shops {
		var urls [kinds]string
		for k := range kinds {
			to, err := c.Capture("127.0.0.1:0", func() netip.AddrPort { return m.waypoint.Addr }, netip.AddrPortFrom(f.vip(k), 80).String())
			if err != nil {
				m.t.Fatal(err)
			}
			m.t.Cleanup(func() { to.Close() })
			urls[k] = "http://" + to.Addr().String()
		}
		l.to = append(l.to, target{urls, &f.open})
	}
}

func TestChurn(t *testing.T) {
	m := newMesh(t)
	if problems := m.publish(); len(problems) > 0 {
		t.Fatal(problems)
	}
	l := new(load)
	m.clients(l)
	ctx, cancel := context.WithTimeout(context.Background(), *duration)
	defer cancel()
	var wg sync.WaitGroup
	for _, f := range m.shops {
		for _, s := range f.slots {
			wg.Go(func() { f.live(ctx, s) })
		}
	}
	wg.Go(func() { m.rotate(ctx) })
	wg.Go(func() { m.reconfigure(ctx) })
	for range workers {
		for k := range kinds {
			wg.Go(func() { l.run(ctx, k) })
		}
	}
	wg.Wait()
	m.judge(l)
}
