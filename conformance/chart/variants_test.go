package chart

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"waypoint.dev/waypoint/conformance/lab"
)

// TestVariantsAreValid has the API server judge every way to render the chart,
// without storing it.
func TestVariantsAreValid(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), step)
	defer cancel()
	apply(t, ctx, "{apiVersion: v1, kind: Namespace, metadata: {name: waypoint-system}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")
	for name, values := range map[string]map[string]any{
		"defaults": {},
		"spiffe":   {"identity": map[string]any{"mode": "spiffe"}, "tls": map[string]any{"secretName": "cert"}},
		"fed only": {"waypoint": map[string]any{"enabled": false}, "gatewayClass": map[string]any{"labels": map[string]any{"istio.io/waypoint-for": "all"}}},
		"all": {"podLabels": map[string]any{"a": "b"}, "podAnnotations": map[string]any{"c": "d"}, "nodeSelector": map[string]any{"e": "f"},
			"tolerations": []any{map[string]any{"operator": "Exists"}}, "imagePullSecrets": []any{map[string]any{"name": "pull"}},
			"serviceAccount": map[string]any{"annotations": map[string]any{"g": "h"}}, "mesh": map[string]any{"network": "n1", "trustDomainAliases": []any{"old"}},
			"waypoint": map[string]any{"args": []any{"--access-log=-"}, "parameters": map[string]any{"service": "spec: {type: LoadBalancer}"}}},
	} {
		text, err := lab.Render(chartDir, values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		objs, err := lab.Decode(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if len(objs) < 8 {
			t.Errorf("%s: only %d objects", name, len(objs))
		}
		for _, o := range objs {
			if err := dryRun(ctx, o); err != nil {
				t.Errorf("%s: %s %s: %v", name, o.GetKind(), o.GetName(), err)
			}
		}
	}
}

// dryRun lets the API server validate an object strictly.
func dryRun(ctx context.Context, o *unstructured.Unstructured) error {
	plural := strings.ToLower(o.GetKind()) + "s"
	if o.GetKind() == "GatewayClass" {
		plural = "gatewayclasses"
	}
	r := cluster.Dynamic.Resource(o.GroupVersionKind().GroupVersion().WithResource(plural))
	force := true // another test may have installed the chart
	opts := metav1.PatchOptions{FieldManager: "chart-test", Force: &force, DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}
	data, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	if o.GetNamespace() != "" {
		_, err = r.Namespace(o.GetNamespace()).Patch(ctx, o.GetName(), applyPatch, data, opts)
	} else {
		_, err = r.Patch(ctx, o.GetName(), applyPatch, data, opts)
	}
	return err
}
