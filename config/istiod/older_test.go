package istiod

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// testdata/istiod-1.28 is cut out of what a live istiod 1.28 sent, with several
// networks, for the objects of 03-authz and 10-multinetwork. Beside that of 1.31 it
// looks for addresses before names, its CUSTOM rules do not carry the provider's name,
// its default route holds max_stream_duration and another retry policy, or none, and
// its clusters leave the panic threshold to Envoy.
func TestOlderIstiod(t *testing.T) {
	m := load(t, filepath.Join("testdata", "istiod-1.28")).Model()
	for _, p := range m.Problems {
		t.Errorf("%s %s: %s", p.Kind, p.Name, p.Message)
	}
	s := compile(t, m)

	for addr, x := range map[string]struct {
		host     string
		protocol config.Protocol
	}{
		"10.96.1.2:80":   {"cart" + dom, config.ProtocolHTTP},
		"10.96.1.6:5432": {"db" + dom, config.ProtocolTCP},
		"10.96.1.7:7000": {"auto" + dom, config.ProtocolAuto},
		"240.240.0.9:80": {"global.shop.mesh", config.ProtocolHTTP},
	} {
		to := netip.MustParseAddrPort(addr)
		c := s.Lookup(to, "", 0)
		if c == nil || c != s.Lookup(netip.AddrPort{}, x.host, to.Port()) || c.Spec.Protocol != x.protocol {
			t.Errorf("%s and %s:%d do not lead to one destination of protocol %v", addr, x.host, to.Port(), x.protocol)
		}
	}

	cart := chainOf(t, s, "cart"+dom+":80")
	p, _, hit := cart.Stages[0].Authz.Custom(ask{peer: curl, path: "/checkout/x"}.request())
	if cart.Stages[0].Kind != config.StageCustom || !hit {
		t.Fatal("the provider is not asked")
	}
	if e := cart.Spec.Stages[0].Spec.(*extauthz.Config); e.Backend != "outbound|8081||h2c"+dom || m.Backends[e.Backend] == nil || e.FailOpen {
		t.Errorf("provider %q: %+v", p, e)
	}
	if _, _, hit := cart.Stages[0].Authz.Custom(ask{peer: curl, path: "/"}.request()); hit {
		t.Error("asked about a path that no policy names")
	}
	if ok, _ := allowed(cart, ask{peer: "cluster.local/ns/untrusted/sa/x", path: "/"}.request()); ok {
		t.Error("the Gateway's own policy does not hold")
	}
	if ok, _ := allowed(chainOf(t, s, "pay"+dom+":9000"), ask{peer: curl, path: "/"}.request()); ok {
		t.Error("a policy without rules denies everything")
	}
	db := chainOf(t, s, "db"+dom+":5432")
	if d := db.Conn.CheckConn(ask{peer: curl, port: 5432}.request().Conn); d.Allowed {
		t.Errorf("db: %+v", d)
	}

	rule := cart.Spec.Routes[0]
	if r := cart.Retry(rule.Retry); r == nil || r.On != resilience.OnResetBeforeRequest || r.Attempts != 2 || rule.Timeout != 0 || rule.MaxDuration != 0 {
		t.Errorf("rule %+v retries %+v", rule, r)
	}
	pay := chainOf(t, s, "pay"+dom+":9000")
	if r := pay.Retry(pay.Spec.Routes[0].Retry); r == nil || r.On != 0 {
		t.Errorf("a route without a policy retries: %+v", r)
	}
	if b := m.Backends["inbound-vip|80|http|cart"+dom]; b.Balance.PanicThreshold != envoyPanic {
		t.Errorf("panic threshold %d", b.Balance.PanicThreshold)
	}

	far := slices.ContainsFunc(s.Lookup(netip.AddrPort{}, "global.shop.mesh", 80).Default.Set.Load().Endpoints(), func(e *balance.Endpoint) bool {
		return e.Double && e.Tunnel.String() == "172.18.0.200:15008" && e.Authority == "global.shop.mesh:80"
	})
	if !far {
		t.Error("no endpoint behind the other network's gateway")
	}
}
