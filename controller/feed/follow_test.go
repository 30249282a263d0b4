package feed

import (
	"slices"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
)

// taken says what a Follower took: names, with a minus for what is gone.
func taken(f *Follower) (out []string) {
	for _, c := range f.Take() {
		s := c.Key.Kind + "/" + c.Key.Namespace + "/" + c.Key.Name
		if c.Object == nil {
			s = "-" + s
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// A follower in this process gets what a stream gets, of the kinds that it reads.
func TestFollower(t *testing.T) {
	s := NewStore(Mesh{})
	r := &rig{store: s}
	fillShop(t, r)
	woken := 0
	routes := func(_, kind string) bool { return kind != "Pod" && kind != "EndpointSlice" }
	gw := config.Owner{Namespace: "shop", Name: "waypoint"}
	f := s.Follow(gw, routes, func() { woken++ })
	want := func(what string, wakes int, names ...string) {
		t.Helper()
		if got := taken(f); !slices.Equal(got, names) || woken != wakes {
			t.Errorf("%s: %v, woken %d times; want %v, %d", what, got, woken, names, wakes)
		}
	}
	want("before the store is synced", 0)
	s.SetSynced()
	want("at first", 1, "Gateway/shop/waypoint", "Namespace//shop", "Service/shop/cart")
	want("no change", 1)

	route := objectOf(t, "20", `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r","namespace":"shop"},"spec":{"parentRefs":[{"group":"","kind":"Service","name":"cart"}],"rules":[{"backendRefs":[{"name":"ledger","namespace":"bank","port":80}]}]}}`)
	s.Put(route)
	s.Delete(objectOf(t, "21", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cart-1","namespace":"shop"}}`).Key)
	want("a route with its backend", 2, "HTTPRoute/shop/r", "Service/bank/ledger")
	s.Put(objectOf(t, "22", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cart-1","namespace":"shop"}}`))
	want("a kind that is not read", 2)

	// Another follower of the same Gateway gets everything, the same objects.
	g := s.Follow(gw, routes, func() {})
	one := map[kube.Key]*kube.Object{}
	for _, c := range g.Take() {
		one[c.Key] = c.Object
	}
	h := s.Follow(gw, routes, func() {})
	for _, c := range h.Take() {
		if c.Object != one[c.Key] || c.Object == nil {
			t.Errorf("%v is decoded twice", c.Key)
		}
	}
	g.Stop()
	h.Stop()

	s.Delete(route.Key)
	s.Put(objectOf(t, "23", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"ledger","namespace":"bank"},"spec":{"clusterIP":"10.0.0.9"}}`))
	want("what concerns it no more", 3, "-HTTPRoute/shop/r", "-Service/bank/ledger")
	f.Stop()
	s.Put(route)
	if woken != 3 || len(s.views) != 0 {
		t.Errorf("after its end: woken %d times, %d views", woken, len(s.views))
	}
}
