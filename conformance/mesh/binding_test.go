package mesh

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// peersOf are the identities that opened tunnels to a pod.
func peersOf(t *testing.T, ns, name string) map[string]int {
	t.Helper()
	s, ok := cluster.Mesh.Stats(ns, podOf(t, ns, name).Name)
	if !ok {
		t.Fatalf("%s/%s is not proxied", ns, name)
	}
	return s.Peers
}

// TestBinding chooses a waypoint for a namespace, for one Service and for one pod, and
// looks at who connects to the application: the waypoint, or the client itself.
func TestBinding(t *testing.T) {
	t.Parallel()
	ambient := map[string]string{"istio.io/dataplane-mode": "ambient"}
	spiffe := func(ns, sa string) string { return "spiffe://cluster.local/ns/" + ns + "/sa/" + sa }
	waypointID := spiffe(meshNamespace, waypointName)

	t.Run("namespace", func(t *testing.T) {
		apps(t, "bound-ns", meshed(), "client", "front")
		newCaller(t, "bound-ns", "client").expect("GET", "http://front/", nil, status(http.StatusOK))
		if p := peersOf(t, "bound-ns", "front"); p[waypointID] == 0 || len(p) != 1 {
			t.Errorf("tunnels were opened by %v", p)
		}
	})
	t.Run("service", func(t *testing.T) {
		apps(t, "bound-svc", ambient, "client", "front")
		c := newCaller(t, "bound-svc", "client")
		c.expect("GET", "http://front/", nil, status(http.StatusOK))
		if p := peersOf(t, "bound-svc", "front"); p[spiffe("bound-svc", "client")] == 0 || len(p) != 1 {
			t.Errorf("without a waypoint tunnels were opened by %v", p)
		}
		label := fmt.Sprintf(`{"metadata":{"labels":{"istio.io/use-waypoint":%q,"istio.io/use-waypoint-namespace":%q}}}`, waypointName, meshNamespace)
		if _, err := cluster.Client.CoreV1().Services("bound-svc").Patch(t.Context(), "front", types.MergePatchType, []byte(label), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		apply(t, route("bound-svc", "mark", "front", `[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: mark}]}}], backendRefs: [{name: front, port: 80}]}]`))
		eventually(t, func() error {
			c.CloseIdleConnections() // an open connection keeps its way
			a, err := c.do("GET", "http://front/")
			if err != nil {
				return err
			}
			if a.header.Get("X-Route") != "mark" {
				return fmt.Errorf("the Service's traffic goes past the waypoint")
			}
			return nil
		})
		if p := peersOf(t, "bound-svc", "front"); p[waypointID] == 0 {
			t.Errorf("tunnels were opened by %v", p)
		}
	})
	t.Run("pod", func(t *testing.T) {
		space(t, "bound-pod", ambient)
		if _, err := cluster.Apply(t.Context(), `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: workloads, namespace: bound-pod, labels: {istio.io/waypoint-for: workload}},
spec: {gatewayClassName: waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}`); err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{app("bound-pod", "client", ""), app("bound-pod", "front", ", istio.io/use-waypoint: workloads")} {
			if _, err := cluster.Apply(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		ready(t, "bound-pod", "client")
		ready(t, "bound-pod", "front")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := cluster.WaitGateway(ctx, "bound-pod", "workloads"); err != nil {
			t.Fatal(err)
		}
		c := newCaller(t, "bound-pod", "client")
		c.expect("GET", "http://"+podOf(t, "bound-pod", "front").Status.PodIP+":8080/", nil, status(http.StatusOK))
		if p := peersOf(t, "bound-pod", "front"); p[spiffe("bound-pod", "workloads")] == 0 || len(p) != 1 {
			t.Errorf("traffic to the pod's address: tunnels were opened by %v", p)
		}
		// The waypoint is for workloads: traffic to the Service goes past it.
		c.expect("GET", "http://front/", nil, status(http.StatusOK))
		if p := peersOf(t, "bound-pod", "front"); p[spiffe("bound-pod", "client")] == 0 {
			t.Errorf("traffic to the Service: tunnels were opened by %v", p)
		}
	})
}

// TestOutside: a client outside the mesh goes past the waypoint, and a backend outside the
// mesh is reached by it as it is.
func TestOutside(t *testing.T) {
	t.Parallel()
	apps(t, "inside", meshed(), "client", "front")
	labels := meshed()
	delete(labels, "istio.io/dataplane-mode")
	apps(t, "outside", labels, "client", "plain")
	mark := func(ns, svc string) string {
		return route(ns, "mark", svc, `[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: mark}]}}], backendRefs: [{name: `+svc+`, port: 80}]}]`)
	}
	apply(t, mark("inside", "front"))
	apply(t, mark("outside", "plain"))
	in, out := newCaller(t, "inside", "client"), newCaller(t, "outside", "client")
	in.expect("GET", "http://front/", nil, marked("mark"))
	in.expect("GET", "http://plain.outside/", nil, marked("mark"))
	out.expect("GET", "http://front.inside/", nil, marked(""))
	// It has no certificate: the waypoint's port does not talk to it.
	svc := cluster.View.ServiceNamed(meshNamespace, waypointName)
	if a, err := out.do("GET", fmt.Sprintf("http://%s:15008/", svc.Spec.ClusterIP)); err == nil && a.status < 400 {
		t.Errorf("the waypoint answers a client without a certificate: %d", a.status)
	}
}

// TestCounts compares the waypoint's istio_requests_total with what the applications
// counted themselves.
func TestCounts(t *testing.T) {
	t.Parallel()
	const ns, n = "counted", 150
	apps(t, ns, meshed(), "client", "front", "back")
	// At its start the application asks itself once on every port.
	base := served(t, podOf(t, ns, "front")) + served(t, podOf(t, ns, "back"))
	apply(t, route(ns, "split", "front", `[{backendRefs: [{name: front, port: 80, weight: 2}, {name: back, port: 80, weight: 1}]}]`))
	c := newCaller(t, ns, "client")
	seen := map[string]bool{}
	eventually(t, func() error {
		a, err := c.do("GET", "http://front/")
		if err != nil {
			return err
		}
		seen[strings.SplitN(a.backend, "-", 2)[0]] = true
		if len(seen) < 2 {
			return fmt.Errorf("only %v answered", seen)
		}
		return nil
	})
	for i := range n {
		if a, err := c.do("GET", fmt.Sprintf("http://front/?codes=%d", 200+i%2*300)); err != nil || a.status/100 != 2+i%2*3 {
			t.Fatalf("request %d: %v %v", i, a, err)
		}
	}
	apps := served(t, podOf(t, ns, "front")) + served(t, podOf(t, ns, "back")) - base
	pods, err := cluster.Client.CoreV1().Pods(meshNamespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d waypoints, %v", len(pods.Items), err)
	}
	url := fmt.Sprintf("http://%s:15020/stats/prometheus", pods.Items[0].Status.PodIP)
	eventually(t, func() error {
		got := metric(t, url, "istio_requests_total", `destination_workload_namespace="`+ns+`"`, `reporter="waypoint"`)
		if got != apps {
			return fmt.Errorf("the waypoint counted %v requests, the applications %v", got, apps)
		}
		return nil
	})
	say("istio_requests_total equals what the applications counted: %v", apps)
	if apps < n {
		t.Errorf("the applications counted %v requests of at least %d", apps, n)
	}
}
