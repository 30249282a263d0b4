package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func prefix(s string) netip.Prefix {
	if strings.Contains(s, "/") {
		return netip.MustParsePrefix(s)
	}
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

func endpoint(addr, identity string) *balance.Endpoint {
	a := netip.MustParseAddrPort(addr)
	return &balance.Endpoint{Key: addr, Addr: a, Tunnel: netip.AddrPortFrom(a.Addr(), TunnelPort), Identity: identity}
}

// model has n services of two endpoints each, svc<i> at 10.x.y.1:80.
func model(n int) *Model {
	m := &Model{Backends: make(map[string]*Backend, n)}
	for i := range n {
		host := fmt.Sprintf("svc%d.shop.svc.cluster.local", i)
		key := host + "|80"
		m.Backends[key] = &Backend{Key: key, Endpoints: []*balance.Endpoint{
			endpoint(fmt.Sprintf("10.1%d.%d.2:8080", i>>8&0xff%10, i&0xff), "spiffe://td/ns/shop/sa/a"),
			endpoint(fmt.Sprintf("10.1%d.%d.3:8080", i>>8&0xff%10, i&0xff), "spiffe://td/ns/shop/sa/b"),
		}}
		m.Destinations = append(m.Destinations, &Destination{
			Key: host + ":80", Port: 80, Hosts: []string{host}, Backend: key,
			Addrs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)},
		})
	}
	return m
}

func TestLookup(t *testing.T) {
	m := &Model{
		Destinations: []*Destination{
			{Key: "exact", Addrs: []netip.Prefix{prefix("10.0.0.1"), prefix("fd00::1")}, Port: 80, Hosts: []string{"Cart.shop.mesh"}},
			{Key: "exact443", Addrs: []netip.Prefix{prefix("10.0.0.1")}, Port: 443},
			{Key: "wide", Addrs: []netip.Prefix{prefix("10.0.0.0/8")}, Port: 80},
			{Key: "narrow", Addrs: []netip.Prefix{prefix("10.1.0.0/16")}, Port: 80},
			{Key: "workload/u1", Workload: true, Addrs: []netip.Prefix{prefix("10.9.0.1")}},
			{Key: "wild", Hosts: []string{"*.example.com"}, Port: 80},
			{Key: "wilder", Hosts: []string{"*.a.example.com"}, Port: 80},
			{Key: "loser", Addrs: []netip.Prefix{prefix("10.0.0.1")}, Port: 80},
		},
		Workloads: []*Workload{{UID: "u1", Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}},
	}
	s, problems := Compile(m, nil, Env{})
	for _, tc := range []struct {
		addr, host string
		port       uint16
		want       string
	}{
		{"10.0.0.1:80", "", 0, "exact"},
		{"[::ffff:10.0.0.1]:80", "", 0, "exact"},
		{"[fd00::1]:80", "", 0, "exact"},
		{"10.0.0.1:443", "", 0, "exact443"},
		{"10.0.0.1:81", "", 0, ""},
		{"10.2.0.1:80", "", 0, "wide"},
		{"10.1.0.1:80", "", 0, "narrow"},
		{"10.9.0.1:81", "", 0, "workload/u1"},
		{"10.9.0.1:80", "", 0, "wide"}, // a service range comes before a workload
		{"11.0.0.1:80", "", 0, ""},
		{"", "cart.shop.mesh", 80, "exact"},
		{"", "CART.shop.mesh.", 80, "exact"},
		{"", "cart.shop.mesh", 81, ""},
		{"", "x.example.com", 80, "wild"},
		{"", "x.y.example.com", 80, "wild"},
		{"", "x.a.example.com", 80, "wilder"},
		{"", "example.com", 80, ""},
	} {
		var a netip.AddrPort
		if tc.addr != "" {
			a = netip.MustParseAddrPort(tc.addr)
		}
		got := ""
		if c := s.Lookup(a, tc.host, tc.port); c != nil {
			got = c.Spec.Key
		}
		if got != tc.want {
			t.Errorf("Lookup(%q, %q, %d) = %q, want %q", tc.addr, tc.host, tc.port, got, tc.want)
		}
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "belongs to exact") {
		t.Errorf("problems %v, want one about the claimed address", problems)
	}
	if w := s.WorkloadByAddr(netip.MustParseAddr("::ffff:10.9.0.1")); w == nil || w.UID != "u1" {
		t.Error("workload not found by its mapped address")
	}
	var none *Snapshot
	if none.Lookup(netip.AddrPort{}, "x", 1) != nil || none.WorkloadByAddr(netip.Addr{}) != nil {
		t.Error("the nil snapshot serves something")
	}
}

func TestTables(t *testing.T) {
	m := model(2)
	d := m.Destinations[0]
	rule := func(route string, ref int) []routing.Rule {
		return []routing.Rule{{Route: route, Kind: "HTTPRoute", Retry: -1, Backends: []routing.Backend{{Ref: ref, Weight: 1}}}}
	}
	d.Refs = []string{m.Destinations[1].Backend}
	d.Routes, d.Consumers = rule("shop/a", 0), map[string][]routing.Rule{"clients": rule("clients/b", 0)}
	s, _ := Compile(m, nil, Env{})
	c := s.Chain(d.Key)
	for ns, want := range map[string]string{"": "shop/a", "other": "shop/a", "clients": "clients/b"} {
		if got := c.Table(ns).Rules()[0].Rule.Route; got != want {
			t.Errorf("Table(%q) has %s, want %s", ns, got, want)
		}
	}
	if !c.HTTPOnly || c.Target(0) != s.Target(d.Refs[0]) || c.Target(1) != c.Default || c.Retry(-1) != nil {
		t.Error("chain with routes is wrong")
	}
	// Without routes the only rule is the default one.
	e := s.Chains()[1]
	if r := e.Table("").Rules(); len(r) != 1 || e.Target(r[0].Backends[0].Ref) != e.Default || r[0].Rule.Retry != -1 || e.HTTPOnly {
		t.Error("default rule is wrong")
	}
}

func TestBrokenRuleIsReported(t *testing.T) {
	m := model(1)
	m.Destinations[0].Routes = []routing.Rule{{
		Route: "shop/r", Kind: "HTTPRoute", Index: 2, Retry: -1,
		Matches:  []routing.Match{{Path: routing.PathMatch{Kind: routing.PathRegex, Value: "("}}},
		Backends: []routing.Backend{{Ref: 0, Weight: 1}},
	}}
	s, ps := Compile(m, nil, Env{})
	if len(ps) == 0 || ps[0].Kind != "HTTPRoute" || ps[0].Namespace != "shop" || !strings.HasPrefix(ps[0].Field, "spec.rules[2].") {
		t.Errorf("problems %+v", ps)
	}
	if s.Chains()[0].Table("").Rules()[0].Broken == "" {
		t.Error("the rule is not broken")
	}
	// A chain that is taken over keeps reporting.
	if _, again := Compile(m, s, Env{}); len(again) != len(ps) {
		t.Errorf("%d problems, then %d", len(ps), len(again))
	}
}

func TestStages(t *testing.T) {
	m := model(1)
	d := m.Destinations[0]
	d.Stages = []Stage{{Kind: StageJWT, Spec: "v1"}, {Kind: StageAuthz, Policies: []authz.Policy{{Namespace: "n", Name: "p", Invalid: "x"}}}}
	compile := func(prev *Snapshot, env Env) *Chain {
		x := *d
		m.Destinations[0] = &x
		s, _ := Compile(m, prev, env)
		return s.Chains()[0]
	}
	if c := compile(nil, Env{}); c.Broken == "" {
		t.Error("a JWT stage that nobody runs is open")
	}
	good := Env{Stage: func(_ *Destination, st *Stage, prev any) (any, error) { return fmt.Sprint("run ", st.Spec), nil }}
	bad := Env{Stage: func(*Destination, *Stage, any) (any, error) { return nil, errors.New("no keys") }}
	if c := compile(nil, bad); c.Broken == "" || len(c.Problems) != 1 {
		t.Error("a stage that fails without a last good version is open")
	}
	s, _ := Compile(m, nil, good)
	if c := s.Chains()[0]; c.Broken != "" || c.Stages[0].Run != "run v1" || !c.HTTPOnly || c.Stages[1].Authz == nil {
		t.Errorf("chain %+v", c)
	}
	if c := compile(s, bad); c.Broken != "" || c.Stages[0].Run != "run v1" || len(c.Problems) != 1 {
		t.Error("the last good version does not serve")
	}
}

func TestDirect(t *testing.T) {
	w := &Workload{UID: "u", Name: "p", Namespace: "shop", TrustDomain: "td", ServiceAccount: "cart", Tunnel: true, Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}
	m := &Model{Workloads: []*Workload{w}, Destinations: []*Destination{{Key: "workload/u", Workload: true, Addrs: []netip.Prefix{prefix("10.9.0.1")}}}}
	s, _ := Compile(m, nil, Env{})
	c := s.Lookup(netip.MustParseAddrPort("10.9.0.1:81"), "", 0)
	a := netip.MustParseAddrPort("10.9.0.1:81")
	tg := c.Direct(a)
	e := tg.Set.Load().Endpoints()[0]
	if e.Addr != a || e.Identity != "spiffe://td/ns/shop/sa/cart" || e.Tunnel.Port() != TunnelPort || c.Direct(a) != tg {
		t.Errorf("endpoint %+v", e)
	}
	if n := testing.AllocsPerRun(100, func() { c.Direct(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for p := range uint16(2 * maxDirect) {
		c.Direct(netip.AddrPortFrom(a.Addr(), 1000+p))
	}
	if len(c.direct.m) != maxDirect {
		t.Errorf("%d ports are kept, want %d", len(c.direct.m), maxDirect)
	}
	if x := c.Direct(netip.AddrPortFrom(a.Addr(), 5000)); !x.Set.Load().Endpoints()[0].Host.Gone.Load() {
		t.Error("a port beyond the bound is pooled")
	}
	// The same pod under a new policy keeps its connections; another pod does not.
	var st Store
	st.Swap(s)
	d := *m.Destinations[0]
	m.Destinations = []*Destination{&d}
	s2, _ := Compile(m, s, Env{})
	st.Swap(s2)
	if s2.Chains()[0].Direct(a) != tg || e.Host.Gone.Load() {
		t.Error("a policy change dropped connections")
	}
	v := *w
	v.ServiceAccount = "other"
	m2 := &Model{Workloads: []*Workload{&v}, Destinations: m.Destinations}
	s3, _ := Compile(m2, s2, Env{})
	st.Swap(s3)
	if s3.Chains()[0].Direct(a) == tg || !e.Host.Gone.Load() {
		t.Error("another identity got the old connections")
	}
}

func TestStoreWatch(t *testing.T) {
	var st Store
	var calls atomic.Int32
	stop := st.Watch(func(old, n *Snapshot) {
		calls.Add(1)
		if old == n {
			t.Error("old is new")
		}
	})
	if st.Load() != nil {
		t.Error("the zero store serves")
	}
	s, _ := Compile(model(1), nil, Env{})
	if old := st.Swap(s); old != nil || st.Load() != s {
		t.Error("swap")
	}
	stop()
	n, _ := Compile(model(1), s, Env{})
	st.Swap(n)
	if calls.Load() != 1 || n.Version != s.Version+1 {
		t.Errorf("%d calls, version %d", calls.Load(), n.Version)
	}
}

func TestRouteTCP(t *testing.T) {
	m := model(1)
	d := m.Destinations[0]
	d.Refs = []string{d.Backend}
	bs := []routing.Backend{{Ref: 0, Weight: 1}}
	d.TCPRoutes = []TCPRoute{{Route: "a/b", SNI: []string{"*.example.com"}, Backends: bs}}
	s, _ := Compile(m, nil, Env{})
	c := s.Chains()[0]
	if r, ok := c.RouteTCP("x.example.com"); !ok || r == nil || c.Target(r.Pick.Backends[0].Ref) == nil {
		t.Error("no route for a matching name")
	}
	if _, ok := c.RouteTCP("other"); ok {
		t.Error("a name that no route has is forwarded")
	}
}

// The longest prefix wins, whatever the order of insertion.
func TestPrefixTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tab prefixTable
		type pair struct {
			p netip.Prefix
			c *Chain
		}
		var all []pair
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			a := netip.AddrFrom4([4]byte{10, rapid.Byte().Draw(t, "b") & 3, rapid.Byte().Draw(t, "c") & 3, 0})
			p := netip.PrefixFrom(a, rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
			c := &Chain{}
			if tab.add(p, 80, c) == nil {
				all = append(all, pair{p, c})
			}
		}
		ip := netip.AddrFrom4([4]byte{10, rapid.Byte().Draw(t, "x") & 3, rapid.Byte().Draw(t, "y") & 3, 0})
		var want *Chain
		best := -1
		for _, x := range all {
			if x.p.Contains(ip) && x.p.Bits() > best {
				want, best = x.c, x.p.Bits()
			}
		}
		if tab.lookup(ip, 80) != want {
			t.Fatalf("wrong prefix for %v", ip)
		}
	})
}
