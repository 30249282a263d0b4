// Package clustertest makes views of clusters that are only written down, for tests.
package clustertest

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"

	"waypoint.dev/waypoint/conformance/lab/cluster"
)

// New returns a view of objects, each given as JSON,
// until the test ends. Gateways may be among them.
func New(t testing.TB, manifests ...string) *cluster.View {
	t.Helper()
	gateways := schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{gateways: "GatewayList"})
	var core []runtime.Object
	for _, m := range manifests {
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON([]byte(m)); err != nil {
			t.Fatalf("%v: %s", err, m)
		}
		if o.GetKind() == "Gateway" {
			if _, err := dyn.Resource(gateways).Namespace(o.GetNamespace()).Create(context.Background(), o, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		typed, err := scheme.Scheme.New(o.GroupVersionKind())
		if err == nil {
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, m)
		}
		core = append(core, typed)
	}
	v, err := cluster.New(fake.NewClientset(core...), dyn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); v.Close() })
	if err := v.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := v.WatchGateways(ctx); err != nil {
		t.Fatal(err)
	}
	return v
}

// Shop is a namespace of one Service with two pods, one of them ready, a Service without
// endpoints and a headless one.
var Shop = []string{
	`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"istio.io/dataplane-mode":"ambient"}}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10"],"ports":[{"name":"http","port":80},{"name":"grpc","port":7070}]}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"empty","namespace":"shop"},"spec":{"clusterIP":"10.96.0.11","clusterIPs":["10.96.0.11"],"ports":[{"name":"http","port":80}]}}`,
	`{"apiVersion":"v1","kind":"Service","metadata":{"name":"headless","namespace":"shop"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"name":"http","port":80},{"name":"grpc","port":7070}]}}`,
	`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-x","namespace":"shop","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":["10.244.1.1"]},{"addresses":["10.244.1.2"],"conditions":{"ready":false}}]}`,
	`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"headless-x","namespace":"shop","labels":{"kubernetes.io/service-name":"headless"}},"addressType":"IPv4","ports":[{"name":"http","port":8080},{"name":"grpc","port":7070}],"endpoints":[{"addresses":["10.244.1.1"]},{"addresses":["10.244.1.3"],"conditions":{"ready":true}}]}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop"},"spec":{"serviceAccountName":"web"},"status":{"phase":"Running","podIP":"10.244.1.1"}}`,
	`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"ended","namespace":"shop"},"spec":{},"status":{"phase":"Failed","podIP":"10.244.1.9"}}`,
}
