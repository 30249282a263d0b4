package watch

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"waypoint.dev/waypoint/config/kube"
)

func ptr[T any](v T) *T { return &v }

// TestCoreKeepsWhatIsRead compares what package kube reads of a whole object with
// what it reads of its item.
func TestCoreKeepsWhatIsRead(t *testing.T) {
	meta := metav1.ObjectMeta{
		Name: "x", Namespace: "shop", UID: "u", Generation: 3, ResourceVersion: "9",
		CreationTimestamp: metav1.Unix(1700000000, 0),
		Labels:            map[string]string{"app": "x", "kubernetes.io/service-name": "web", "topology.kubernetes.io/zone": "z"},
		Annotations:       map[string]string{"ambient.istio.io/redirection": "enabled", lastApplied: "{}", "other/annotation": "1", "networking.istio.io/traffic-distribution": "PreferClose"},
		OwnerReferences:   []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x-5d9", UID: "o", Controller: ptr(true)}},
		ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}
	clusterMeta := meta
	clusterMeta.Namespace = ""
	type core struct {
		kind Kind
		obj  any
	}
	typ := func(k Kind) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: k.APIVersion(), Kind: k.Kind} }
	ns, node := Kind{"", "v1", "Namespace", "namespaces"}, Kind{"", "v1", "Node", "nodes"}
	svc, pod := Kind{"", "v1", "Service", "services"}, Kind{"", "v1", "Pod", "pods"}
	cm, slice := Kind{"", "v1", "ConfigMap", "configmaps"}, Kind{"discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"}
	cmMeta := meta
	cmMeta.Name, cmMeta.Namespace = "istio", "istio-system"
	for _, c := range []core{
		{ns, &corev1.Namespace{TypeMeta: typ(ns), ObjectMeta: clusterMeta}},
		{node, &corev1.Node{TypeMeta: typ(node), ObjectMeta: clusterMeta, Status: corev1.NodeStatus{Phase: "x"}}},
		{svc, &corev1.Service{TypeMeta: typ(svc), ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"}, Selector: map[string]string{"app": "x"}, Type: "ClusterIP",
			TrafficDistribution: ptr("PreferClose"), PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: "TCP", AppProtocol: ptr("kubernetes.io/h2c"), TargetPort: intstr.FromString("web"), NodePort: 3000}},
		}}},
		{pod, &corev1.Pod{TypeMeta: typ(pod), ObjectMeta: meta, Spec: corev1.PodSpec{
			ServiceAccountName: "sa", NodeName: "n1", HostNetwork: true,
			Containers: []corev1.Container{
				{Name: "a", Image: "i", Env: []corev1.EnvVar{{Name: "SECRET", Value: "hush"}}, Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: "TCP"}, {ContainerPort: 9}}},
				{Name: "b"}},
		}, Status: corev1.PodStatus{Phase: "Running", PodIP: "10.1.0.1", PodIPs: []corev1.PodIP{{IP: "10.1.0.1"}, {IP: "fd00::2"}},
			Conditions: []corev1.PodCondition{{Type: "Initialized", Status: "True"}, {Type: "Ready", Status: "True"}}}}},
		{cm, &corev1.ConfigMap{TypeMeta: typ(cm), ObjectMeta: cmMeta, Data: map[string]string{"mesh": "trustDomain: t.example"}}},
		{slice, &discoveryv1.EndpointSlice{TypeMeta: typ(slice), ObjectMeta: meta, AddressType: "IPv4",
			Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr[int32](8080), Protocol: ptr(corev1.ProtocolTCP)}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)},
				NodeName: ptr("n1"), Zone: ptr("z"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "x", Namespace: "shop", UID: "u"}}}}},
	} {
		whole, err := json.Marshal(c.obj)
		if err != nil {
			t.Fatal(err)
		}
		it, err := builtin(c.kind, c.obj)
		if err != nil {
			t.Fatal(err)
		}
		want, ok, err := kube.Trim(whole)
		if err != nil || !ok {
			t.Fatal(c.kind.Kind, ok, err)
		}
		got, ok, err := kube.Trim(it.JSON)
		if err != nil || !ok {
			t.Fatal(c.kind.Kind, ok, err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: of the item is read\n%s\nof the object\n%s", c.kind.Kind, got, want)
		}
		for _, no := range []string{"hush", "managedFields", "last-applied", "resourceVersion"} {
			if strings.Contains(string(it.JSON), no) {
				t.Errorf("%s: the item holds %s", c.kind.Kind, no)
			}
		}
		if it.Version != "9" || it.Generation != 3 || it.Key.Kind != c.kind.Kind {
			t.Errorf("%s: %+v", c.kind.Kind, it)
		}
	}
}

func TestCustomKeepsAddresses(t *testing.T) {
	u := &unstructured.Unstructured{}
	err := u.UnmarshalJSON([]byte(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"g","namespace":"n","resourceVersion":"5",
		"managedFields":[{},{"manager":"kubectl","subresource":""},{"manager":"a","subresource":"status"},{"manager":"b","subresource":"status"}],
		"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"x"}},"spec":{},"status":{"addresses":[{"value":"10.0.0.1"}],"listeners":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	it, err := custom(Kind{"gateway.networking.k8s.io", "v1", "Gateway", "gateways"}, u)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"g","namespace":"n"},"spec":{},"status":{"addresses":[{"value":"10.0.0.1"}]}}`
	if string(it.JSON) != want {
		t.Errorf("JSON %s", it.JSON)
	}
	if len(it.Writers) != 2 || it.Writers[0] != "a" || it.Writers[1] != "b" {
		t.Errorf("writers %v", it.Writers)
	}
	if !strings.Contains(string(it.Status), "listeners") {
		t.Errorf("status %s", it.Status)
	}
}

// TestEveryAppliedKindIsWatched holds the list of kinds together with package kube.
func TestEveryAppliedKindIsWatched(t *testing.T) {
	custom := wanted()
	for _, k := range kube.AppliedKinds() {
		gk := groupKind{k.Group, k.Kind}
		if _, ok := core[gk]; !ok && custom[gk] == nil {
			t.Errorf("nothing watches %v", gk)
		}
	}
	for gk := range core {
		found := false
		for _, k := range kube.AppliedKinds() {
			found = found || k.Group == gk.group && k.Kind == gk.kind
		}
		if !found {
			t.Errorf("%v is watched and not read", gk)
		}
	}
}

func BenchmarkItemOfPod(b *testing.B) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "shop", Labels: map[string]string{"app": "x"}},
		Spec:   corev1.PodSpec{ServiceAccountName: "sa", NodeName: "n1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}}},
		Status: corev1.PodStatus{Phase: "Running", PodIP: "10.1.0.1", PodIPs: []corev1.PodIP{{IP: "10.1.0.1"}}, Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True"}}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := builtin(Kind{"", "v1", "Pod", "pods"}, pod); err != nil {
			b.Fatal(err)
		}
	}
}
