package config

import (
	"runtime"
	"testing"
	"weak"

	"waypoint.dev/waypoint/resilience/balance"
)

func TestIncremental(t *testing.T) {
	m := model(50)
	var st Store
	a, _ := Compile(m, nil, Env{})
	st.Swap(a)
	key := m.Destinations[7].Backend
	target := a.Target(key)
	before := target.Set.Load()
	hosts := [2]*balance.Host{}
	for i, e := range target.Spec.Load().Endpoints {
		hosts[i] = e.Host
	}

	// One endpoint leaves, another has a new identity behind its address, one is new.
	n := *m
	n.Backends = map[string]*Backend{}
	for k, b := range m.Backends {
		n.Backends[k] = b
	}
	changed := *m.Backends[key]
	changed.Endpoints = []*balance.Endpoint{
		endpoint(changed.Endpoints[0].Key, changed.Endpoints[0].Identity),
		endpoint(changed.Endpoints[1].Key, "spiffe://td/ns/shop/sa/other"),
		endpoint("10.3.3.3:8080", ""),
	}
	n.Backends[key] = &changed
	b, _ := Compile(&n, a, Env{})
	if target.Set.Load() != before {
		t.Error("the set changed before the swap")
	}
	if hosts[1].Gone.Load() {
		t.Error("a host is gone before the swap")
	}
	st.Swap(b)
	for i, c := range b.Chains() {
		if c != a.Chains()[i] {
			t.Errorf("chain %s was compiled again", c.Spec.Key)
		}
	}
	if b.Target(key) != target || target.Set.Load() == before {
		t.Error("the target is not shared, or its set was not swapped")
	}
	got := target.Set.Load().Endpoints()
	if len(got) != 3 || got[0].Host != hosts[0] || got[1].Host == hosts[1] {
		t.Errorf("hosts are not kept by key and peer: %v", got)
	}
	if hosts[0].Gone.Load() || !hosts[1].Gone.Load() {
		t.Error("Gone is wrong")
	}

	// An equal backend under another pointer changes nothing.
	same := changed
	same.Endpoints = []*balance.Endpoint{}
	for _, e := range changed.Endpoints {
		x := *e
		same.Endpoints = append(same.Endpoints, &x)
	}
	o := n
	o.Backends = map[string]*Backend{}
	for k, x := range n.Backends {
		o.Backends[k] = x
	}
	o.Backends[key] = &same
	set := target.Set.Load()
	c, _ := Compile(&o, b, Env{})
	st.Swap(c)
	if target.Set.Load() != set {
		t.Error("an equal backend swapped the set")
	}

	// A destination and its backend go.
	o.Destinations = append(append([]*Destination(nil), m.Destinations[:7]...), m.Destinations[8:]...)
	delete(o.Backends, key)
	d, _ := Compile(&o, c, Env{})
	st.Swap(d)
	if !hosts[0].Gone.Load() || d.Target(key) != nil || len(d.Chains()) != 49 {
		t.Error("a removed destination left something")
	}
}

func TestChainFollowsItsTargets(t *testing.T) {
	m := model(2)
	a, _ := Compile(m, nil, Env{})
	n := *m
	n.Backends = map[string]*Backend{m.Destinations[0].Backend: m.Backends[m.Destinations[0].Backend]}
	b, _ := Compile(&n, a, Env{}) // the backend is gone, the destination pointer is the same
	if c := b.Chain(m.Destinations[1].Key); c.Default != nil {
		t.Error("the chain holds a target that is gone")
	}
	c, _ := Compile(m, b, Env{})
	if c.Chain(m.Destinations[1].Key).Default == nil {
		t.Error("the chain does not see the target that is back")
	}
}

// Old snapshots, their chains and sets must be garbage after a swap.
func TestOldSnapshotsAreDropped(t *testing.T) {
	var st Store
	m := model(5)
	s, _ := Compile(m, nil, Env{})
	st.Swap(s)
	held := s.Chains()[0].Default // what a long stream keeps
	old := weak.Make(s)
	oldChain := weak.Make(s.Chains()[1])
	oldSet := weak.Make(held.Set.Load())
	s = nil
	next := model(5)
	n, _ := Compile(next, st.Load(), Env{})
	for k, b := range next.Backends { // every endpoint set changes
		x := *b
		x.Endpoints = x.Endpoints[:1]
		next.Backends[k] = &x
	}
	n, _ = Compile(next, n, Env{})
	st.Swap(n)
	for range 5 {
		runtime.GC()
	}
	if old.Value() != nil || oldChain.Value() != nil || oldSet.Value() != nil {
		t.Errorf("held: snapshot %v chain %v set %v", old.Value() != nil, oldChain.Value() != nil, oldSet.Value() != nil)
	}
	runtime.KeepAlive(held)
	runtime.KeepAlive(&st)
}

func TestStateSurvives(t *testing.T) {
	type state struct{ updates int }
	env := Env{State: func(_ *Backend, prev any) any {
		if s, ok := prev.(*state); ok {
			s.updates++
			return s
		}
		return &state{}
	}}
	m := model(1)
	s, _ := Compile(m, nil, env)
	key := m.Destinations[0].Backend
	first := s.Target(key).State()
	b := *m.Backends[key]
	b.Settings.MaxRequests = 5
	m.Backends[key] = &b
	s, _ = Compile(m, s, env)
	var st Store
	st.Swap(s)
	if got := s.Target(key); got.State() != first || first.(*state).updates != 1 || got.Spec.Load().Settings.MaxRequests != 5 {
		t.Error("state or settings are wrong")
	}
}
