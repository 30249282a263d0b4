package provision

import (
	"strings"
	"testing"
)

// TestRunByOthers: without an image nothing is made, and Gateways have the address of
// the Service that others made.
func TestRunByOthers(t *testing.T) {
	r := startWith(t, shop, func(s *Settings) { s.Image = "" })
	r.until(t, "no Service yet", func() bool {
		return strings.HasPrefix(r.gateway("waypoint"), "Accepted=True Accepted\nProgrammed=False AddressNotAssigned")
	})
	r.Load(`{apiVersion: v1, kind: Service, metadata: {name: waypoint, namespace: shop}, spec: {clusterIP: 10.0.0.9, ports: [{port: 80}]}}`)
	r.Load(`{apiVersion: v1, kind: Service, metadata: {name: other, namespace: shop}, spec: {clusterIP: 10.0.0.8, ports: [{port: 15008}]}}`)
	r.Load(`{apiVersion: v1, kind: Service, metadata: {name: waypoint, namespace: shop}, spec: {clusterIP: 10.0.0.9, ports: [{port: 80}, {port: 15008}]}}`)
	r.until(t, "its address", func() bool {
		s := r.gateway("waypoint")
		return strings.HasPrefix(s, "Accepted=True Accepted\nProgrammed=True Programmed") && strings.HasSuffix(s, "\nIPAddress 10.0.0.9")
	})
	r.until(t, "the class", func() bool {
		st, _ := r.Get(gatewayGroup, "gatewayclasses", "", "waypoint")["status"].(map[string]any)
		return st != nil
	})
	r.Server.Delete("", "services", "shop", "waypoint")
	r.until(t, "not programmed, with its address", func() bool {
		s := r.gateway("waypoint")
		return strings.Contains(s, "Programmed=False AddressNotAssigned") && strings.HasSuffix(s, "\nIPAddress 10.0.0.9")
	})
	for _, q := range r.Seen() {
		if q.Verb != "list" && q.Verb != "watch" && q.Sub != "status" {
			t.Errorf("asked to %s %s", q.Verb, q.Resource)
		}
		if q.Resource == "configmaps" && q.Namespace != "istio-system" {
			t.Errorf("%s of ConfigMaps of %q", q.Verb, q.Namespace)
		}
	}
}

// TestNames: a Gateway whose name no Service can have is refused before half of it is
// made.
func TestNames(t *testing.T) {
	for _, n := range []string{strings.Repeat("w", 64), "a.b"} {
		r := start(t, strings.ReplaceAll(shop, "name: waypoint, namespace: shop", "name: "+n+", namespace: shop"))
		r.until(t, "refused", func() bool {
			return strings.HasPrefix(r.gateway(n), "Accepted=False Invalid\nProgrammed=False Invalid")
		})
		if r.has("", "serviceaccounts", n) {
			t.Errorf("%s: something was made", n)
		}
	}
	long := strings.Repeat("w", 63)
	r := start(t, strings.ReplaceAll(shop, "name: waypoint, namespace: shop", "name: "+long+", namespace: shop"))
	r.until(t, "all of it", func() bool { return r.has("policy", "poddisruptionbudgets", long) })
}

// TestNamespaces: Gateways of one name in two namespaces have nothing in common.
func TestNamespaces(t *testing.T) {
	r := start(t, shop+`
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: other}
spec: {gatewayClassName: waypoint, infrastructure: {parametersRef: {group: "", kind: ConfigMap, name: p}}, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: p, namespace: other}
data: {podDisruptionBudget: none}
`)
	r.until(t, "both", func() bool {
		return r.has("policy", "poddisruptionbudgets", "waypoint") && r.Get("autoscaling", "horizontalpodautoscalers", "other", "waypoint") != nil
	})
	if r.Get("policy", "poddisruptionbudgets", "other", "waypoint") != nil {
		t.Error("the other's parameters are not its own")
	}
	r.Delete(gatewayGroup, "gateways", "other", "waypoint")
	r.until(t, "one gone", func() bool { return r.Get("apps", "deployments", "other", "waypoint") == nil })
	if !r.has("apps", "deployments", "waypoint") {
		t.Error("both are gone")
	}
}
