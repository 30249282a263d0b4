package istiod

import (
	"encoding/base64"
	"net/netip"
	"testing"

	"waypoint.dev/waypoint/config"
)

// podResource is the Workload of a pod.
func podResource(t testing.TB, ip, name, account string) Resource {
	t.Helper()
	a := netip.MustParseAddr(ip)
	return Resource{"Kubernetes//Pod/shop/" + name, "1", workloadWire(t, map[string]any{
		"uid": "Kubernetes//Pod/shop/" + name, "name": name, "namespace": "shop", "service_account": account,
		"tunnel_protocol": "HBONE", "addresses": []any{base64.StdEncoding.EncodeToString(a.AsSlice())},
	})}
}

// changed counts the pointers that differ between two models.
func changed(a, b *config.Model) (dests, backends int) {
	old := make(map[string]*config.Destination)
	for _, d := range a.Destinations {
		old[d.Key] = d
	}
	for _, d := range b.Destinations {
		if old[d.Key] != d {
			dests++
		}
	}
	for k, x := range b.Backends {
		if a.Backends[k] != x {
			backends++
		}
	}
	return dests, backends
}

func TestOnlyWhatChangedIsMadeAnew(t *testing.T) {
	m := &mesh{services: 5, endpoints: 3}
	fresh := func() *World {
		w := NewWorld(testOptions())
		apply(t, w, m.resources(t))
		return w
	}
	deny := `{"name":"envoy.filters.http.rbac","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
		"rules":{"action":"DENY","policies":{"ns[shop]-policy[p]-rule[0]":{"permissions":[{"any":true}],"principals":[{"any":true}]}}}}}`
	for _, x := range []struct {
		name            string
		do              func(w *World)
		dests, backends int
	}{
		{"nothing", func(w *World) {}, 0, 0},
		{"all of it again", func(w *World) { apply(t, w, m.resources(t)) }, 0, 0},
		{"one chain", func(w *World) {
			n := *m
			n.filters = map[int]string{2: deny}
			w.Apply(ListenerType, []Resource{n.listener(t)}, nil)
		}, 1, 0},
		{"one endpoint less", func(w *World) { w.Apply(EndpointsType, []Resource{m.assignment(t, 3, 2)}, nil) }, 0, 1},
		{"one workload with another identity", func(w *World) {
			w.Apply(WorkloadType, []Resource{podResource(t, m.pod(1, 1), "pod-1-1", "other")}, nil)
		}, 0, 1},
		{"one workload gone", func(w *World) {
			w.Apply(WorkloadType, nil, []string{"Kubernetes//Pod/shop/pod-4-0"})
		}, 0, 1},
		{"a workload behind nothing", func(w *World) {
			w.Apply(WorkloadType, []Resource{podResource(t, "10.9.9.9", "alone", "x")}, nil)
		}, 0, 0},
		{"one cluster gone", func(w *World) { w.Apply(ClusterType, nil, []string{m.name(0)}) }, 1, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := fresh()
			before := w.Model()
			x.do(w)
			after := w.Model()
			if d, b := changed(before, after); d != x.dests || b != x.backends {
				t.Errorf("%d destinations and %d backends are new, want %d and %d", d, b, x.dests, x.backends)
			}
		})
	}
}

func TestEndpointsKeepTheirPointers(t *testing.T) {
	m := &mesh{services: 1, endpoints: 4}
	w := NewWorld(testOptions())
	apply(t, w, m.resources(t))
	before := w.Model().Backends[m.name(0)].Endpoints
	w.Apply(EndpointsType, []Resource{m.assignment(t, 0, 3)}, nil)
	after := w.Model().Backends[m.name(0)].Endpoints
	for i, e := range after {
		if e != before[i] || e.Identity != "spiffe://cluster.local/ns/shop/sa/svc" {
			t.Errorf("endpoint %s is another one: %+v", e.Key, e)
		}
	}
	if len(after) != 3 || len(before) != 4 {
		t.Fatalf("%d after %d", len(after), len(before))
	}
	w.Apply(EndpointsType, nil, []string{m.name(0)})
	if n := len(w.Model().Backends[m.name(0)].Endpoints); n != 0 {
		t.Errorf("%d endpoints after removal", n)
	}
	if len(w.users) != 0 {
		t.Errorf("%d addresses are still in use", len(w.users))
	}
}

func TestUndecodableResourcesKeepThePreviousOne(t *testing.T) {
	m := &mesh{services: 2, endpoints: 1}
	w := NewWorld(testOptions())
	apply(t, w, m.resources(t))
	before := w.Model()
	bad := []byte{0xff, 0xff}
	for typ, name := range map[string]string{
		ClusterType: m.name(0), EndpointsType: m.name(0), ListenerType: mainInternal,
		WorkloadType: "Kubernetes//Pod/shop/pod-0-0", ExtensionType: "x", SecretType: "x", "type.googleapis.com/unknown": "x",
	} {
		errs := w.Apply(typ, []Resource{{name, "2", bad}}, nil)
		if len(errs) != 1 || errs[0].Name != name || errs[0].Error() == "" || errs[0].Unwrap() == nil {
			t.Errorf("%s: %v", typ, errs)
		}
		if v := w.Versions(typ)[name]; v == "2" {
			t.Errorf("%s: the version of a refused resource counts", typ)
		}
	}
	if d, b := changed(before, w.Model()); d+b != 0 {
		t.Errorf("%d destinations and %d backends changed", d, b)
	}
}

func TestWanted(t *testing.T) {
	m := &mesh{services: 2, filters: map[int]string{1: `{"name":"ext","config_discovery":{"config_source":{"ads":{}},"type_urls":["x"]}}`}}
	w := NewWorld(testOptions())
	apply(t, w, m.resources(t))
	if got := w.Wanted(EndpointsType); len(got) != 2 || got[0] != m.name(0) {
		t.Errorf("endpoints %v", got)
	}
	if got := w.Wanted(ExtensionType); len(got) != 1 || got[0] != "ext" {
		t.Errorf("extensions %v", got)
	}
	if w.Wanted(ClusterType) != nil {
		t.Error("clusters are subscribed to as a whole")
	}
}
