package churn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

// pods is how many there are in each fleet.
const pods = 6

// fleet is a set of pods, the services that all of them serve, and how hard their
// life is.
type fleet struct {
	m     *mesh
	name  string
	index int
	slots [pods]*slot
	up    time.Duration // a pod lives for half of it to one and a half, and longer until it is of use
	gone  chan struct{} // one element for each pod that is not well
	open  crowd         // requests to the fleet
	away  atomic.Int64  // pods that are neither well nor only cut off

	// retries are the policies of its routes: of GET, then of the rest. Without a
	// second one that has the default policy.
	retries []*resilience.Retry

	lowest atomic.Int64 // how often as many were gone as may be
}

// useful is how many requests a pod sees before it may go: on a machine that is too
// slow for lives so short, none would ever be answered.
const useful = 3

// slot is a pod's place in its fleet; pods come and go in it.
type slot struct {
	ip     netip.Addr
	listed atomic.Bool // the configuration has it
	pod    *pod        // owned by the slot's own goroutine
}

const unreached = resilience.OnConnectFailure | resilience.OnRefusedStream

// fleets are two. In the steady one the default policy must do: it makes three
// tries, each on another host, so two pods may be gone at a time. In the stormy one
// all but one may be, and whoever runs such a thing says how long to try: a dead pod
// is listed for notice, and tries are at most 250 ms apart.
func (m *mesh) fleets() []*fleet {
	get := func(attempts int) *resilience.Retry {
		// A silent pod is given up by the try's timeout, long before its connection is.
		return &resilience.Retry{Attempts: attempts, On: unreached | resilience.OnReset, TryTimeout: 3 * time.Second, AvoidPrevious: true}
	}
	post := &resilience.Retry{Attempts: 40, On: unreached, AvoidPrevious: true}
	return []*fleet{
		{m: m, name: "steady", up: time.Second, gone: make(chan struct{}, 2), retries: []*resilience.Retry{get(6)}},
		{m: m, index: 1, name: "stormy", up: 300 * time.Millisecond, gone: make(chan struct{}, pods-1), retries: []*resilience.Retry{get(40), post}},
	}
}

// start makes the pods.
func (f *fleet) start() error {
	for i := range f.slots {
		s := &slot{ip: netip.AddrFrom4([4]byte{127, 0, byte(40 + f.index), byte(1 + i)})}
		if err := f.renew(s); err != nil {
			return err
		}
		f.slots[i] = s
		f.m.t.Cleanup(func() {
			if err := s.pod.die(); err != nil {
				f.m.t.Error(err)
			}
		})
	}
	return nil
}

// renew puts a new pod in its place.
func (f *fleet) renew(s *slot) (err error) {
	if s.pod, err = startPod(&f.m.network, s.ip, f.m.server, &f.m.ledger); err == nil {
		s.listed.Store(true)
	}
	return err
}

// vip is the address of the service for a kind of load.
func (f *fleet) vip(k kind) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96, byte(f.index), byte(10 + k)})
}

// addTo lists the fleet's services with the pods there are, in an order and with
// weights of their own.
func (f *fleet) addTo(out *config.Model) {
	for k := range kinds {
		name := fmt.Sprintf("%s%d", f.name, k)
		host := name + ".shop.svc.cluster.local"
		proto := [...]config.Protocol{config.ProtocolHTTP, config.ProtocolHTTP2, config.ProtocolGRPC}[k]
		b := &config.Backend{Key: host + "|80", Protocol: proto, Settings: resilience.Settings{ConnectTimeout: 3 * time.Second}}
		for _, n := range rand.Perm(pods) {
			if s := f.slots[n]; s.listed.Load() {
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
		other := -1 // the default policy
		if len(f.retries) > 1 {
			other = 1
		}
		out.Backends[b.Key] = b
		out.Destinations = append(out.Destinations, &config.Destination{
			Key: host + ":80", Addrs: []netip.Prefix{netip.PrefixFrom(f.vip(k), 32)}, Port: 80,
			Protocol: proto, Backend: b.Key, Refs: []string{b.Key},
			Service: config.Service{Host: host, Name: name, Namespace: "shop", Port: 80},
			Routes:  []routing.Rule{rule("get", 0, routing.Match{Method: "GET"}), rule("other", other)},
			Order:   routing.AsListed,
			Retries: f.retries,
		})
	}
}

// leave takes a place among those that are gone; false at the end of ctx.
func (f *fleet) leave(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case f.gone <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// live is the life of one slot: up for a while, then gone in one of the ways.
func (f *fleet) live(ctx context.Context, s *slot) {
	m := f.m
	check := func(err error) {
		if err != nil {
			m.t.Error(err)
		}
	}
	for ctx.Err() == nil {
		pause(ctx, f.up/2+rand.N(f.up))
		select {
		case <-s.pod.app.known:
		case <-ctx.Done():
		}
		if !f.leave(ctx) {
			return
		}
		what := rand.IntN(10)
		if what < 2 { // its connections are cut, it stays
			m.ends.of(s.ip, func() {
				n, err := s.pod.door.cut()
				check(err)
				m.cuts.Add(int64(n))
			})
			f.back()
			continue
		}
		if f.away.Add(1) == int64(cap(f.gone)) {
			f.lowest.Add(1)
		}
		switch what {
		default: // it crashes, and the control plane hears of it later
			m.kills.Add(1)
			m.ends.of(s.ip, func() { check(s.pod.die()) })
			pause(ctx, notice)
			s.listed.Store(false)
			pause(ctx, rand.N(notice))
		case 2: // it falls silent: it hears, and nobody hears it, until nobody waits for it any more
			m.silences.Add(1)
			m.ends.of(s.ip, func() {
				s.pod.freeze()
				pause(ctx, notice)
				s.listed.Store(false)
				select {
				case <-s.pod.door.left():
				case <-time.After(hears):
					m.t.Errorf("somebody still waits for %v, which is silent", s.ip)
				case <-ctx.Done():
				}
				check(s.pod.die())
			})
		case 3, 4, 5: // its node proxy leaves in order, or the pod: then it is out of the configuration first
			m.leaves.Add(1)
			if rand.IntN(3) > 0 {
				s.listed.Store(false)
				m.published(ctx)
			}
			check(s.pod.drain())
			check(s.pod.die())
		}
		check(f.renew(s))
		// Whoever still has the configuration without it must have the next one
		// before another goes.
		m.published(ctx)
		f.away.Add(-1)
		f.back()
	}
}

// back gives a place among those that are gone to another. With the default policy
// that waits until no request is left that may have met this one's end: so no
// request, however long it takes, meets more than may be gone at a time.
func (f *fleet) back() {
	if len(f.retries) == 1 {
		f.open.pass()
	}
	<-f.gone
}

// pause waits for d, or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
