package mesh

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAutoscaler has Kubernetes' own autoscaler scale a waypoint: what it sets stays,
// whatever else changes, and stays as it takes over from parameters.
func TestAutoscaler(t *testing.T) {
	t.Parallel()
	const ns = "scaled"
	space(t, ns, nil)
	gateway := func(label string) {
		t.Helper()
		reapply(t, fmt.Sprintf(`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: own, namespace: scaled}, spec: {gatewayClassName: waypoint,
listeners: [{name: mesh, port: 15008, protocol: HBONE}], infrastructure: {labels: {team: %s}, parametersRef: {group: "", kind: ConfigMap, name: parameters}}}}`, label))
	}
	parameters := func(data string) {
		t.Helper()
		reapply(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: parameters, namespace: scaled}, data: {`+data+`}}`)
	}
	deployments, autoscalers := cluster.Client.AppsV1().Deployments(ns), cluster.Client.AutoscalingV2().HorizontalPodAutoscalers(ns)
	// until waits for a state of the Deployment.
	until := func(what string, ok func(d *appsv1.Deployment) bool) {
		t.Helper()
		eventually(t, func() error {
			d, err := deployments.Get(t.Context(), "own", metav1.GetOptions{})
			if err != nil || ok(d) {
				return err
			}
			return fmt.Errorf("%d replicas, labels %v: not %s", *d.Spec.Replicas, d.Labels, what)
		})
	}
	parameters("")
	gateway("a")
	if err := cluster.WaitGateway(within(t), ns, "own"); err != nil {
		t.Fatal(err)
	}
	h, err := autoscalers.Get(t.Context(), "own", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := h.Spec; s.MinReplicas == nil || *s.MinReplicas != 1 || s.MaxReplicas != 5 || s.ScaleTargetRef.Kind != "Deployment" || s.ScaleTargetRef.Name != "own" ||
		len(s.Metrics) != 1 || s.Metrics[0].Resource == nil || s.Metrics[0].Resource.Name != "cpu" || *s.Metrics[0].Resource.Target.AverageUtilization != 80 {
		t.Errorf("%+v", s)
	}
	if len(h.OwnerReferences) != 1 || h.OwnerReferences[0].Kind != "Gateway" {
		t.Errorf("%+v", h.OwnerReferences)
	}
	// By its selector the autoscaler finds the pods whose load it would read.
	scale, err := deployments.GetScale(t.Context(), "own", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods, err := cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: scale.Status.Selector})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Spec.Containers[0].Resources.Requests.Cpu().IsZero() {
		t.Fatalf("%d pods, %v: no share of a request can be told", len(pods.Items), err)
	}

	// Without metrics the autoscaler keeps to its bounds, and its hands off between them.
	parameters(`horizontalPodAutoscaler: "spec: {minReplicas: 2}"`)
	until("two", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 })
	eventually(t, func() error {
		h, err := autoscalers.Get(t.Context(), "own", metav1.GetOptions{})
		if err == nil && h.Status.LastScaleTime == nil {
			err = fmt.Errorf("not by the autoscaler: %+v", h.Status)
		}
		return err
	})
	gateway("b")
	until("the Gateway's change", func(d *appsv1.Deployment) bool {
		if *d.Spec.Replicas != 2 {
			t.Fatalf("%d replicas: the controller takes back what the autoscaler set", *d.Spec.Replicas)
		}
		return d.Labels["team"] == "b"
	})

	// A number of replicas ends the autoscaler, and another one finds that number.
	parameters(`deployment: "spec: {replicas: 3}"`)
	until("three, fixed", func(d *appsv1.Deployment) bool {
		_, err := autoscalers.Get(t.Context(), "own", metav1.GetOptions{})
		return *d.Spec.Replicas == 3 && err != nil
	})
	d, err := deployments.Get(t.Context(), "own", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := deployments.Watch(t.Context(), metav1.SingleObject(d.ObjectMeta))
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Stop()
	parameters(`horizontalPodAutoscaler: "spec: {minReplicas: 2}"`)
	gateway("c")
	eventually(t, func() error {
		h, err := autoscalers.Get(t.Context(), "own", metav1.GetOptions{})
		if err == nil && h.Status.CurrentReplicas != 3 {
			err = fmt.Errorf("the autoscaler sees %d replicas", h.Status.CurrentReplicas)
		}
		return err
	})
	until("the Gateway's change", func(d *appsv1.Deployment) bool { return d.Labels["team"] == "c" })
	// Everything up to a last change of our own.
	if _, err := deployments.Patch(t.Context(), "own", "application/merge-patch+json", []byte(`{"metadata":{"annotations":{"test/last":"1"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for e := range changes.ResultChan() {
		d, ok := e.Object.(*appsv1.Deployment)
		if !ok {
			t.Fatalf("%v", e)
		}
		if *d.Spec.Replicas != 3 {
			t.Fatalf("%d replicas while the autoscaler took over", *d.Spec.Replicas)
		}
		if d.Annotations["test/last"] != "" {
			return
		}
	}
	t.Error("the watch ended early")
}
