package controller

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"waypoint.dev/waypoint/controller/apitest"
)

// TestLeaseTaken takes the Lease from a replica in the middle of a write: the write is
// given up, and nothing is written until the Lease is its own again.
func TestLeaseTaken(t *testing.T) {
	s := server(t)
	a := run(t, s, "a")
	defer a.end(t)
	status := func() string {
		return fmt.Sprint(s.Get("gateway.networking.k8s.io", "httproutes", "shop", "r")["status"])
	}
	eventually(t, "the route's status", func() bool { return strings.Contains(status(), "ResolvedRefs") })

	var writes, blocked atomic.Int32
	release := make(chan struct{})
	s.Before(func(method string, p apitest.Place) error {
		if method == http.MethodPatch {
			writes.Add(1)
			if p.Resource == "httproutes" {
				blocked.Add(1)
				<-release
				return fmt.Errorf("too late")
			}
		}
		return nil
	})
	backend := func(name string) {
		o := s.Get("gateway.networking.k8s.io", "httproutes", "shop", "r")
		o["spec"].(map[string]any)["rules"].([]any)[0].(map[string]any)["backendRefs"].([]any)[0].(map[string]any)["name"] = name
		s.Put("httproutes", o)
	}
	backend("gone")
	eventually(t, "a write under way", func() bool { return blocked.Load() > 0 })
	lease := s.Get("coordination.k8s.io", "leases", "sys", leaseName)
	spec := lease["spec"].(map[string]any)
	spec["holderIdentity"], spec["leaseDurationSeconds"] = "rival", int64(3600)
	spec["renewTime"] = time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	s.Put("leases", lease)
	eventually(t, "it leads no longer", func() bool { return !a.leads() })
	before := writes.Load()
	close(release)
	s.Before(func(method string, p apitest.Place) error {
		if method == http.MethodPatch {
			writes.Add(1)
		}
		return nil
	})
	backend("web")
	backend("gone")
	s.Delete("apps", "deployments", "shop", "waypoint")
	s.Load(`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: last, namespace: shop}, spec: {parentRefs: [{group: "", kind: Service, name: web}]}}`)
	eventually(t, "it has seen all that", func() bool {
		_, m := a.get("/metrics")
		return strings.Contains(m, `waypoint_controller_watched_objects{kind="HTTPRoute"} 2`)
	})
	if n := writes.Load() - before; n != 0 || strings.Contains(status(), "BackendNotFound") {
		t.Errorf("%d writes without the Lease, status %s", n, status())
	}
	if h := s.Get("coordination.k8s.io", "leases", "sys", leaseName)["spec"].(map[string]any)["holderIdentity"]; h != "rival" {
		t.Errorf("the Lease is %v's", h)
	}

	s.Delete("coordination.k8s.io", "leases", "sys", leaseName)
	eventually(t, "it leads again", a.leads)
	eventually(t, "what was missed is written", func() bool {
		return strings.Contains(status(), "BackendNotFound") && s.Get("apps", "deployments", "shop", "waypoint") != nil
	})
}
