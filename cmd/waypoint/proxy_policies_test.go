package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const cartLimit = `
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: cart, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: cart}]
  localRateLimit: {requests: 1, per: 1h, burst: 1}
---
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: all, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]
  clientIdentity: {xForwardedFor: true}
---
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: nobody, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: nobody}]
  localRateLimit: {requests: 1, per: 1h}
`

// TestProxyReadsOwnPolicies: what istiod cannot say comes from a mounted directory,
// is there for the first request, and follows its files.
func TestProxyReadsOwnPolicies(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cart.yaml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(cartLimit)
	r := newMeshRig(t, "01-basic", time.Hour, "WAYPOINT_POLICY_DIR="+dir)
	limited := func() bool { code, _, _ := r.get("/items"); return code == 429 }
	if limited() {
		t.Error("the one request there is a token for was refused")
	}
	if !limited() {
		t.Error("the second request found a token")
	}
	r.eventually("a target that istiod sends nothing of is told of", func() bool { return strings.Contains(r.said(), "istiod sends nothing of a Service nobody") })
	write("not: [a policy")
	r.eventually("the broken file is told of", func() bool { return strings.Contains(r.said(), "cart.yaml") })
	if !limited() {
		t.Error("a broken file took the policy away")
	}
	write("# none\n")
	r.eventually("the policy is gone", func() bool { return !limited() })
	write(cartLimit)
	r.eventually("it is back", limited)
}
