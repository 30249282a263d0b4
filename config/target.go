package config

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"waypoint.dev/waypoint/resilience/balance"
)

// Target is a compiled [Backend], shared by key across snapshots. It is safe for
// concurrent use; holding one keeps no snapshot alive.
type Target struct {
	// Fixed after New.
	Key string

	Spec atomic.Pointer[Backend]     // never nil; its endpoints are those of Set
	Set  atomic.Pointer[balance.Set] // never nil
	// local is what Env.State made of the backend: limits, breakers, outlier state.
	local atomic.Pointer[any]

	// src is what the source gave for Spec; owned by the goroutine that compiles.
	src *Backend
}

// State returns what Env.State made of the backend, nil without that hook.
func (t *Target) State() any {
	if p := t.local.Load(); p != nil {
		return *p
	}
	return nil
}

// update is one change of a target that waits for Store.Swap.
type update struct {
	target *Target
	spec   *Backend // nil: the target is gone
	local  *any
	gone   []*balance.Host
}

// commit makes the snapshot's endpoint sets visible and marks vanished hosts.
func (s *Snapshot) commit() {
	for _, u := range s.pending {
		if u.spec != nil {
			u.target.Spec.Store(u.spec)
			u.target.local.Store(u.local)
			u.target.Set.Store(balance.NewSet(u.spec.Balance, u.spec.Endpoints, u.target.Set.Load()))
		}
		for _, h := range u.gone {
			h.Gone.Store(true)
		}
	}
	for _, d := range s.closing {
		d.close()
	}
	s.pending, s.closing = nil, nil
}

// maxDirect bounds the ports of one workload whose connections are pooled: a
// client chooses the port, so the number must not grow with what it asks for.
const maxDirect = 64

// directTargets are the targets of a workload destination, one for each address
// and port that was asked for.
type directTargets struct {
	workload *Workload
	mu       sync.RWMutex
	m        map[netip.AddrPort]*Target // guarded by mu
	closed   bool                       // guarded by mu
}

// Direct returns the target that stands for the workload's own address and port.
// It is nil in service chains.
func (c *Chain) Direct(to netip.AddrPort) *Target {
	d := c.direct
	if d == nil {
		return nil
	}
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	d.mu.RLock()
	t := d.m[to]
	d.mu.RUnlock()
	if t != nil {
		return t
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.m[to]; t != nil {
		return t
	}
	t = newDirect(c.Spec, d.workload, to)
	if len(d.m) >= maxDirect || d.closed {
		t.Set.Load().Endpoints()[0].Host.Gone.Store(true) // used once, never pooled
		return t
	}
	d.m[to] = t
	return t
}

// close marks the hosts as gone; nothing is pooled after it.
func (d *directTargets) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, t := range d.m {
		for _, e := range t.Set.Load().Endpoints() {
			e.Host.Gone.Store(true)
		}
	}
}

func newDirect(spec *Destination, w *Workload, to netip.AddrPort) *Target {
	e := &balance.Endpoint{Key: to.String(), Addr: to, Host: &balance.Host{}}
	if w != nil {
		e.Workload, e.Locality, e.Labels = w, w.Locality, w.Labels
		if w.Tunnel {
			e.Tunnel = netip.AddrPortFrom(to.Addr(), TunnelPort)
		}
		if w.ServiceAccount != "" {
			e.Identity = "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
		}
	}
	b := &Backend{Key: spec.Key + "|" + to.String(), Service: spec.Service, Protocol: spec.Protocol, Endpoints: []*balance.Endpoint{e}}
	t := &Target{Key: b.Key, src: b}
	t.Spec.Store(b)
	t.Set.Store(balance.NewSet(b.Balance, b.Endpoints, nil))
	return t
}

// TunnelPort is where every HBONE server of the mesh listens.
const TunnelPort = 15008
