package main

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

// TestProxyReachesAnotherNetwork goes through the gateway of the network where the
// only living endpoint is.
func TestProxyReachesAnotherNetwork(t *testing.T) {
	const authority = "global.shop.mesh:80"
	pods["172.18.0.200"] = "127.0.7.200"
	r := prepareMesh(t, "10-multinetwork", time.Hour)
	far := netip.MustParseAddr("127.0.7.121")
	app, err := testmesh.NewApp("far", far.String()+":8080")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	node, err := testmesh.NewNode(far, r.source("shop", "web"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	node.Offer(authority, 8080)
	gw, err := testmesh.NewGateway(netip.MustParseAddr("127.0.7.200"), r.source("istio-system", "eastwest"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gw.Close() })
	gw.Offer(authority, far)
	r.startProxy("ISTIO_META_NETWORK=network-1")
	r.front = r.capture("240.240.0.9:80")
	r.eventually("the far pod answers", func() bool {
		code, _, h := r.get("/")
		return code == 200 && h.Get("X-App") == "far"
	})
	if s, o := gw.Sources(), node.Origins(); s[0] != "waypoint" || o[0] != "network-1" {
		t.Errorf("the gateway was told %q, the far node %q", s, o)
	}
}

// TestProxyCompliance starts under each policy and shakes hands with the key
// exchanges it allows, and with no others.
func TestProxyCompliance(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  []string
		good tls.CurveID
		bad  tls.CurveID
	}{
		{"pqc", []string{"COMPLIANCE_POLICY=pqc"}, tls.X25519MLKEM768, tls.CurveP256},
		{"fips", []string{"COMPLIANCE_POLICY=fips-140-2", "GODEBUG=fips140=on"}, tls.CurveP256, tls.X25519},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := prepareMesh(t, "01-basic", time.Hour)
			r.startProxy(tt.env...)
			if code, body, _ := r.get("/"); code != 200 {
				t.Fatalf("%d %s", code, body)
			}
			shake := func(c tls.CurveID) error {
				conf := identity.ClientTLS(identity.Restrict(r.source("clients", "curl"), []tls.CurveID{c}), nil)
				nc, err := tls.Dial("tcp", r.hbone.String(), conf)
				if err == nil {
					if got := nc.ConnectionState().CurveID; got != tt.good {
						t.Errorf("key exchange %v", got)
					}
					nc.Close()
				}
				return err
			}
			if err := shake(tt.good); err != nil {
				t.Errorf("%v: %v", tt.good, err)
			}
			if err := shake(tt.bad); err == nil {
				t.Errorf("%v was accepted", tt.bad)
			}
		})
	}
}
