package kube

import (
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

const overlaid = `
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: cart, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: cart}]
  circuitBreaker: {minRequests: 5, errorPercent: 40}
  outlierDetection: {alwaysEjectOneHost: true}
  localRateLimit: {requests: 10, per: 1s}
  retry: {attempts: 4, retryOn: reset}
---
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: waypoint, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}, {group: gateway.networking.k8s.io, kind: Gateway, name: other}]
  timeouts: {request: 7s}
---
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: route, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}, {group: "", kind: Service, name: gone}]
  timeouts: {request: 1s}
`

// Policies lie over a model of istiod's: at its services, found by name or host, and
// at everything for the Gateway; what stays keeps its pointers.
func TestOverlay(t *testing.T) {
	objs := NewObjects()
	list, err := Parse("p.yaml", []byte(overlaid))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		objs.Put(p)
	}
	rule := func(retry int) routing.Rule { return routing.Rule{Retry: retry, Fault: -1, Session: -1, Hash: -1} }
	own := &resilience.Retry{Attempts: 1, On: resilience.On5xx}
	cart := &config.Destination{Key: "cart", Backend: "cart", Service: config.Service{Host: "cart.shop.svc.cluster.local"}, Protocol: config.ProtocolHTTP,
		Routes: []routing.Rule{rule(0), rule(1)}, Retries: []*resilience.Retry{resilience.DefaultRetry(), own}}
	other := &config.Destination{Key: "other", Service: config.Service{Host: "x.example.com"}, Routes: []routing.Rule{rule(-1)}}
	back := &config.Backend{Key: "cart", Service: config.Service{Name: "cart", Namespace: "shop"}, Settings: resilience.Settings{Outlier: &resilience.Outlier{}}}
	plain := &config.Backend{Key: "x", Service: config.Service{Host: "x.example.com"}}
	m := &config.Model{Destinations: []*config.Destination{cart, other}, Backends: map[string]*config.Backend{"cart": back, "x": plain}}

	o := NewOverlay(config.Owner{Namespace: "shop", Name: "waypoint"})
	if o.Apply(m) != m {
		t.Error("changed without policies")
	}
	o.Set(objs)
	got := o.Apply(m)
	d := got.Destinations[0]
	if len(d.Stages) != 1 || d.Stages[0].Kind != config.StageRateLimit || !d.HTTPOnly {
		t.Errorf("stages %+v", d.Stages)
	}
	if p := d.Retries[d.Routes[0].Retry]; p.Attempts != 4 || p.On != resilience.OnReset {
		t.Errorf("a rule with Istio's default retries: %+v", p)
	}
	if p := d.Retries[d.Routes[1].Retry]; p != own {
		t.Errorf("a rule with retries of its own: %+v", p)
	}
	if d.Routes[0].Timeout != 7*time.Second || got.Destinations[1].Routes[0].Timeout != 7*time.Second || d.Service != cart.Service {
		t.Errorf("%+v, %+v", d.Routes[0], d.Service)
	}
	b := got.Backends["cart"]
	if b.Settings.Breaker == nil || b.Settings.Breaker.MinRequests != 5 || !b.Settings.Outlier.AlwaysEjectOne || got.Backends["x"] != plain {
		t.Errorf("backend %+v", b.Settings)
	}
	if len(cart.Stages) != 0 || cart.Routes[0].Retry != 0 || cart.Routes[0].Timeout != 0 || back.Settings.Breaker != nil || back.Settings.Outlier.AlwaysEjectOne {
		t.Error("the model itself was changed")
	}
	var said []string
	for _, p := range got.Problems {
		said = append(said, p.Reason+" "+p.Field+" "+p.Name)
	}
	if s := strings.Join(said, "; "); s != "NotApplied spec.targetRefs[0] route; TargetNotFound spec.targetRefs[1] route" {
		t.Errorf("problems: %s", s)
	}

	fresh := *other
	m2 := &config.Model{Destinations: []*config.Destination{cart, &fresh}, Backends: m.Backends}
	again := o.Apply(m2)
	if again.Destinations[0] != d || again.Backends["cart"] != b || again.Destinations[1] == got.Destinations[1] {
		t.Error("pointers of what stayed are lost")
	}
	o.Set(NewObjects())
	if o.Apply(m) != m {
		t.Error("policies that are gone still count")
	}
}
