package kube

import (
	"testing"

	"waypoint.dev/waypoint/config"
)

// A TCPRoute of a client's namespace acts on that namespace's clients only, and a
// rule's session is found by its index.
func TestConsumerTCP(t *testing.T) {
	m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), manifest(t, "testdata/own.in.yaml")))
	s, _ := config.Compile(m, nil, config.Env{Stage: func(*config.Destination, *config.Stage, any) (any, error) { return nil, nil }})
	c := s.Chain("cart.shop.svc.cluster.local:9000")
	if r, ok := c.RouteTCPFor("clients", ""); !ok || r == nil || c.Target(r.Pick.Backends[0].Ref).Key != "cart-v2.shop.svc.cluster.local|80" {
		t.Errorf("clients: %+v %v", r, ok)
	}
	for _, ns := range []string{"shop", ""} {
		if r, ok := c.RouteTCPFor(ns, ""); !ok || r != nil {
			t.Errorf("%q: %+v %v", ns, r, ok)
		}
	}
	c = s.Chain(cartKey)
	if x := c.Session(c.Spec.Routes[0].Session); x == nil || x.Path != "/cart" || !x.Permanent || x.Scope != "HTTPRoute/shop/r/sticky" {
		t.Errorf("session %+v", x)
	}
	if c.Session(-1) != nil || c.Session(99) != nil {
		t.Error("a session where there is none")
	}
}
