package chart

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"waypoint.dev/waypoint/conformance/lab"
)

// step is how long anything here may take on a busy machine.
const step = 90 * time.Second

func gvk(group, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind}
}

const gatewayGroup = "gateway.networking.k8s.io"

// inLab are values beside those that the lab needs.
func inLab() map[string]any {
	return map[string]any{
		"replicas": 2,
		"waypoint": map[string]any{"maxReplicas": 1, "parameters": map[string]any{
			"deployment": "metadata: {annotations: {class: defaults}}",
		}},
	}
}

func apply(t *testing.T, ctx context.Context, manifests string) {
	t.Helper()
	if _, err := cluster.Apply(ctx, manifests); err != nil {
		t.Fatal(err)
	}
}

const applyPatch = "application/apply-patch+yaml"

const shop = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint, pod-security.kubernetes.io/enforce: restricted}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: web}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}
`

// TestInstalled runs the controller with the rights that the chart gives it.
func TestInstalled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*step)
	defer cancel()
	if err := cluster.InstallController(ctx, chartDir, inLab()); err != nil {
		t.Fatal(err)
	}
	apply(t, ctx, shop)
	if err := cluster.WaitGateway(ctx, "shop", "waypoint"); err != nil {
		t.Fatal(err)
	}
	for _, k := range []schema.GroupVersionKind{gvk("", "ServiceAccount"), gvk("", "Service"), gvk("apps", "Deployment"), gvk("policy", "PodDisruptionBudget")} {
		o, err := cluster.Get(ctx, k, "shop", "waypoint")
		if err != nil || len(o.GetOwnerReferences()) != 1 {
			t.Errorf("%s: %v %v", k.Kind, o, err)
		}
	}
	d, err := cluster.Get(ctx, gvk("apps", "Deployment"), "shop", "waypoint")
	if err != nil || d.GetAnnotations()["class"] != "defaults" {
		t.Errorf("the class's parameters: %v", err)
	}
	wantRoute(t, ctx, "Accepted=True ResolvedRefs=True")

	t.Run("others' entries stay", others)
	t.Run("a Gateway that goes to another class", released)
	t.Run("definitions that come late", late)
	t.Run("a namespace goes with its waypoint", leaving)
	t.Run("a replica that goes hands over", handover)
	t.Run("cleaned by ownership", cleaned)
	forbidden(t)
}

// route returns our conditions of the route r, "Type=Status ...".
func route(ctx context.Context) (string, *unstructured.Unstructured, error) {
	o, err := cluster.Get(ctx, gvk(gatewayGroup, "HTTPRoute"), "shop", "r")
	if err != nil {
		return "", nil, err
	}
	parents, _, _ := unstructured.NestedSlice(o.Object, "status", "parents")
	var out []string
	for _, p := range parents {
		m := p.(map[string]any)
		if m["controllerName"] != "waypoint.dev/gateway-controller" {
			continue
		}
		for _, c := range m["conditions"].([]any) {
			x := c.(map[string]any)
			out = append(out, fmt.Sprintf("%v=%v", x["type"], x["status"]))
		}
	}
	return strings.Join(out, " "), o, nil
}

func wantRoute(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	var got string
	err := lab.Wait(ctx, "status of the route", func() (bool, error) {
		var err error
		got, _, err = route(ctx)
		return got == want, err
	})
	if err != nil {
		t.Fatalf("%v: %q, not %q", err, got, want)
	}
}

// others writes another controller's entry over ours, by update and without a look
// at what stands, and wants both in the end.
func others(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), step)
	defer cancel()
	routes := cluster.Dynamic.Resource(schema.GroupVersionResource{Group: gatewayGroup, Version: "v1", Resource: "httproutes"}).Namespace("shop")
	patch := `{"status":{"parents":[{"parentRef":{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"edge"},"controllerName":"example.com/edge","conditions":[
		{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z","observedGeneration":1}]}]}}`
	if _, err := routes.Patch(ctx, "r", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{FieldManager: "edge"}, "status"); err != nil {
		t.Fatal(err)
	}
	wantRoute(t, ctx, "Accepted=True ResolvedRefs=True")
	_, o, err := route(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(o.Object["status"])
	if err != nil || !strings.Contains(string(b), "example.com/edge") {
		t.Errorf("the other's entry is gone: %s", b)
	}
	// The API server itself refuses what was read before someone else wrote.
	stale := `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r","resourceVersion":"1"},"status":{"parents":[]}}`
	force := true
	if _, err := routes.Patch(ctx, "r", applyPatch, []byte(stale), metav1.PatchOptions{FieldManager: "x", Force: &force}, "status"); err == nil {
		t.Error("an apply at an old version is taken")
	}
	// Nor does it apply to an object of another uid, or make one where there was one: on
	// this rests that the controller touches nothing that took the place of its own.
	for _, name := range []string{"waypoint", "absent"} {
		other := `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"` + name + `","uid":"00000000-0000-0000-0000-000000000001"},"spec":{"maxUnavailable":9}}`
		budgets := cluster.Dynamic.Resource(schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}).Namespace("shop")
		if _, err := budgets.Patch(ctx, name, applyPatch, []byte(other), metav1.PatchOptions{FieldManager: "x", Force: &force}); !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) {
			t.Errorf("an apply to another uid of %s: %v", name, err)
		}
	}
}

// released gives a Gateway to a class of nobody, and takes it back under the name of a
// Service that is somebody's by then.
func released(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), step)
	defer cancel()
	gateway := func(class string) {
		t.Helper()
		apply(t, ctx, `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: second, namespace: shop}
spec: {gatewayClassName: `+class+`, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}`)
	}
	status := func() string {
		o, err := cluster.Get(ctx, gvk(gatewayGroup, "Gateway"), "shop", "second")
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(o.Object["status"])
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	apply(t, ctx, "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: nobodys}, spec: {controllerName: example.com/nobody}}")
	gateway("waypoint")
	if err := cluster.WaitGateway(ctx, "shop", "second"); err != nil {
		t.Fatal(err)
	}
	gateway("nobodys")
	if err := lab.Wait(ctx, "nothing of the second waypoint", func() (bool, error) {
		for _, k := range []schema.GroupVersionKind{gvk("", "ServiceAccount"), gvk("", "Service"), gvk("apps", "Deployment"), gvk("policy", "PodDisruptionBudget")} {
			if _, err := cluster.Get(ctx, k, "shop", "second"); err == nil {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	// What is left are the defaults of the definition, Pending.
	if s := status(); strings.Contains(s, `"status":"True"`) || strings.Contains(s, "addresses") || strings.Contains(s, `"mesh"`) {
		t.Errorf("the status still says %s", s)
	}
	apply(t, ctx, "{apiVersion: v1, kind: Service, metadata: {name: second, namespace: shop}, spec: {selector: {mine: yes-it-is}, ports: [{port: 80}]}}")
	gateway("waypoint")
	if err := lab.Wait(ctx, "word of the other's Service", func() (bool, error) {
		return strings.Contains(status(), `"reason":"NoResources"`) && strings.Contains(status(), "Service shop/second"), nil
	}); err != nil {
		t.Fatalf("%v: %s", err, status())
	}
	svc, err := cluster.Client.CoreV1().Services("shop").Get(ctx, "second", metav1.GetOptions{})
	if err != nil || svc.Spec.Selector["mine"] != "yes-it-is" || len(svc.OwnerReferences) > 0 || len(svc.Spec.Ports) != 1 {
		t.Errorf("another's Service was touched: %v %+v", err, svc)
	}
}

// late installs Istio's definitions under a running controller.
func late(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), step)
	defer cancel()
	file, err := istioDefinitions()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, ctx, string(b))
	policy := `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
`
	if err := lab.Wait(ctx, "the definition", func() (bool, error) {
		_, err := cluster.Apply(ctx, policy)
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	var b2 []byte
	if err := lab.Wait(ctx, "the policy's status", func() (bool, error) {
		o, err := cluster.Get(ctx, gvk("security.istio.io", "AuthorizationPolicy"), "shop", "p")
		if err != nil {
			return false, err
		}
		b2, _ = json.Marshal(o.Object["status"])
		return strings.Contains(string(b2), "bound to Service web"), nil
	}); err != nil {
		t.Fatalf("%v: %s", err, b2)
	}
}

func holder(ctx context.Context) string {
	l, err := cluster.Client.CoordinationV1().Leases("waypoint-system").Get(ctx, "waypoint-controller", metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// leaving deletes a namespace under its waypoint.
func leaving(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), step)
	defer cancel()
	apply(t, ctx, strings.ReplaceAll(shop[:strings.Index(shop, "---\napiVersion: v1\nkind: Service")], "shop", "leaving"))
	if err := cluster.WaitGateway(ctx, "leaving", "waypoint"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Client.CoreV1().Namespaces().Delete(ctx, "leaving", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := lab.Wait(ctx, "the namespace to go", func() (bool, error) {
		_, err := cluster.Client.CoreV1().Namespaces().Get(ctx, "leaving", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	}); err != nil {
		t.Fatal(err)
	}
}

// handover deletes the pod that writes; the other one goes on, and leaves alone what is
// as it should be.
func handover(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), step)
	defer cancel()
	// From now on the controller's pods are held to the strictest of Kubernetes' Pod
	// Security Standards, as those of the waypoint are.
	if _, err := cluster.Client.CoreV1().Namespaces().Patch(ctx, "waypoint-system", "application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := cluster.Client.AppsV1().Deployments("shop").Get(ctx, "waypoint", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := holder(ctx)
	if first == "" {
		t.Fatal("nobody holds the Lease")
	}
	if err := cluster.Client.CoreV1().Pods("waypoint-system").Delete(ctx, first, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := lab.Wait(ctx, "another holder", func() (bool, error) { h := holder(ctx); return h != "" && h != first, nil }); err != nil {
		t.Fatal(err)
	}
	routes := cluster.Dynamic.Resource(schema.GroupVersionResource{Group: gatewayGroup, Version: "v1", Resource: "httproutes"}).Namespace("shop")
	if _, err := routes.Patch(ctx, "r", "application/json-patch+json", []byte(`[{"op":"replace","path":"/spec/rules/0/backendRefs/0/name","value":"gone"}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	wantRoute(t, ctx, "Accepted=True ResolvedRefs=False")
	// The budget is the last of what it applies for a Gateway.
	budgets := cluster.Client.PolicyV1().PodDisruptionBudgets("shop")
	if err := budgets.Delete(ctx, "waypoint", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := lab.Wait(ctx, "a budget again", func() (bool, error) {
		_, err := budgets.Get(ctx, "waypoint", metav1.GetOptions{})
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	after, err := cluster.Client.AppsV1().Deployments("shop").Get(ctx, "waypoint", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if after.Generation != before.Generation || after.UID != before.UID {
		t.Errorf("generation %d, then %d: another replica rolls waypoints of which nothing changed", before.Generation, after.Generation)
	}
	if err := lab.Wait(ctx, "a pod in the place of that which was deleted", func() (bool, error) {
		pods, err := cluster.Client.CoreV1().Pods("waypoint-system").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		ready := 0
		for _, p := range pods.Items {
			for _, c := range p.Status.ContainerStatuses {
				if c.Ready && p.Name != first {
					ready++
				}
			}
		}
		return ready == 2, nil
	}); err != nil {
		t.Error(err)
	}
}

func cleaned(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), step)
	defer cancel()
	gateways := cluster.Dynamic.Resource(schema.GroupVersionResource{Group: gatewayGroup, Version: "v1", Resource: "gateways"}).Namespace("shop")
	if err := gateways.Delete(ctx, "waypoint", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := lab.Wait(ctx, "everything gone", func() (bool, error) {
		for _, k := range []schema.GroupVersionKind{gvk("", "ServiceAccount"), gvk("", "Service"), gvk("apps", "Deployment"), gvk("policy", "PodDisruptionBudget")} {
			if _, err := cluster.Get(ctx, k, "shop", "waypoint"); err == nil {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	wantRoute(t, ctx, "")
}

// forbidden looks for what the API server refused the controller.
func forbidden(t *testing.T) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join("..", ".cache", "chart", "logs", "*controller*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log of the controller: %v", err)
	}
	for _, f := range logs {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			if strings.Contains(line, "forbidden") {
				t.Errorf("%s: %s", filepath.Base(f), line)
			}
		}
	}
}
