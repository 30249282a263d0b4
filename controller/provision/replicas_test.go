package provision

import (
	"testing"

	"waypoint.dev/waypoint/controller/apitest"
)

// TestWhoSaysHowMany: a number of replicas, a range for an autoscaler, or the settings,
// whichever was said last.
func TestWhoSaysHowMany(t *testing.T) {
	const three, scaled = "spec: {replicas: 3}", "spec: {maxReplicas: 9}"
	for _, c := range []struct {
		name       string
		max        int32
		class, own map[string]string
		replicas   int64 // 0: the autoscaler's
	}{
		{"settings with a range", 5, nil, nil, 0},
		{"settings without", 2, nil, nil, 2},
		{"a number", 5, nil, map[string]string{"deployment": three}, 3},
		{"a number for the class", 5, map[string]string{"deployment": three}, nil, 3},
		{"a number and a range", 5, nil, map[string]string{"deployment": three, "horizontalPodAutoscaler": scaled}, 0},
		{"a number and no range", 5, nil, map[string]string{"deployment": three, "horizontalPodAutoscaler": "none\n"}, 3},
		{"no range", 5, nil, map[string]string{"horizontalPodAutoscaler": " none\n"}, 2},
		{"a range where the settings have none", 2, nil, map[string]string{"horizontalPodAutoscaler": scaled}, 0},
		{"a range behind none", 5, map[string]string{"horizontalPodAutoscaler": "none"}, map[string]string{"horizontalPodAutoscaler": scaled}, 0},
		{"none behind a range", 5, map[string]string{"horizontalPodAutoscaler": scaled}, map[string]string{"horizontalPodAutoscaler": "none"}, 2},
		{"a number behind a range", 5, map[string]string{"horizontalPodAutoscaler": scaled}, map[string]string{"deployment": three}, 3},
		{"a range behind a number", 5, map[string]string{"deployment": three}, map[string]string{"horizontalPodAutoscaler": scaled}, 0},
		{"something else of the Deployment", 5, nil, map[string]string{"deployment": "spec: {minReadySeconds: 3}"}, 0},
		{"an empty key", 2, nil, map[string]string{"horizontalPodAutoscaler": "\n"}, 2},
	} {
		s := settings()
		s.MaxReplicas = c.max
		objs, err := Render(s, Input{Gateway: gatewayOf(t, plain), Class: c.class, Own: c.own})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		n, _ := find(objs, "Deployment").Object["spec"].(map[string]any)["replicas"].(int64)
		if hpa := find(objs, "HorizontalPodAutoscaler"); n != c.replicas || (hpa == nil) != (c.replicas > 0) {
			t.Errorf("%s: %d replicas, autoscaler %v", c.name, n, hpa)
		}
	}
}

// TestReplicasOutliveTheirOwner: as an autoscaler takes over, the replicas stay what they
// were, and go on being the autoscaler's.
func TestReplicasOutliveTheirOwner(t *testing.T) {
	const fixed = `{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {deployment: "spec: {replicas: 6}"}}`
	const scaled = `{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {horizontalPodAutoscaler: "spec: {maxReplicas: 9}"}}`
	r := start(t, shop+"\n---\n"+fixed)
	g := r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	g["spec"].(map[string]any)["infrastructure"] = apitest.Object{"parametersRef": apitest.Object{"group": "", "kind": "ConfigMap", "name": "p"}}
	r.Put("gateways", g)
	replicas := func() int64 {
		d, _ := r.Get("apps", "deployments", "shop", "waypoint")["spec"].(map[string]any)
		n, _ := d["replicas"].(int64)
		return n
	}
	autoscaler := func() bool { return r.has("autoscaling", "horizontalpodautoscalers", "waypoint") }
	r.until(t, "six, fixed", func() bool { return replicas() == 6 && !autoscaler() })
	r.Load(scaled)
	r.until(t, "an autoscaler", autoscaler)
	if n := replicas(); n != 6 {
		t.Fatalf("%d replicas as the autoscaler took over", n)
	}
	d := r.Get("apps", "deployments", "shop", "waypoint")
	d["spec"].(map[string]any)["replicas"] = int64(8)
	r.Put("deployments", d)
	g = r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	g["spec"].(map[string]any)["infrastructure"].(map[string]any)["labels"] = apitest.Object{"team": "a"}
	r.Put("gateways", g)
	r.until(t, "a change", func() bool {
		l, _ := r.Get("apps", "deployments", "shop", "waypoint")["metadata"].(map[string]any)["labels"].(map[string]any)
		return l["team"] == "a"
	})
	if n := replicas(); n != 8 {
		t.Errorf("%d replicas: what the autoscaler set was taken back", n)
	}
	r.Load(fixed)
	r.until(t, "six again", func() bool { return replicas() == 6 && !autoscaler() })
}
