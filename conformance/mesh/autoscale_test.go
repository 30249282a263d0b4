package mesh

import (
	"fmt"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAutoscaler looks at the autoscaler as the API server took it, and does what its
// controller does, which the lab has not: what it sets stays, whatever else changes.
func TestAutoscaler(t *testing.T) {
	t.Parallel()
	const ns = "scaled"
	space(t, ns, nil)
	gw := `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: own, namespace: scaled}, spec: {gatewayClassName: waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]%s}}`
	apply(t, fmt.Sprintf(gw, ""))
	if err := cluster.WaitGateway(within(t), ns, "own"); err != nil {
		t.Fatal(err)
	}
	h, err := cluster.Client.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(t.Context(), "own", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := h.Spec; s.MinReplicas == nil || *s.MinReplicas != 1 || s.MaxReplicas != 5 || s.ScaleTargetRef.Kind != "Deployment" || s.ScaleTargetRef.Name != "own" ||
		len(s.Metrics) != 1 || s.Metrics[0].Resource == nil || s.Metrics[0].Resource.Name != "cpu" || *s.Metrics[0].Resource.Target.AverageUtilization != 80 {
		t.Errorf("%+v", s)
	}
	if len(h.OwnerReferences) != 1 || h.OwnerReferences[0].Kind != "Gateway" || len(h.Status.Conditions) != 0 {
		t.Errorf("%+v, %+v", h.OwnerReferences, h.Status)
	}
	deployments := cluster.Client.AppsV1().Deployments(ns)
	scale, err := deployments.GetScale(t.Context(), "own", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if scale.Status.Replicas != 1 || scale.Status.Selector == "" {
		t.Errorf("%+v", scale.Status)
	}
	// By its selector the autoscaler's controller finds the pods whose load it reads.
	pods, err := cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: scale.Status.Selector})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Spec.Containers[0].Resources.Requests.Cpu().IsZero() {
		t.Fatalf("%d pods, %v: no share of a request can be told", len(pods.Items), err)
	}
	if _, err := deployments.UpdateScale(t.Context(), "own", &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: "own", Namespace: ns}, Spec: autoscalingv1.ScaleSpec{Replicas: 2},
	}, metav1.UpdateOptions{FieldManager: "autoscaler"}); err != nil {
		t.Fatal(err)
	}
	if err := cluster.WaitDeployment(within(t), ns, "own"); err != nil {
		t.Fatal(err)
	}
	reapply(t, fmt.Sprintf(gw, `, infrastructure: {labels: {team: a}}`))
	eventually(t, func() error {
		d, err := deployments.Get(t.Context(), "own", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if *d.Spec.Replicas != 2 {
			t.Fatalf("%d replicas: the controller takes back what the autoscaler set", *d.Spec.Replicas)
		}
		if d.Labels["team"] != "a" {
			return fmt.Errorf("the Gateway's change has not come: %v", d.Labels)
		}
		return nil
	})
	// Without an autoscaler the replicas are the parameters' again.
	apply(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed, namespace: scaled}, data: {horizontalPodAutoscaler: none, deployment: "spec: {replicas: 1}"}}`)
	reapply(t, fmt.Sprintf(gw, `, infrastructure: {labels: {team: a}, parametersRef: {group: "", kind: ConfigMap, name: fixed}}`))
	eventually(t, func() error {
		d, err := deployments.Get(t.Context(), "own", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if *d.Spec.Replicas != 1 {
			return fmt.Errorf("%d replicas", *d.Spec.Replicas)
		}
		if _, err := cluster.Client.AutoscalingV2().HorizontalPodAutoscalers(ns).Get(t.Context(), "own", metav1.GetOptions{}); err == nil {
			return fmt.Errorf("the autoscaler is still there")
		}
		return nil
	})
}
