package churn

import (
	"context"
	"crypto/x509"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

var (
	duration = flag.Duration("churn.duration", 8*time.Second, "how long to churn")
	verbose  = flag.Bool("churn.log", false, "print the waypoint's log and access log")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	pods    = 6
	workers = 6               // of each kind of load
	ttl     = 4 * time.Second // of certificates; renewed at half of it
	// away is how many pods may be gone at once: one fewer than the tries of the
	// default retry policy, which go to different hosts.
	away = 2
	// swaps is how long one configuration serves.
	swaps = 100 * time.Millisecond
	// notice is how long the control plane takes to learn that a pod is gone.
	notice = 300 * time.Millisecond
)

// slot is a pod's place in the mesh; pods come and go in it.
type slot struct {
	ip     netip.Addr
	listed atomic.Bool // the configuration has it
	pod    *pod        // owned by the slot's own goroutine
}

// mesh is everything around the load.
type mesh struct {
	t        *testing.T
	ca       *identity.CA
	waypoint *testmesh.Waypoint
	server   hbone.ServerConfig // of the nodes
	ledger   ledger
	slots    [pods]*slot
	gone     chan struct{} // one element for each pod that is not well
	ends     ends
	records  records

	kills, silences, leaves, cuts, snapshots atomic.Int64

	mu      sync.Mutex
	serials map[string]map[string]bool // guarded by mu: who saw whose certificates
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

// model lists the pods there are, in an order and with weights of its own.
func (m *mesh) model() *config.Model {
	out := &config.Model{Mesh: config.Mesh{TrustDomain: "cluster.local"}, Backends: map[string]*config.Backend{}}
	for i, proto := range []config.Protocol{config.ProtocolHTTP, config.ProtocolHTTP2, config.ProtocolGRPC} {
		host := fmt.Sprintf("svc%d.shop.svc.cluster.local", i)
		b := &config.Backend{Key: host + "|80", Protocol: proto, Settings: resilience.Settings{ConnectTimeout: 3 * time.Second}}
		for _, n := range rand.Perm(pods) {
			if s := m.slots[n]; s.listed.Load() {
				b.Endpoints = append(b.Endpoints, &balance.Endpoint{
					Key: s.ip.String() + ":8080", Addr: netip.AddrPortFrom(s.ip, 8080), Tunnel: netip.AddrPortFrom(s.ip, testmesh.HBONEPort),
					Identity: identity.URI("cluster.local", "shop", "cart"), Weight: 1 + rand.Uint32N(3),
				})
			}
		}
		rule := func(name string, retry int, matches ...routing.Match) routing.Rule {
			return routing.Rule{Route: "shop/" + name, Kind: "HTTPRoute", Name: name, Matches: matches, Retry: retry, Fault: -1, Session: -1, Hash: -1,
				Backends: []routing.Backend{{Ref: 0, Weight: 1}}}
		}
		out.Backends[b.Key] = b
		out.Destinations = append(out.Destinations, &config.Destination{
			Key: host + ":80", Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(10 + i)}), 32)}, Port: 80,
			Protocol: proto, Backend: b.Key, Refs: []string{b.Key},
			Service: config.Service{Host: host, Name: fmt.Sprintf("svc%d", i), Namespace: "shop", Port: 80},
			Routes:  []routing.Rule{rule("get", 0, routing.Match{Method: "GET"}), rule("other", -1)},
			Order:   routing.AsListed,
			// A silent pod is given up by the try's timeout, long before its connection is.
			Retries: []*resilience.Retry{{
				Attempts: 6, On: resilience.OnReset | resilience.OnConnectFailure | resilience.OnRefusedStream,
				TryTimeout: 3 * time.Second, AvoidPrevious: true,
			}},
		})
	}
	return out
}

// live is the life of one slot: up for a while, then gone in one of the ways.
func (m *mesh) live(ctx context.Context, s *slot) {
	pause := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	for ctx.Err() == nil {
		pause(time.Second/2 + rand.N(time.Second))
		select {
		case m.gone <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		switch rand.IntN(5) {
		case 0, 1: // it crashes, and the control plane hears of it later
			m.kills.Add(1)
			m.die(s)
			pause(notice)
			s.listed.Store(false)
			pause(rand.N(notice))
		case 2: // it falls silent: it hears, and nobody hears it
			m.silences.Add(1)
			s.pod.freeze()
			pause(notice)
			s.listed.Store(false)
			pause(2 * time.Second)
			m.die(s)
		case 3: // it is deleted: out of the configuration, and gone when nothing is left
			m.leaves.Add(1)
			s.listed.Store(false)
			pause(3 * swaps)
			drain, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			s.pod.node.Drain(drain)
			cancel()
			s.pod.close()
		case 4: // its connections are cut, it stays
			m.ends.of(s.ip, func() { m.cuts.Add(int64(s.pod.door.cut())) })
			<-m.gone
			continue
		}
		s.pod = startPod(m.t, s.ip, m.server, &m.ledger)
		s.listed.Store(true)
		// Whoever still has the configuration without it must have the next one
		// before another goes.
		pause(2 * swaps)
		<-m.gone
	}
	s.listed.Store(true)
}

// die resets everything of a pod and notes when.
func (m *mesh) die(s *slot) {
	m.ends.of(s.ip, s.pod.reset)
	s.pod.close()
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

func (m *mesh) reconfigure(ctx context.Context) {
	tick := time.NewTicker(swaps)
	defer tick.Stop()
	for {
		if problems := m.waypoint.Serve(m.model()); len(problems) > 0 {
			m.t.Error(problems)
		}
		m.snapshots.Add(1)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{t: t, gone: make(chan struct{}, away), serials: map[string]map[string]bool{}, ledger: ledger{seen: map[string]int{}}}
	var err error
	if m.ca, err = identity.NewCA("cluster.local"); err != nil {
		t.Fatal(err)
	}
	// Silence is noticed within a second and a half, not Istio's 30 s, for a run of
	// a minute to have many of it.
	quick := h2.Config{KeepaliveInterval: 500 * time.Millisecond, KeepaliveTimeout: time.Second}
	m.server = hbone.ServerConfig{TLS: m.source("shop", "cart"), Revoked: m.sees("pod"), DrainDelay: -1}
	o := testmesh.WaypointOptions{
		Source: m.source("shop", "waypoint"), MaxAge: 2 * time.Second, Observer: &m.records,
		HBONE:      func(c *hbone.ServerConfig) { c.Revoked = m.sees("waypoint, of clients") },
		PoolConfig: func(c *hbone.PoolConfig) { c.Revoked, c.H2 = m.sees("waypoint, of pods"), quick },
	}
	if *verbose {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		o.AccessLog = telemetry.NewAccessLog(os.Stderr, telemetry.Text)
		t.Cleanup(func() { o.AccessLog.Close() })
	}
	for i := range m.slots {
		s := &slot{ip: netip.AddrFrom4([4]byte{127, 0, 40, byte(1 + i)})}
		s.pod = startPod(t, s.ip, m.server, &m.ledger)
		s.listed.Store(true)
		t.Cleanup(func() { s.pod.reset(); s.pod.close() })
		m.slots[i] = s
	}
	if m.waypoint, err = testmesh.NewWaypoint(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.waypoint.Close)
	return m
}

// clients makes the client's node proxy, with one capture for each service.
func (m *mesh) clients(l *load) {
	src := m.source("clients", "curl")
	c := &testmesh.Client{Source: src, Pool: hbone.NewPool(hbone.PoolConfig{TLS: src, Revoked: m.sees("client")})}
	m.t.Cleanup(c.Close)
	for i := range kinds {
		k, err := c.Capture("127.0.0.1:0", func() netip.AddrPort { return m.waypoint.Addr }, fmt.Sprintf("10.96.0.%d:80", 10+i))
		if err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { k.Close() })
		l.urls[i] = "http://" + k.Addr().String()
	}
}

func TestChurn(t *testing.T) {
	m := newMesh(t)
	if problems := m.waypoint.Serve(m.model()); len(problems) > 0 {
		t.Fatal(problems)
	}
	l := new(load)
	m.clients(l)
	ctx, cancel := context.WithTimeout(context.Background(), *duration)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range m.slots {
		wg.Go(func() { m.live(ctx, s) })
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
