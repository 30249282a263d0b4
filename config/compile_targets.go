package config

import (
	"reflect"

	"waypoint.dev/waypoint/resilience/balance"
)

// targets takes over or makes the targets of all backends. Of the same names the
// table itself stays: targets change in place.
func (c *compiler) targets(backends map[string]*Backend) {
	kept := 0
	for key := range backends {
		if c.prev.targets[key] != nil {
			kept++
		}
	}
	if c.prev.targets != nil && kept == len(backends) && kept == len(c.prev.targets) {
		c.next.targets = c.prev.targets
		for key, b := range backends {
			c.target(key, b)
		}
		return
	}
	c.next.targets = make(map[string]*Target, len(backends))
	for key, b := range backends {
		c.next.targets[key] = c.target(key, b)
	}
	c.renamed = true
}

// target takes over or makes the target of a backend.
func (c *compiler) target(key string, b *Backend) *Target {
	t := c.prev.targets[key]
	if t == nil {
		t = &Target{Key: key, src: b}
		spec, _ := adopt(b, nil)
		t.Spec.Store(spec)
		t.Set.Store(balance.NewSet(spec.Balance, spec.Endpoints, nil))
		if c.env.State != nil {
			st := c.env.State(spec, nil)
			t.local.Store(&st)
		}
		return t
	}
	if t.src == b {
		return t
	}
	old := t.Spec.Load()
	t.src = b
	spec, gone := adopt(b, old)
	if spec == old {
		return t
	}
	u := update{target: t, spec: spec, gone: gone, local: t.local.Load()}
	if c.env.State != nil {
		st := c.env.State(spec, t.State())
		u.local = &st
	}
	c.next.pending = append(c.next.pending, u)
	return t
}

// adopt copies a backend of the source, giving its endpoints their hosts. It
// returns old itself when nothing differs, and the hosts that old alone had.
func adopt(b, old *Backend) (*Backend, []*balance.Host) {
	var before map[string]*balance.Endpoint
	if old != nil {
		before = make(map[string]*balance.Endpoint, len(old.Endpoints))
		for _, e := range old.Endpoints {
			before[e.Key] = e
		}
	}
	same := old != nil && len(b.Endpoints) == len(old.Endpoints)
	eps := make([]*balance.Endpoint, len(b.Endpoints))
	for i, e := range b.Endpoints {
		p := before[e.Key]
		switch {
		case p != nil && sameEndpoint(e, p):
			eps[i] = p
		default:
			n := *e
			n.Host = &balance.Host{}
			if p != nil && samePeer(e, p) {
				n.Host = p.Host
			}
			eps[i] = &n
			same = false
		}
		if same && old.Endpoints[i] != eps[i] {
			same = false // another order
		}
		if p != nil && eps[i].Host == p.Host {
			delete(before, e.Key)
		}
	}
	if same {
		n, o := *b, *old
		n.Endpoints, o.Endpoints = nil, nil
		if reflect.DeepEqual(&n, &o) {
			return old, nil
		}
	}
	var gone []*balance.Host
	for _, e := range before {
		gone = append(gone, e.Host)
	}
	n := *b
	n.Endpoints = eps
	return &n, gone
}

// samePeer reports whether connections to a are as good for b.
func samePeer(a, b *balance.Endpoint) bool {
	return a.Addr == b.Addr && a.Tunnel == b.Tunnel && a.Identity == b.Identity &&
		a.Hostname == b.Hostname && a.Authority == b.Authority
}

func sameEndpoint(a, b *balance.Endpoint) bool {
	if !samePeer(a, b) || a.Workload != b.Workload {
		return false
	}
	x, y := *a, *b
	x.Host, y.Host, x.Workload, y.Workload = nil, nil, nil, nil
	return reflect.DeepEqual(&x, &y)
}
