package cluster_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"waypoint.dev/waypoint/conformance/lab/cluster"
	"waypoint.dev/waypoint/conformance/lab/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddresses(t *testing.T) {
	v := clustertest.New(t, clustertest.Shop...)
	ip := netip.MustParseAddr
	if s := v.Service(ip("10.96.0.10")); s == nil || s.Name != "web" {
		t.Errorf("the Service of an address: %v", s)
	}
	if s := v.Service(ip("10.96.0.99")); s != nil {
		t.Errorf("the Service of nobody's address: %v", s)
	}
	if p := v.Pod(ip("10.244.1.1")); p == nil || p.Name != "web-1" {
		t.Errorf("the pod of an address: %v", p)
	}
	if p := v.Pod(ip("10.244.1.9")); p != nil {
		t.Errorf("a pod that has ended has an address: %v", p)
	}
	for _, tc := range []struct {
		service string
		port    uint16
		want    string
	}{
		{"web", 80, "[10.244.1.1:8080]"}, {"web", 7070, "[]"}, {"web", 81, "[]"}, {"empty", 80, "[]"},
		{"headless", 7070, "[10.244.1.1:7070 10.244.1.3:7070]"},
	} {
		got := v.Endpoints(v.ServiceNamed("shop", tc.service), tc.port)
		slices.SortFunc(got, netip.AddrPort.Compare)
		if fmt.Sprint(got) != tc.want {
			t.Errorf("endpoints of %s:%d: %v, want %s", tc.service, tc.port, got, tc.want)
		}
		if _, ok := v.Endpoint(v.ServiceNamed("shop", tc.service), tc.port); ok != (tc.want != "[]") {
			t.Errorf("an endpoint of %s:%d: %t", tc.service, tc.port, ok)
		}
	}
}

func TestCaptured(t *testing.T) {
	ambient := map[string]string{"istio.io/dataplane-mode": "ambient"}
	for _, tc := range []struct {
		ns     map[string]string
		labels map[string]string
		host   bool
		want   bool
	}{
		{ambient, nil, false, true}, {nil, nil, false, false},
		{ambient, map[string]string{"istio.io/dataplane-mode": "none"}, false, false},
		{nil, ambient, false, true},
		{ambient, nil, true, false},
		{ambient, map[string]string{"gateway.networking.k8s.io/gateway-name": "waypoint"}, false, false},
		{ambient, map[string]string{"gateway.istio.io/managed": "istio.io-mesh-controller"}, false, false},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: tc.labels}, Spec: corev1.PodSpec{HostNetwork: tc.host}}
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Labels: tc.ns}}
		if got := cluster.Captured(p, ns); got != tc.want {
			t.Errorf("%v %v host network %t: %t", tc.ns, tc.labels, tc.host, got)
		}
	}
}

// waypoint is a Gateway at an address, with its Service and a replica.
func waypoint(name, address, waypointFor string) []string {
	return []string{
		fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":%q,"namespace":"mesh","labels":{"istio.io/waypoint-for":%q}},"status":{"addresses":[%s]}}`, name, waypointFor, address),
		fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":"mesh"},"spec":{"clusterIP":"10.96.1.1","clusterIPs":["10.96.1.1"],"ports":[{"name":"hbone","port":15008}]}}`, name),
		fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"x","namespace":"mesh","labels":{"kubernetes.io/service-name":%q}},"addressType":"IPv4","ports":[{"name":"hbone","port":15008}],"endpoints":[{"addresses":["10.244.2.1"]}]}`, name),
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"w","namespace":"mesh"},"spec":{"serviceAccountName":"runner"},"status":{"phase":"Running","podIP":"10.244.2.1"}}`,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"chosen","labels":{"istio.io/use-waypoint":"waypoint","istio.io/use-waypoint-namespace":"mesh"}}}`,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"mesh"}}`,
	}
}

func TestWaypointOf(t *testing.T) {
	use := func(name string) map[string]string {
		return map[string]string{"istio.io/use-waypoint": name, "istio.io/use-waypoint-namespace": "mesh"}
	}
	const byIP, byName, none = `{"type":"IPAddress","value":"10.96.1.1"}`, `{"type":"Hostname","value":"waypoint.mesh.svc.cluster.local"}`, ``
	for _, tc := range []struct {
		name, address, waypointFor, ns string
		labels                         map[string]string
		pod                            bool
		want                           bool
		away                           bool
	}{
		{name: "the namespace's", address: byIP, ns: "chosen", want: true},
		{name: "by its host name", address: byName, ns: "chosen", want: true},
		{name: "the object's", address: byIP, ns: "mesh", labels: use("waypoint"), want: true},
		{name: "none chosen", address: byIP, ns: "mesh"},
		{name: "none wanted", address: byIP, ns: "chosen", labels: map[string]string{"istio.io/use-waypoint": "none"}},
		{name: "one that does not exist", address: byIP, ns: "chosen", labels: use("gone")},
		{name: "a pod, of one for services", address: byIP, ns: "chosen", pod: true},
		{name: "a pod, of one for workloads", address: byIP, waypointFor: "workload", ns: "chosen", pod: true, want: true},
		{name: "a service, of one for workloads", address: byIP, waypointFor: "workload", ns: "chosen"},
		{name: "one for all", address: byIP, waypointFor: "all", ns: "chosen", pod: true, want: true},
		{name: "one that is not programmed", address: none, ns: "chosen", away: true},
		{name: "itself", address: byIP, ns: "chosen", labels: map[string]string{"gateway.networking.k8s.io/gateway-name": "waypoint"}},
	} {
		v := clustertest.New(t, waypoint("waypoint", tc.address, tc.waypointFor)...)
		meta := metav1.ObjectMeta{Namespace: tc.ns, Name: "x", Labels: tc.labels}
		var got *cluster.Waypoint
		var err error
		if tc.pod {
			got, err = v.ForPod(&corev1.Pod{ObjectMeta: meta})
		} else {
			got, err = v.ForService(&corev1.Service{ObjectMeta: meta})
		}
		if (got != nil) != tc.want || errors.Is(err, cluster.ErrNoWaypoint) != tc.away {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
		if got != nil && (got.Addr.String() != "10.244.2.1:15008" || got.Account != "runner") {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}
