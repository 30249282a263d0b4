package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"strings"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

// Env gives Compile what lies above this package. All hooks may be nil.
type Env struct {
	// Stage makes what runs a stage of a kind that this package does not compile
	// itself (JWT, external authorization, rate limit, fault, CORS). prev is what it
	// made for the same stage before, nil if there was none. On an error the chain
	// keeps prev, or without one is Broken.
	Stage func(d *Destination, st *Stage, prev any) (any, error)

	// State makes the runtime state of a backend: limits, breakers, outlier
	// detection. prev is its previous state, which it may return.
	State func(b *Backend, prev any) any
}

// Compile turns a model into a snapshot, reusing from prev whatever did not
// change: the chain of an unchanged *Destination pointer, the target of an equal
// backend, the host of an endpoint that keeps its key, address and identity. It
// never fails as a whole; what is wrong with an object is a Problem.
//
// prev is the last snapshot compiled, or nil. Endpoint sets of shared targets
// change when the result is given to [Store.Swap] or is the prev of another
// Compile, not before. One goroutine compiles at a time.
func Compile(m *Model, prev *Snapshot, env Env) (*Snapshot, []Problem) {
	c := &compiler{env: env, prev: prev}
	if prev != nil {
		prev.commit()
	} else {
		c.prev = &Snapshot{}
	}
	c.next = &Snapshot{Version: c.prev.Version + 1, Mesh: m.Mesh}
	c.workloads(m.Workloads)
	c.targets(m.Backends)
	c.destinations(m.Destinations)
	c.retire()
	c.next.found = c.problems
	c.next.Problems = append(append([]Problem(nil), m.Problems...), c.problems...)
	return c.next, c.problems
}

type compiler struct {
	env        Env
	prev, next *Snapshot
	problems   []Problem
	renamed    bool // the set of targets is another one
	listed     bool // the tables of chains were made anew
}

// same reports whether two lists are one list.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// workloads indexes the workloads. It takes over the index of the very same list,
// and copies and changes that of a list that differs in one place.
func (c *compiler) workloads(list []*Workload) {
	s, p := c.next, c.prev
	s.source = list
	if p.byUID != nil && same(list, p.source) {
		s.byUID, s.workloads, s.addresses = p.byUID, p.workloads, p.addresses
		return
	}
	if c.workloadsFrom(p) {
		return
	}
	s.byUID = make(map[string]*Workload, len(list))
	s.workloads = make(map[netip.Addr]*Workload, len(list))
	s.addresses = 0
	for _, w := range list {
		s.byUID[w.UID] = w
		s.addresses += len(w.Addrs)
		for _, a := range w.Addrs {
			s.workloads[a.Unmap().WithZone("")] = w
		}
	}
}

// workloadsFrom changes a copy of the former index. It returns false when that is
// not less work, or when names or addresses occur twice: then the order counts.
func (c *compiler) workloadsFrom(p *Snapshot) bool {
	s := c.next
	gone, come := p.source, s.source
	for len(gone) > 0 && len(come) > 0 && gone[0] == come[0] {
		gone, come = gone[1:], come[1:]
	}
	for len(gone) > 0 && len(come) > 0 && gone[len(gone)-1] == come[len(come)-1] {
		gone, come = gone[:len(gone)-1], come[:len(come)-1]
	}
	if len(gone)+len(come) > len(s.source)/4 || p.addresses != len(p.workloads) || len(p.source) != len(p.byUID) {
		return false
	}
	s.byUID, s.workloads, s.addresses = maps.Clone(p.byUID), maps.Clone(p.workloads), p.addresses
	for _, w := range gone {
		delete(s.byUID, w.UID)
		s.addresses -= len(w.Addrs)
		for _, a := range w.Addrs {
			delete(s.workloads, a.Unmap().WithZone(""))
		}
	}
	for _, w := range come {
		s.byUID[w.UID] = w
		s.addresses += len(w.Addrs)
		for _, a := range w.Addrs {
			s.workloads[a.Unmap().WithZone("")] = w
		}
	}
	return s.addresses == len(s.workloads) && len(s.source) == len(s.byUID)
}

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

// compiled reports whether the chains are those of a list.
func (s *Snapshot) compiled(list []*Destination) bool {
	if s.byKey == nil || s.doubled || len(s.chains) != len(list) {
		return false
	}
	for i, ch := range s.chains {
		if ch.Spec != list[i] {
			return false
		}
	}
	return true
}

// destinations compiles all chains, or takes over the tables of the same list when
// nothing that chains hang on was replaced.
func (c *compiler) destinations(list []*Destination) {
	s, p := c.next, c.prev
	if !c.renamed && p.compiled(list) && (!p.direct || same(s.source, p.source)) {
		s.chains, s.byKey, s.byAddr, s.byHost, s.bySuffix, s.byPrefix, s.direct = p.chains, p.byKey, p.byAddr, p.byHost, p.bySuffix, p.byPrefix, p.direct
		c.problems = append(c.problems, p.found...)
		return
	}
	s.chains = make([]*Chain, 0, len(list))
	s.byKey = make(map[string]*Chain, len(list))
	s.byAddr = make(map[netip.AddrPort]*Chain, len(list))
	s.byHost = make(map[hostPort]*Chain, len(list))
	s.bySuffix = make(map[hostPort]*Chain)
	for _, d := range list {
		s.direct = s.direct || d.Workload
		c.destination(d)
	}
	c.listed = true
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

// retire closes what the previous snapshot alone had.
func (c *compiler) retire() {
	for key, t := range c.prev.targets {
		if !c.renamed {
			break
		}
		if c.next.targets[key] != nil {
			continue
		}
		u := update{target: t}
		for _, e := range t.Spec.Load().Endpoints {
			u.gone = append(u.gone, e.Host)
		}
		c.next.pending = append(c.next.pending, u)
	}
	for key, ch := range c.prev.byKey {
		if !c.listed {
			break
		}
		if ch.direct == nil {
			continue
		}
		if n := c.next.byKey[key]; n == nil || n.direct != ch.direct {
			c.next.closing = append(c.next.closing, ch.direct)
		}
	}
}

// destination compiles or takes over one chain and enters it in the tables.
func (c *compiler) destination(d *Destination) {
	if c.next.byKey[d.Key] != nil {
		c.problem(d, "", "two destinations have this key; the first one serves")
		c.next.doubled = true
		return
	}
	ch := c.prev.byKey[d.Key]
	if ch == nil || !c.reusable(ch, d) {
		ch = c.chain(d, ch)
	}
	c.problems = append(c.problems, ch.Problems...)
	c.next.byKey[d.Key] = ch
	c.next.chains = append(c.next.chains, ch)
	c.enter(ch)
}

// reusable reports whether a chain compiled from d before still holds.
func (c *compiler) reusable(ch *Chain, d *Destination) bool {
	if ch.Spec != d || ch.Workload != c.workload(d) {
		return false
	}
	for i, key := range d.Refs {
		if ch.targets[i] != c.next.targets[key] {
			return false
		}
	}
	return d.Backend == "" || ch.Default == c.next.targets[d.Backend]
}

// workload returns the workload of a workload destination.
func (c *compiler) workload(d *Destination) *Workload {
	if !d.Workload {
		return nil
	}
	if w := c.next.byUID[strings.TrimPrefix(d.Key, "workload/")]; w != nil {
		return w
	}
	for _, p := range d.Addrs {
		if p.IsSingleIP() {
			if w := c.next.workloads[p.Addr()]; w != nil {
				return w
			}
		}
	}
	return nil
}

// chain compiles one destination. prev is its former chain, or nil.
func (c *compiler) chain(d *Destination, prev *Chain) *Chain {
	ch := &Chain{Spec: d, HTTPOnly: d.HTTPOnly, Broken: d.Broken, Workload: c.workload(d)}
	for _, key := range d.Refs {
		ch.targets = append(ch.targets, c.next.targets[key])
		if c.next.targets[key] == nil {
			ch.problem("refs", fmt.Sprintf("backend %q is unknown; its share answers 503", key))
		}
	}
	ch.Default = c.next.targets[d.Backend]
	ch.targets = append(ch.targets, ch.Default)
	if d.Backend == "" {
		ch.direct = &directTargets{workload: ch.Workload, m: make(map[netip.AddrPort]*Target)}
		if prev != nil && prev.direct != nil && sameWorkload(prev.Workload, ch.Workload) {
			ch.direct = prev.direct
		}
	}
	c.tables(ch)
	c.tcp(ch)
	c.stages(ch, prev)
	if len(d.Conn) > 0 {
		ch.Conn = authz.Compile(d.Conn)
	}
	return ch
}

// sameWorkload reports whether connections to a may serve b.
func sameWorkload(a, b *Workload) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID && a.Tunnel == b.Tunnel && a.TrustDomain == b.TrustDomain &&
		a.Namespace == b.Namespace && a.ServiceAccount == b.ServiceAccount
}

func (c *compiler) tables(ch *Chain) {
	d := ch.Spec
	rules, order := d.Routes, d.Order
	if len(rules) == 0 {
		rules, order = []routing.Rule{{
			Retry: -1, Fault: -1, Session: -1, Hash: -1,
			Backends: []routing.Backend{{Ref: len(d.Refs), Weight: 1}},
		}}, routing.AsListed
	} else if !d.Implicit {
		ch.HTTPOnly = true
	}
	ch.table = ch.compileRules(rules, order)
	if len(d.Consumers) > 0 {
		ch.HTTPOnly = true
		ch.consumers = make(map[string]*routing.Table, len(d.Consumers))
		for ns, rules := range d.Consumers {
			ch.consumers[ns] = ch.compileRules(rules, d.Order)
		}
	}
}

func (ch *Chain) compileRules(rules []routing.Rule, o routing.Order) *routing.Table {
	t, errs := routing.Compile(rules, o)
	for _, e := range errs {
		r := &rules[e.Rule]
		ns, name, _ := strings.Cut(r.Route, "/")
		ch.Problems = append(ch.Problems, Problem{
			Severity: Error, Kind: r.Kind, Namespace: ns, Name: name, Reason: "InvalidRule",
			Field:   fmt.Sprintf("spec.rules[%d].%s", r.Index, e.Field),
			Message: e.Message,
		})
	}
	return t
}

func (c *compiler) tcp(ch *Chain) {
	ch.TCP = ch.compileTCP(ch.Spec.TCPRoutes)
	if len(ch.Spec.ConsumerTCP) > 0 {
		ch.byClient = make(map[string][]CompiledTCP, len(ch.Spec.ConsumerTCP))
		for ns, rs := range ch.Spec.ConsumerTCP {
			ch.byClient[ns] = ch.compileTCP(rs)
		}
	}
}

func (ch *Chain) compileTCP(rs []TCPRoute) (out []CompiledTCP) {
	for i := range rs {
		r := &rs[i]
		t := ch.compileRules([]routing.Rule{{
			Route: r.Route, Retry: -1, Fault: -1, Session: -1, Hash: -1, Backends: r.Backends,
		}}, routing.AsListed)
		out = append(out, CompiledTCP{Spec: r, Pick: t.Rules()[0]})
	}
	return out
}

// enter puts a chain into the lookup tables. Of two claims the first stands.
func (c *compiler) enter(ch *Chain) {
	s, d := c.next, ch.Spec
	for _, p := range d.Addrs {
		if !p.IsValid() {
			continue
		}
		if a := p.Addr().Unmap().WithZone(""); p.IsSingleIP() {
			k := netip.AddrPortFrom(a, d.Port)
			if d.Workload {
				k = netip.AddrPortFrom(a, 0)
			}
			if old := s.byAddr[k]; old != nil {
				c.claimed(d, k.String(), old)
				continue
			}
			s.byAddr[k] = ch
		} else if old := s.byPrefix.add(p, d.Port, ch); old != nil {
			c.claimed(d, p.String(), old)
		}
	}
	for _, h := range d.Hosts {
		m, h := s.byHost, strings.TrimSuffix(strings.ToLower(h), ".")
		if strings.HasPrefix(h, "*.") {
			m, h = s.bySuffix, h[1:]
		}
		k := hostPort{h, d.Port}
		if old := m[k]; old != nil {
			c.claimed(d, fmt.Sprintf("%s:%d", h, d.Port), old)
			continue
		}
		m[k] = ch
	}
}

func (c *compiler) claimed(d *Destination, what string, by *Chain) {
	c.problem(d, "addresses", fmt.Sprintf("%s belongs to %s already, which serves it", what, by.Spec.Key))
}

func (c *compiler) problem(d *Destination, field, msg string) {
	c.problems = append(c.problems, problemOf(d, field, msg))
}

func (ch *Chain) problem(field, msg string) {
	ch.Problems = append(ch.Problems, problemOf(ch.Spec, field, msg))
}

func problemOf(d *Destination, field, msg string) Problem {
	return Problem{
		Severity: Error, Kind: "Destination", Namespace: d.Service.Namespace, Name: d.Key,
		Field: field, Message: msg, Reason: "Invalid",
	}
}
