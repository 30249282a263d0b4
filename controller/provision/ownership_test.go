package provision

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"waypoint.dev/waypoint/controller/apitest"
)

// TestWhatHasNoOwner: an object of ours that lost its owner, as by a deletion that left
// orphans, is taken again; so is an account that says it is the waypoint's. What only
// looks alike is not.
func TestWhatHasNoOwner(t *testing.T) {
	for _, c := range []struct {
		name, labels, kind string
		taken              bool
	}{
		{"an orphan of ours", `{app.kubernetes.io/managed-by: waypoint-controller, gateway.networking.k8s.io/gateway-name: waypoint}`, "Service", false},
		{"an account for the waypoint", `{gateway.networking.k8s.io/gateway-name: waypoint}`, "ServiceAccount", false},
		{"a Service of that label", `{gateway.networking.k8s.io/gateway-name: waypoint}`, "Service", true},
		{"an orphan of another Gateway", `{app.kubernetes.io/managed-by: waypoint-controller, gateway.networking.k8s.io/gateway-name: other}`, "Service", true},
		{"somebody's", `{}`, "ServiceAccount", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, shop+"\n---\n{apiVersion: v1, kind: "+c.kind+", metadata: {name: waypoint, namespace: shop, labels: "+c.labels+"}, spec: {clusterIP: 10.0.0.9}}")
			resource := strings.ToLower(c.kind) + "s"
			r.until(t, "told or taken", func() bool {
				if c.taken {
					return strings.Contains(r.gateway("waypoint"), "Programmed=False NoResources")
				}
				return r.has("apps", "deployments", "waypoint")
			})
			_, owned := r.Get("", resource, "shop", "waypoint")["metadata"].(map[string]any)["ownerReferences"]
			if owned == c.taken {
				t.Errorf("taken by others %v, owned %v", c.taken, owned)
			}
		})
	}
}

// TestSomeoneElseWasQuicker puts another's object in the place of ours while the watch
// has not told of it: neither is it changed nor deleted.
func TestSomeoneElseWasQuicker(t *testing.T) {
	r := start(t, shop+"\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {deployment: \"spec: {minReadySeconds: 1}\"}}")
	g := r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	g["spec"].(map[string]any)["infrastructure"] = apitest.Object{"parametersRef": apitest.Object{"group": "", "kind": "ConfigMap", "name": "p"}}
	r.Put("gateways", g)
	r.until(t, "its objects", func() bool { return r.has("policy", "poddisruptionbudgets", "waypoint") })
	const other = `{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: waypoint, namespace: shop, uid: another}, spec: {maxUnavailable: 9}}`
	var swapped, blamed atomic.Bool
	r.Before(func(method string, p apitest.Place) error {
		blamed.Store(blamed.Load() || strings.Contains(r.gateway("waypoint"), "InvalidParameters"))
		// Between our look and our write.
		if p.Resource == "poddisruptionbudgets" && (method == http.MethodPatch || method == http.MethodDelete) && !swapped.Swap(true) {
			r.Delete("policy", "poddisruptionbudgets", "shop", "waypoint")
			r.Load(other)
		}
		return nil
	})
	g = r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	g["spec"].(map[string]any)["infrastructure"].(map[string]any)["labels"] = apitest.Object{"team": "a"}
	r.Put("gateways", g)
	r.until(t, "told", func() bool { return strings.Contains(r.gateway("waypoint"), "Programmed=False NoResources") })
	b := r.Get("policy", "poddisruptionbudgets", "shop", "waypoint")
	if m := b["metadata"].(map[string]any); m["uid"] != "another" || m["ownerReferences"] != nil || b["spec"].(map[string]any)["maxUnavailable"] != int64(9) {
		t.Errorf("another's budget was changed: %v", b)
	}
	if blamed.Load() {
		t.Error("the parameters were blamed for it")
	}
}

// TestDeletesOnlyItsOwn: what is in the place of an object that is not wanted any more
// stays.
func TestDeletesOnlyItsOwn(t *testing.T) {
	r := start(t, shop+"\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {podDisruptionBudget: none}}")
	r.until(t, "its objects", func() bool { return r.has("policy", "poddisruptionbudgets", "waypoint") })
	var swapped atomic.Bool
	r.Before(func(method string, p apitest.Place) error {
		if p.Resource == "poddisruptionbudgets" && method == http.MethodDelete && !swapped.Swap(true) {
			r.Delete("policy", "poddisruptionbudgets", "shop", "waypoint")
			r.Load(`{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: waypoint, namespace: shop, uid: another}, spec: {maxUnavailable: 9}}`)
		}
		return nil
	})
	g := r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	g["spec"].(map[string]any)["infrastructure"] = apitest.Object{"parametersRef": apitest.Object{"group": "", "kind": "ConfigMap", "name": "p"}}
	g["spec"].(map[string]any)["listeners"].([]any)[0].(map[string]any)["name"] = "renamed"
	r.Put("gateways", g)
	r.until(t, "the change has come", func() bool {
		return strings.Contains(r.gateway("waypoint"), "renamed Accepted") && swapped.Load()
	})
	if b := r.Get("policy", "poddisruptionbudgets", "shop", "waypoint"); b == nil {
		t.Error("another's budget was deleted")
	}
}

// TestRecreated waits for the objects of a deleted Gateway of the same name to go.
func TestRecreated(t *testing.T) {
	r := start(t, shop+`
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: waypoint
  namespace: shop
  labels: {app.kubernetes.io/managed-by: waypoint-controller, gateway.networking.k8s.io/gateway-name: waypoint}
  ownerReferences: [{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: waypoint, uid: old, controller: true}]
spec: {replicas: 7}
`)
	r.until(t, "told", func() bool { return strings.Contains(r.gateway("waypoint"), "Programmed=False NoResources") })
	if d := r.Get("apps", "deployments", "shop", "waypoint"); d["spec"].(map[string]any)["replicas"] != int64(7) {
		t.Errorf("it was changed: %v", d)
	}
	r.Delete("apps", "deployments", "shop", "waypoint")
	r.until(t, "its own", func() bool {
		d := r.Get("apps", "deployments", "shop", "waypoint")
		return d != nil && d["spec"].(map[string]any)["template"] != nil
	})
}

// TestRefusedWrites: what an error of the API server does to the status. One that passes
// changes nothing of what was said; one that lasts is told, where it comes from.
func TestRefusedWrites(t *testing.T) {
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	terminating := apierrors.NewForbidden(deployments, "waypoint", errors.New("the namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	invalid := apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "waypoint", nil)
	const up = "Accepted=True Accepted\nProgrammed=True Programmed"
	for _, c := range []struct {
		name       string
		err        error
		parameters bool
		want       string
	}{
		{"a conflict", apierrors.NewConflict(deployments, "waypoint", errors.New("crossed")), false, up},
		{"an API server that is busy", apierrors.NewTooManyRequests("busy", 0), false, up},
		{"one that fails", apierrors.NewInternalError(errors.New("etcd is away")), false, up},
		{"one that goes on failing", apierrors.NewInternalError(errors.New("failed calling webhook")), false, "Accepted=True Accepted\nProgrammed=False NoResources"},
		{"a namespace that is being deleted", terminating, false, up},
		{"a quota", apierrors.NewForbidden(deployments, "waypoint", errors.New("exceeded quota")), false, "Accepted=True Accepted\nProgrammed=False NoResources"},
		{"an invalid object", invalid, false, "Accepted=True Accepted\nProgrammed=False NoResources"},
		{"an object that parameters made invalid", invalid, true, "Accepted=False InvalidParameters\nProgrammed=False Invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, shop+"\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {deployment: \"spec: {minReadySeconds: 1}\"}}")
			r.until(t, "its objects", func() bool { return r.has("policy", "poddisruptionbudgets", "waypoint") })
			r.address("10.96.0.7")
			r.available(1)
			r.until(t, "programmed", func() bool { return strings.HasPrefix(r.gateway("waypoint"), up) })
			var refused atomic.Int32
			r.Before(func(method string, p apitest.Place) error {
				if method == http.MethodPatch && p.Resource == "deployments" {
					refused.Add(1)
					return c.err
				}
				return nil
			})
			g := r.Get(gatewayGroup, "gateways", "shop", "waypoint")
			infra := apitest.Object{"labels": apitest.Object{"team": "a"}}
			if c.parameters {
				infra["parametersRef"] = apitest.Object{"group": "", "kind": "ConfigMap", "name": "p"}
			}
			g["spec"].(map[string]any)["infrastructure"] = infra
			r.Put("gateways", g)
			r.until(t, "refused", func() bool { return refused.Load() > 0 })
			r.until(t, c.want, func() bool { return strings.HasPrefix(r.gateway("waypoint"), c.want) })
			r.Before(nil)
			if c.err == terminating {
				return
			}
			r.until(t, "applied after all", func() bool {
				l, _ := r.Get("apps", "deployments", "shop", "waypoint")["metadata"].(map[string]any)["labels"].(map[string]any)
				return l["team"] == "a" && strings.HasPrefix(r.gateway("waypoint"), up)
			})
		})
	}
}

// TestHandedOver: a Gateway that goes to another controller keeps nothing of ours.
func TestHandedOver(t *testing.T) {
	r := start(t, shop+`
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/other}
`)
	r.until(t, "its objects", func() bool { return r.has("policy", "poddisruptionbudgets", "waypoint") })
	r.until(t, "its status", func() bool { return strings.HasPrefix(r.gateway("waypoint"), "Accepted=True") })
	g := r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	g["spec"].(map[string]any)["gatewayClassName"] = "other"
	r.Put("gateways", g)
	r.until(t, "removed", func() bool { return !r.has("apps", "deployments", "waypoint") })
	if s := r.gateway("waypoint"); s != "" {
		t.Errorf("it still says %s", s)
	}
}
