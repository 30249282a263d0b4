package provision

import (
	"encoding/json"
	"testing"
	"time"

	"waypoint.dev/waypoint/controller/apitest"
)

// TestConditionTimes: a condition tells the generation it is about, and keeps the time of
// its last change of status through changes of everything else.
func TestConditionTimes(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	gw := gatewayOf(t, "metadata: {name: w, namespace: shop, generation: 7}\nspec: {gatewayClassName: waypoint, listeners: [{name: m, port: 15008, protocol: HBONE}, {name: http, port: 80, protocol: HTTP}]}")
	serving := outcome{made: true, available: 1, addresses: []address{{"IPAddress", "10.0.0.1"}}}
	first := describe(gw, serving, nil)
	if first.settle(noon, nil) {
		t.Error("a first status stands already")
	}
	all := func(st *gatewayStatus) (out []condition) {
		out = append(out, st.Conditions...)
		for _, l := range st.Listeners {
			out = append(out, l.Conditions...)
		}
		return out
	}
	for _, c := range all(first) {
		if c.ObservedGeneration != 7 || c.LastTransitionTime != "2026-01-01T12:00:00Z" {
			t.Errorf("%+v", c)
		}
	}
	if len(all(first)) != 2+4+4 {
		t.Errorf("%d conditions", len(all(first)))
	}
	stands, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if !describe(gw, serving, stands).settle(noon.Add(time.Hour), stands) {
		t.Error("what stands is written again")
	}
	// A new generation, and no replica any more: only what changed its status is new.
	gw.Metadata.Generation = 8
	serving.available = 0
	second := describe(gw, serving, stands)
	if second.settle(noon.Add(time.Hour), stands) {
		t.Error("a change is not written")
	}
	old := all(first)
	for i, c := range all(second) {
		want := old[i].LastTransitionTime
		if c.Status != old[i].Status {
			want = "2026-01-01T13:00:00Z"
		}
		if c.ObservedGeneration != 8 || c.LastTransitionTime != want {
			t.Errorf("%+v, at %s", c, want)
		}
	}
	if c := second.Conditions[1]; c.Type != "Programmed" || c.Status != "False" {
		t.Errorf("%+v", c)
	}
}

// TestDeletedGatewayIsLeftAlone: what goes with a Gateway that waits for its finalizers
// is not made again.
func TestDeletedGatewayIsLeftAlone(t *testing.T) {
	r := start(t, shop)
	r.until(t, "its objects", func() bool { return r.has("policy", "poddisruptionbudgets", "waypoint") })
	g := r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	g["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	r.Put("gateways", g)
	r.Delete("policy", "poddisruptionbudgets", "shop", "waypoint")
	// One worker looks at one Gateway after the other, so this one comes after.
	r.Load(`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: second, namespace: shop}, spec: {gatewayClassName: waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}`)
	r.until(t, "another's objects", func() bool { return r.has("policy", "poddisruptionbudgets", "second") })
	g = r.Get(gatewayGroup, "gateways", "shop", "second")
	g["spec"].(map[string]any)["infrastructure"] = apitest.Object{"labels": apitest.Object{"team": "a"}}
	r.Put("gateways", g)
	r.until(t, "a change of the other", func() bool {
		l, _ := r.Get("policy", "poddisruptionbudgets", "shop", "second")["metadata"].(map[string]any)["labels"].(map[string]any)
		return l["team"] == "a"
	})
	if r.has("policy", "poddisruptionbudgets", "waypoint") {
		t.Error("an object of a Gateway that is being deleted was made again")
	}
}
