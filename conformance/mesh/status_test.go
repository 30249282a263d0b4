package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const controllerName = "waypoint.dev/gateway-controller"

var (
	httpRoutes = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	grpcRoutes = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "grpcroutes"}
)

// statusOf reads a route's status, with its generation.
func statusOf(t *testing.T, kind schema.GroupVersionResource, ns, name string) (int64, []gatewayv1.RouteParentStatus) {
	t.Helper()
	o, err := cluster.Dynamic.Resource(kind).Namespace(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Status gatewayv1.RouteStatus }
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return o.GetGeneration(), r.Status.Parents
}

// expectStatus waits until our controller's entry of a route has the conditions, given as
// type, status and reason.
func expectStatus(t *testing.T, kind schema.GroupVersionResource, ns, name string, want ...[3]string) {
	t.Helper()
	eventually(t, func() error {
		generation, parents := statusOf(t, kind, ns, name)
		for _, p := range parents {
			if p.ControllerName != controllerName {
				continue
			}
			for _, w := range want {
				found := false
				for _, c := range p.Conditions {
					if c.Type != w[0] {
						continue
					}
					found = true
					if string(c.Status) != w[1] || c.Reason != w[2] || c.ObservedGeneration != generation {
						return fmt.Errorf("%s/%s: %s is %s (%s: %s) of generation %d, want %s (%s) of %d", ns, name, c.Type, c.Status, c.Reason, c.Message, c.ObservedGeneration, w[1], w[2], generation)
					}
				}
				if !found {
					return fmt.Errorf("%s/%s: no condition %s among %v", ns, name, w[0], p.Conditions)
				}
			}
			return nil
		}
		return fmt.Errorf("%s/%s: no entry of ours among %v", ns, name, parents)
	})
}

func TestStatus(t *testing.T) {
	t.Parallel()
	const ns = "status"
	apps(t, ns, meshed(), "front")
	// A Service that no waypoint serves.
	if _, err := cluster.Apply(t.Context(), `{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: status, labels: {istio.io/use-waypoint: none}}, spec: {ports: [{name: http, port: 80}]}}`); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, rules string
		want        [][3]string
	}{
		{"good", `[{backendRefs: [{name: front, port: 80}]}]`, [][3]string{{"Accepted", "True", "Accepted"}, {"ResolvedRefs", "True", "ResolvedRefs"}}},
		{"missing", `[{backendRefs: [{name: nobody, port: 80}]}]`, [][3]string{{"Accepted", "True", "Accepted"}, {"ResolvedRefs", "False", "BackendNotFound"}}},
		{"kind", `[{backendRefs: [{kind: Nonsense, group: example.com, name: front, port: 80}]}]`, [][3]string{{"Accepted", "True", "Accepted"}, {"ResolvedRefs", "False", "InvalidKind"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			apply(t, route(ns, tc.name, "front", tc.rules))
			expectStatus(t, httpRoutes, ns, tc.name, tc.want...)
		})
	}

	t.Run("follows the generation", func(t *testing.T) {
		apply(t, route(ns, "moving", "front", `[{backendRefs: [{name: front, port: 80}]}]`))
		expectStatus(t, httpRoutes, ns, "moving", [3]string{"ResolvedRefs", "True", "ResolvedRefs"})
		apply(t, route(ns, "moving", "front", `[{backendRefs: [{name: gone, port: 80}]}]`))
		expectStatus(t, httpRoutes, ns, "moving", [3]string{"ResolvedRefs", "False", "BackendNotFound"})
	})

	t.Run("leaves others alone", func(t *testing.T) {
		apply(t, route(ns, "shared", "front", `[{backendRefs: [{name: front, port: 80}]}]`))
		other := `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"shared","namespace":"status"},"status":{"parents":[{"controllerName":"example.com/other","parentRef":{"group":"","kind":"Service","name":"front","port":80},"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2020-01-01T00:00:00Z","observedGeneration":1}]}]}}`
		if _, err := cluster.Dynamic.Resource(httpRoutes).Namespace(ns).Patch(t.Context(), "shared", types.MergePatchType, []byte(other), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		apply(t, route(ns, "shared", "front", `[{name: two, backendRefs: [{name: front, port: 80}]}]`))
		expectStatus(t, httpRoutes, ns, "shared", [3]string{"Accepted", "True", "Accepted"})
		_, parents := statusOf(t, httpRoutes, ns, "shared")
		for _, p := range parents {
			if p.ControllerName == "example.com/other" {
				return
			}
		}
		t.Errorf("the other controller's entry is gone: %v", parents)
	})

	t.Run("is silent where no waypoint serves", func(t *testing.T) {
		apply(t, route(ns, "silent", "bare", `[{backendRefs: [{name: front, port: 80}]}]`))
		apply(t, route(ns, "after", "front", `[{backendRefs: [{name: front, port: 80}]}]`))
		// Statuses are written in order, so this one comes after that of the silent route.
		expectStatus(t, httpRoutes, ns, "after", [3]string{"Accepted", "True", "Accepted"})
		if _, parents := statusOf(t, httpRoutes, ns, "silent"); len(parents) > 0 {
			t.Errorf("a status was written: %v", parents)
		}
	})
}

// TestConflict is GEP-1294: of an HTTPRoute and a GRPCRoute of one Service and port only
// one kind applies, and the other learns so.
func TestConflict(t *testing.T) {
	t.Parallel()
	const ns = "conflict"
	apps(t, ns, meshed(), "client", "front")
	grpc := func(name string) string {
		return fmt.Sprintf(`{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: %s, namespace: %s},
spec: {parentRefs: [{group: "", kind: Service, name: front, port: 80}], rules: [{matches: [{method: {service: a.B}}], backendRefs: [{name: front, port: 7070}]}]}}`, name, ns)
	}
	web := route(ns, "web", "front", `[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: web}]}}], backendRefs: [{name: front, port: 80}]}]`)
	c := newCaller(t, ns, "client")
	apply(t, grpc("rpc"))
	expectStatus(t, grpcRoutes, ns, "rpc", [3]string{"Accepted", "True", "Accepted"})
	apply(t, web)
	// GEP-1294: GRPCRoute is the more specific kind and wins, whatever their ages.
	expectStatus(t, httpRoutes, ns, "web", [3]string{"Accepted", "False", "Conflicted"})
	expectStatus(t, grpcRoutes, ns, "rpc", [3]string{"Accepted", "True", "Accepted"})
	if err := cluster.Delete(context.Background(), grpc("rpc")); err != nil {
		t.Fatal(err)
	}
	expectStatus(t, httpRoutes, ns, "web", [3]string{"Accepted", "True", "Accepted"})
	c.expect("GET", "http://front/", nil, func(a *answer) error {
		if a.header.Get("X-Route") != "web" {
			return fmt.Errorf("the HTTPRoute is not in force")
		}
		return nil
	})
}

// TestConsumerRoute: a route in the client's namespace replaces the producer's, for that
// namespace's clients, and falls back when it goes.
func TestConsumerRoute(t *testing.T) {
	t.Parallel()
	apps(t, "producer", meshed(), "front", "client")
	apps(t, "consumer", meshed(), "client")
	mark := func(v string) string {
		return `[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: ` + v + `}]}}], backendRefs: [{name: front, namespace: producer, port: 80}]}]`
	}
	consumer := `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: mine, namespace: consumer},
spec: {parentRefs: [{group: "", kind: Service, name: front, namespace: producer, port: 80}], rules: ` + mark("consumer") + `}}`
	near, far := newCaller(t, "producer", "client"), newCaller(t, "consumer", "client")
	want := func(c *caller, route string) {
		t.Helper()
		c.expect("GET", "http://front.producer/", nil, func(a *answer) error {
			if got := a.header.Get("X-Route"); a.status != http.StatusOK || got != route {
				return fmt.Errorf("answered by route %q, want %q", got, route)
			}
			return nil
		})
	}
	apply(t, route("producer", "theirs", "front", mark("producer")))
	want(near, "producer")
	want(far, "producer")
	apply(t, consumer)
	want(far, "consumer")
	want(near, "producer")
	expectStatus(t, httpRoutes, "consumer", "mine", [3]string{"Accepted", "True", "Accepted"})
	if err := cluster.Delete(context.Background(), consumer); err != nil {
		t.Fatal(err)
	}
	want(far, "producer")
}
