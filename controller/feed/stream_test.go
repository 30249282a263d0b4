package feed

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	gstatus "google.golang.org/grpc/status"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/xds"
	"waypoint.dev/waypoint/xds/objects"
)

// stream is a waypoint that a test drives by hand.
type stream struct {
	t *testing.T
	s discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func (r *rig) stream(t *testing.T, gateway, token string, has map[string]string) *stream {
	t.Helper()
	ns, name, _ := verify(context.Background(), gateway)
	file := filepath.Join(t.TempDir(), "token")
	os.WriteFile(file, []byte(token), 0o600)
	cc, err := xds.Dial(xds.Transport{Address: r.addr, ServerName: "controller.test", RootFile: r.roots, TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(func() { cancel(); cc.Close() })
	s, err := discovery.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	node, err := objects.NewNode(config.Owner{Namespace: ns, Name: name}, "test")
	if err != nil {
		t.Fatal(err)
	}
	x := &stream{t, s}
	x.send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: objects.TypeURL, InitialResourceVersions: has})
	return x
}

func (x *stream) send(r *discovery.DeltaDiscoveryRequest) {
	// Of a stream that the server has ended Recv tells why.
	if err := x.s.Send(r); err != nil && err != io.EOF {
		x.t.Fatal(err)
	}
}

func (x *stream) ack(r *discovery.DeltaDiscoveryResponse) {
	x.send(&discovery.DeltaDiscoveryRequest{TypeUrl: objects.TypeURL, ResponseNonce: r.Nonce})
}

// state reads responses until a state is complete and acknowledges them.
func (x *stream) state() (got map[string]string, removed []string, responses int) {
	x.t.Helper()
	got = map[string]string{}
	for {
		r, err := x.s.Recv()
		if err != nil {
			x.t.Fatal(err)
		}
		responses++
		done := false
		for _, u := range r.Resources {
			if u.Name == objects.Complete {
				done = true
				continue
			}
			got[u.Name] = u.Version
		}
		removed = append(removed, r.RemovedResources...)
		x.ack(r)
		if done {
			slices.Sort(removed)
			return got, removed, responses
		}
	}
}

func names(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// fillShop puts a waypoint, a service with an endpoint, and things of others.
func fillShop(t *testing.T, r *rig) {
	for i, j := range []string{
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"istio.io/use-waypoint":"waypoint"}}}`,
		`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"waypoint","namespace":"shop"},"spec":{"gatewayClassName":"waypoint"}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"cart","namespace":"shop"},"spec":{"clusterIP":"10.0.0.1","ports":[{"name":"http","port":80}]}}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cart-1","namespace":"shop","managedFields":[{"x":1}]},"spec":{},"status":{"podIP":"10.1.0.1"}}`,
		`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"cart-x","namespace":"shop","labels":{"kubernetes.io/service-name":"cart"}},"addressType":"IPv4","ports":[{"name":"http","port":80}],"endpoints":[{"addresses":["10.1.0.1"],"targetRef":{"kind":"Pod","name":"cart-1"}}]}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"ledger","namespace":"bank"},"spec":{"clusterIP":"10.0.0.2","ports":[{"name":"http","port":80}]}}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"ledger-1","namespace":"bank"},"spec":{},"status":{"podIP":"10.1.0.2"}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"key","namespace":"shop"},"data":{"tls.key":"c2VjcmV0"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"shop"},"data":{"a":"b"}}`,
	} {
		if err := r.store.Put(objectOf(t, fmt.Sprint(i+1), "%s", j)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStateChangesAndReconnect(t *testing.T) {
	r := newRig(t, Options{})
	fillShop(t, r)
	x := r.stream(t, "shop/waypoint", "shop/waypoint", nil)
	r.store.SetSynced()
	has, removed, _ := x.state()
	want := []string{"EndpointSlice/shop/cart-x", "Gateway/shop/waypoint", "Namespace//shop", "Pod/shop/cart-1", "Service/shop/cart"}
	if !slices.Equal(names(has), want) || len(removed) > 0 {
		t.Fatalf("first state %v, removed %v", names(has), removed)
	}

	// A route brings its backend of another namespace, which goes with it.
	route := objectOf(t, "20", `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r","namespace":"shop"},"spec":{"parentRefs":[{"group":"","kind":"Service","name":"cart"}],"rules":[{"backendRefs":[{"name":"ledger","namespace":"bank","port":80}]}]}}`)
	if err := r.store.Put(route); err != nil {
		t.Fatal(err)
	}
	if got, removed, _ := x.state(); !slices.Equal(names(got), []string{"HTTPRoute/shop/r", "Service/bank/ledger"}) || len(removed) > 0 {
		t.Errorf("a route: %v, removed %v", names(got), removed)
	}
	r.store.Delete(route.Key)
	if got, removed, _ := x.state(); len(got) > 0 || !slices.Equal(removed, []string{"HTTPRoute/shop/r", "Service/bank/ledger"}) {
		t.Errorf("without it: %v, removed %v", names(got), removed)
	}

	// What no waypoint reads is not sent; the next change is.
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"cart-1","namespace":"shop"%s},"spec":{},"status":{"podIP":"10.1.0.1","conditions":[%s]}}`
	r.store.Put(objectOf(t, "30", pod, `,"annotations":{"x":"y"}`, `{"type":"Initialized","status":"True"}`))
	r.store.Put(objectOf(t, "31", pod, "", `{"type":"Ready","status":"False"}`))
	if got, _, _ := x.state(); !maps.Equal(got, map[string]string{"Pod/shop/cart-1": "31"}) {
		t.Errorf("a pod: %v", got)
	}

	// Another stream says what it has, and gets what differs.
	has["Pod/shop/cart-1"], has["Service/shop/gone"] = "31", "7"
	has["Namespace//shop"] = "0"
	y := r.stream(t, "shop/waypoint", "shop/waypoint", has)
	if got, removed, _ := y.state(); !maps.Equal(got, map[string]string{"Namespace//shop": "1"}) || !slices.Equal(removed, []string{"Service/shop/gone"}) {
		t.Errorf("after a reconnect: %v, removed %v", got, removed)
	}

	// A watch that starts again changes what differs and nothing else.
	if err := r.store.Replace("", "Pod", []Object{objectOf(t, "31", pod, "", `{"type":"Ready","status":"False"}`), objectOf(t, "40", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"new","namespace":"shop"},"spec":{}}`)}); err != nil {
		t.Fatal(err)
	}
	if got, removed, _ := x.state(); !maps.Equal(got, map[string]string{"Pod/shop/new": "40"}) || len(removed) > 0 {
		t.Errorf("a list: %v, removed %v", got, removed)
	}
	y.state()
	if st := r.server.Stats(); st.Streams != 2 || st.Waypoints != 1 || st.Objects != 8-1+1-1 || !st.Synced || st.Pending != 0 {
		t.Errorf("stats %+v", st)
	}
}

// Nothing goes before the store is synced: what is not read yet would look deleted.
func TestNothingBeforeSynced(t *testing.T) {
	r := newRig(t, Options{})
	x := r.stream(t, "shop/waypoint", "shop/waypoint", map[string]string{"Service/shop/cart": "3", "Pod/shop/cart-1": "4"})
	// The server has taken the request once it counts among the early ones.
	for early := 0; early == 0; time.Sleep(time.Millisecond) {
		r.store.mu.Lock()
		early = len(r.store.early)
		r.store.mu.Unlock()
	}
	fillShop(t, r)
	r.store.SetSynced()
	got, removed, _ := x.state()
	if !slices.Equal(names(got), []string{"EndpointSlice/shop/cart-x", "Gateway/shop/waypoint", "Namespace//shop"}) || len(removed) > 0 {
		t.Errorf("%v, removed %v", names(got), removed)
	}
}

// A large state goes in parts, one at a time.
func TestParts(t *testing.T) {
	r := newRig(t, Options{})
	fillShop(t, r)
	pad := strings.Repeat("x", 300<<10)
	for i := range 5 {
		r.store.Put(objectOf(t, "1", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s%d","namespace":"shop","labels":{"pad":"%s"}},"spec":{}}`, i, pad))
	}
	r.store.SetSynced()
	x := r.stream(t, "shop/waypoint", "shop/waypoint", nil)
	got, _, parts := x.state()
	if len(got) != 10 || parts < 2 {
		t.Errorf("%d objects in %d responses", len(got), parts)
	}
}

func TestRefusalIsCounted(t *testing.T) {
	r := newRig(t, Options{})
	fillShop(t, r)
	r.store.SetSynced()
	x := r.stream(t, "shop/waypoint", "shop/waypoint", nil)
	m, err := x.s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	x.send(&discovery.DeltaDiscoveryRequest{TypeUrl: objects.TypeURL, ResponseNonce: m.Nonce, ErrorDetail: &status.Status{Message: "Service/shop/cart: no"}})
	r.store.Put(objectOf(t, "9", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"new"}}`))
	if got, _, _ := x.state(); !slices.Equal(names(got), []string{"Namespace//new"}) {
		t.Errorf("after a refusal: %v", names(got))
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r.server)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		values[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
	}
	if values["waypoint_feed_refused_total"] != 1 || values["waypoint_feed_objects"] != 8 || values["waypoint_feed_object_bytes"] == 0 || values["waypoint_feed_streams"] != 1 || values["waypoint_feed_responses_total"] != 2 {
		t.Errorf("metrics %v", values)
	}
}

// Who cannot prove to run a Gateway gets nothing of what concerns it.
func TestCallers(t *testing.T) {
	down := gstatus.Error(codes.Unavailable, "the API server is away")
	r := newRig(t, Options{MaxStreams: 4, Verify: func(ctx context.Context, token string) (string, string, error) {
		switch token {
		case "down":
			return "", "", down
		case "nobody":
			return "", "", nil
		}
		return verify(ctx, token)
	}})
	fillShop(t, r)
	r.store.SetSynced()
	for _, c := range []struct {
		name, gateway, token string
		want                 codes.Code
	}{
		{"no token", "shop/waypoint", "", codes.Unauthenticated},
		{"a token that is not known", "shop/waypoint", "wrong", codes.Unauthenticated},
		{"a token of nobody", "shop/waypoint", "nobody", codes.Unauthenticated},
		{"a check that fails", "shop/waypoint", "down", codes.Unavailable},
		{"another account", "shop/waypoint", "shop/cart", codes.PermissionDenied},
		{"the same name elsewhere", "shop/waypoint", "bank/waypoint", codes.PermissionDenied},
	} {
		x := r.stream(t, c.gateway, c.token, nil)
		_, err := x.s.Recv()
		if gstatus.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	x := r.stream(t, "shop/waypoint", "shop/waypoint", nil)
	x.state()
	x.send(&discovery.DeltaDiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"})
	if _, err := x.s.Recv(); gstatus.Code(err) != codes.InvalidArgument {
		t.Errorf("another type: %v", err)
	}
	if st := r.server.Stats(); st.Waypoints != 0 {
		t.Errorf("a view that nobody asks for: %+v", st)
	}
}

func TestPutRefusesWhatItIsNot(t *testing.T) {
	s := NewStore(Mesh{})
	good := objectOf(t, "1", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"b"}}`)
	for name, o := range map[string]Object{
		"no JSON":        {Key: good.Key, JSON: []byte("{")},
		"another object": {Key: objectOf(t, "1", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","namespace":"b"}}`).Key, JSON: good.JSON},
	} {
		if err := s.Put(o); err == nil {
			t.Errorf("%s is taken", name)
		}
		if err := s.Replace("", "Service", []Object{o, good}); err == nil || s.Len() != 1 {
			t.Errorf("%s in a list: %v, %d objects", name, err, s.Len())
		}
		s.Delete(good.Key)
	}
	if s.Delete(good.Key); s.Len() != 0 {
		t.Errorf("%d objects", s.Len())
	}
}

// A stream ends when it is old, after nine tenths of MaxAge at the earliest, and its
// caller has to prove itself again. What the caller holds then is not sent again.
func TestOldStreamsEnd(t *testing.T) {
	const age = time.Second
	checks := make(chan string, 10)
	r := newRig(t, Options{MaxAge: age, Verify: func(ctx context.Context, token string) (string, string, error) {
		checks <- token
		return verify(ctx, token)
	}})
	fillShop(t, r)
	r.store.SetSynced()
	began := time.Now()
	x := r.stream(t, "shop/waypoint", "shop/waypoint", nil)
	has, _, _ := x.state()
	if len(has) == 0 {
		t.Fatal("nothing was sent")
	}
	// The server is idle meanwhile: nothing but the age ends the stream.
	_, err := x.s.Recv()
	if err != io.EOF {
		t.Fatalf("%v: not ended by the server in good order", err)
	}
	if took := time.Since(began); took < age*9/10 {
		t.Errorf("it ended after %v", took)
	}
	again := r.stream(t, "shop/waypoint", "shop/waypoint", has)
	if got, removed, _ := again.state(); len(got)+len(removed) != 0 {
		t.Errorf("sent again: %v, removed %v", names(got), removed)
	}
	if len(checks) != 2 {
		t.Errorf("%d checks of the token", len(checks))
	}
}
