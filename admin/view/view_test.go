package view

import (
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func snapshot(t *testing.T) *config.Snapshot {
	t.Helper()
	m := &config.Model{
		Mesh: config.Mesh{TrustDomain: "cluster.local", Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}},
		Destinations: []*config.Destination{{
			Key: "cart:80", Addrs: []netip.Prefix{netip.MustParsePrefix("10.96.0.10/32")}, Port: 80, Protocol: config.ProtocolHTTP,
			Stages: []config.Stage{{Kind: config.StageAuthz, Policies: []authz.Policy{
				{Namespace: "shop", Name: "bad", Invalid: "unknown field"}, {Namespace: "shop", Name: "dry", Action: authz.Deny, DryRun: true},
			}}},
			Refs: []string{"cart|80"}, Backend: "cart|80",
			Routes: []routing.Rule{{Route: "shop/r", Kind: "HTTPRoute", Retry: -1, Fault: -1, Session: -1, Hash: -1, Backends: []routing.Backend{{Weight: 1}}}},
		}},
		Backends: map[string]*config.Backend{"cart|80": {Key: "cart|80", Settings: resilience.Settings{MaxPending: 7, MaxRequests: math.MaxUint32}, Endpoints: []*balance.Endpoint{
			{Key: "a", Addr: netip.MustParseAddrPort("10.0.0.7:8080"), Tunnel: netip.MustParseAddrPort("10.0.0.7:15008"), Identity: "spiffe://x"},
			{Key: "b", Hostname: "db.example", Health: balance.Unhealthy},
		}}},
		Workloads: []*config.Workload{{UID: "w", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")}}},
	}
	s, _ := config.Compile(m, nil, config.Env{State: func(*config.Backend, any) any { return usage{} }})
	new(config.Store).Swap(s)
	return s
}

// usage stands for the state of a backend.
type usage struct{}

func (usage) Usage() resilience.Usage {
	return resilience.Usage{Connections: 1, Pending: 2, Requests: 3, Retries: 4, PendingRefused: 5}
}

func TestConfig(t *testing.T) {
	d := Config(snapshot(t), []config.Problem{{Severity: config.Error, Kind: "HTTPRoute", Namespace: "shop", Name: "r", Message: "broken"}})
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"addresses":["10.96.0.10"]`, `"protocol":"http"`, "ALLOW shop/bad INVALID, denies everything: unknown field", "DENY shop/dry (dry run)",
		`"waypoint":"shop/waypoint"`, `"severity":"error"`, `"object":"HTTPRoute shop/r"`, `"workloads":1`, "shop/r",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
	if empty := Config(nil, nil); len(empty.Destinations) != 0 || empty.Problems == nil {
		t.Errorf("nothing served is %+v", empty)
	}
}

func TestBackends(t *testing.T) {
	got := Backends(snapshot(t))
	if len(got) != 1 || len(got[0].Endpoints) != 2 || got[0].Available != 1 {
		t.Fatalf("%+v", got)
	}
	if want := (Limits{Connections: Limit{InUse: 1}, Pending: Limit{2, 7, 5}, Requests: Limit{InUse: 3}, Retries: Limit{InUse: 4}}); *got[0].Limits != want {
		t.Errorf("limits %+v, want %+v", *got[0].Limits, want)
	}
	if e := got[0].Endpoints; e[0].Tunnel != "10.0.0.7:15008" || e[1].Address != "db.example" || e[1].Health != "unhealthy" {
		t.Errorf("%+v", e)
	}
}

func TestCertsHoldNoKey(t *testing.T) {
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	src := ca.Source("shop", "waypoint", time.Hour)
	defer src.Close()
	c := Certs(src)
	if len(c.Chain) != 1 || c.Chain[0].Identity != "spiffe://cluster.local/ns/shop/sa/waypoint" || len(c.Roots) != 1 || c.TrustDomains[0] != "cluster.local" {
		t.Errorf("%+v", c)
	}
	b, _ := json.Marshal(c)
	if strings.Contains(string(b), "PRIVATE") || strings.Contains(string(b), "BEGIN") {
		t.Errorf("raw material in %s", b)
	}
}
