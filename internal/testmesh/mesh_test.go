package testmesh

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/resilience/balance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// model is one service at 10.96.0.10:80 served by the pod.
func model(pod netip.Addr, id string) *config.Model {
	key := "cart.shop.svc.cluster.local|80"
	return &config.Model{
		Mesh: config.Mesh{TrustDomain: "cluster.local"},
		Destinations: []*config.Destination{{
			Key: "cart.shop.svc.cluster.local:80", Addrs: []netip.Prefix{netip.MustParsePrefix("10.96.0.10/32")}, Port: 80,
			Protocol: config.ProtocolHTTP, Backend: key, Refs: []string{key},
			Service: config.Service{Host: "cart.shop.svc.cluster.local", Name: "cart", Namespace: "shop", Port: 80},
		}},
		Backends: map[string]*config.Backend{key: {
			Key: key, Protocol: config.ProtocolHTTP,
			Endpoints: []*balance.Endpoint{{Key: pod.String() + ":8080", Addr: netip.AddrPortFrom(pod, 8080), Tunnel: netip.AddrPortFrom(pod, HBONEPort), Identity: id}},
		}},
	}
}

func TestRequestThroughTunnels(t *testing.T) {
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	source := func(ns, sa string) identity.Source {
		s := ca.Source(ns, sa, time.Hour)
		t.Cleanup(func() { s.Close() })
		return s
	}
	pod := netip.MustParseAddr("127.0.3.1")
	app, err := NewApp("cart", pod.String()+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	node, err := NewNode(pod, source("shop", "cart"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	w, err := NewWaypoint(WaypointOptions{Source: source("shop", "waypoint")})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if p := w.Serve(model(pod, identity.URI("cluster.local", "shop", "cart"))); len(p) > 0 {
		t.Fatal(p)
	}
	client := NewClient(source("clients", "curl"))
	defer client.Close()
	k, err := client.Capture("127.0.0.1:0", func() netip.AddrPort { return w.Addr }, "10.96.0.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	hc := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
	defer hc.CloseIdleConnections()
	for i := range 20 {
		req, _ := http.NewRequestWithContext(context.Background(), "GET", "http://"+k.Addr().String()+fmt.Sprintf("/items/%d?x=1", i), nil)
		req.Header.Set("X-Request-Id", fmt.Sprint("id-", i))
		res, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, b)
		}
		seen := app.Find(fmt.Sprint("id-", i))
		if len(seen) != 1 || seen[0].Path != fmt.Sprintf("/items/%d?x=1", i) {
			t.Fatalf("the app saw %+v", seen)
		}
	}
	if p := node.Peers(); p["spiffe://cluster.local/ns/shop/sa/waypoint"] == 0 || len(p) != 1 {
		t.Errorf("the node was called by %v", p)
	}
}
