package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/apitest"
	"waypoint.dev/waypoint/controller/watch"
)

const ourClass = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: waypoint}
spec: {controllerName: waypoint.dev/gateway-controller}
`

const shop = ourClass + `
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
`

type rig struct {
	*apitest.Server
	r *Reconciler
}

func start(t *testing.T, objects string) *rig {
	t.Helper()
	return startWith(t, objects, func(*Settings) {})
}

func startWith(t *testing.T, objects string, change func(*Settings)) *rig {
	t.Helper()
	s := apitest.New()
	s.Define()
	s.Load(objects)
	core, dyn := s.Clients()
	set := *settings()
	change(&set)
	r := New(Options{Client: dyn, Settings: set, Roots: func() []byte { return []byte("ROOTS") }})
	w := watch.New(watch.Options{Core: core, Dynamic: dyn, Sink: r})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() { w.Run(ctx); done <- struct{}{} }()
	go func() { r.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() { cancel(); s.Close(); <-done; <-done })
	return &rig{s, r}
}

func (r *rig) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !r.Until(ok) {
		t.Fatalf("never: %s\n%s", what, r.gateway("waypoint"))
	}
}

// gateway returns the status of a Gateway: "Type=Status Reason" of each condition,
// "listener Type=Status Reason", addresses.
func (r *rig) gateway(name string) string {
	status, _ := r.Get(gatewayGroup, "gateways", "shop", name)["status"].(map[string]any)
	b, _ := json.Marshal(status)
	var st gatewayStatus
	_ = json.Unmarshal(b, &st)
	var out []string
	for _, c := range st.Conditions {
		out = append(out, fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason))
	}
	for _, l := range st.Listeners {
		for _, c := range l.Conditions {
			if c.Type != "Conflicted" {
				out = append(out, fmt.Sprintf("%s %s=%s %s", l.Name, c.Type, c.Status, c.Reason))
			}
		}
		out = append(out, fmt.Sprintf("%s routes=%d kinds=%d", l.Name, l.AttachedRoutes, len(l.SupportedKinds)))
	}
	for _, a := range st.Addresses {
		out = append(out, a.Type+" "+a.Value)
	}
	return strings.Join(out, "\n")
}

func (r *rig) has(group, resource, name string) bool {
	return r.Get(group, resource, "shop", name) != nil
}

// available says how many replicas of the Deployment serve, as its controller would.
func (r *rig) available(n int) {
	d := r.Get("apps", "deployments", "shop", "waypoint")
	d["status"] = apitest.Object{"availableReplicas": int64(n)}
	r.Put("deployments", d)
}

func (r *rig) address(ips ...any) {
	s := r.Get("", "services", "shop", "waypoint")
	spec := s["spec"].(map[string]any)
	spec["clusterIPs"], spec["clusterIP"] = ips, ips[0]
	r.Put("services", s)
}

func TestLifeOfAGateway(t *testing.T) {
	r := start(t, shop)
	r.until(t, "its objects", func() bool {
		return r.has("", "serviceaccounts", "waypoint") && r.has("", "configmaps", "waypoint-waypoint-controller-ca") && r.has("", "services", "waypoint") &&
			r.has("apps", "deployments", "waypoint") && r.has("autoscaling", "horizontalpodautoscalers", "waypoint") && r.has("policy", "poddisruptionbudgets", "waypoint")
	})
	r.until(t, "waiting for an address", func() bool {
		return strings.Contains(r.gateway("waypoint"), "Accepted=True Accepted\nProgrammed=False AddressNotAssigned")
	})
	r.address("10.96.0.7", "fd00::7")
	r.until(t, "waiting for a replica", func() bool { return strings.Contains(r.gateway("waypoint"), "Programmed=False Pending") })
	if strings.Contains(r.gateway("waypoint"), "IPAddress") {
		t.Error("it has an address before it serves")
	}
	r.available(1)
	const up = "Accepted=True Accepted\nProgrammed=True Programmed\nmesh Accepted=True Accepted\nmesh Programmed=True Programmed\nmesh ResolvedRefs=True ResolvedRefs\nmesh routes=%d kinds=4\nIPAddress 10.96.0.7\nIPAddress fd00::7"
	r.until(t, "programmed", func() bool { return r.gateway("waypoint") == fmt.Sprintf(up, 0) })
	r.until(t, "the class", func() bool {
		b, _ := json.Marshal(r.Get(gatewayGroup, "gatewayclasses", "", "waypoint")["status"])
		return strings.Contains(string(b), `"status":"True"`)
	})
	r.r.SetAttached(map[kube.Key]int32{{Namespace: "shop", Name: "waypoint"}: 3})
	r.until(t, "attached routes", func() bool { return r.gateway("waypoint") == fmt.Sprintf(up, 3) })

	// A waypoint that fails keeps its address: its services must not be gone around.
	r.available(0)
	r.until(t, "not programmed, with addresses", func() bool {
		return strings.Contains(r.gateway("waypoint"), "Programmed=False Pending") && strings.Contains(r.gateway("waypoint"), "IPAddress 10.96.0.7")
	})
	r.available(2)
	r.until(t, "programmed again", func() bool { return r.gateway("waypoint") == fmt.Sprintf(up, 3) })

	// What someone removes comes back, what someone changes is put right.
	r.Delete("policy", "poddisruptionbudgets", "shop", "waypoint")
	r.until(t, "the budget again", func() bool { return r.has("policy", "poddisruptionbudgets", "waypoint") })
	d := r.Get("apps", "deployments", "shop", "waypoint")
	d["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["serviceAccountName"] = "admin"
	r.Put("deployments", d)
	r.until(t, "the account again", func() bool {
		d := r.Get("apps", "deployments", "shop", "waypoint")
		return d["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["serviceAccountName"] == "waypoint"
	})

	// Steady, nothing is written.
	applies := r.Requests("PATCH deployments")
	r.r.Refresh()
	r.available(1)
	r.until(t, "steady", func() bool { return r.gateway("waypoint") == fmt.Sprintf(up, 3) })
	if n := r.Requests("PATCH deployments") - applies; n > 1 {
		t.Errorf("%d applies for a change of status", n)
	}

	r.Delete(gatewayGroup, "gateways", "shop", "waypoint")
	r.until(t, "all gone", func() bool { return !r.has("apps", "deployments", "waypoint") && !r.has("", "services", "waypoint") })
}

func TestParameters(t *testing.T) {
	r := start(t, strings.ReplaceAll(shop, "listeners:", "infrastructure: {parametersRef: {group: \"\", kind: ConfigMap, name: p}}, listeners:"))
	r.until(t, "no such ConfigMap", func() bool {
		return strings.Contains(r.gateway("waypoint"), "Accepted=False InvalidParameters\nProgrammed=False Invalid")
	})
	if r.has("apps", "deployments", "waypoint") {
		t.Error("made without its parameters")
	}
	r.Load(`{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {podDisruptionBudget: none, deployment: "spec: {minReadySeconds: 7}"}}`)
	r.until(t, "the parameters", func() bool {
		d := r.Get("apps", "deployments", "shop", "waypoint")
		return d != nil && d["spec"].(map[string]any)["minReadySeconds"] == int64(7) && r.has("autoscaling", "horizontalpodautoscalers", "waypoint")
	})
	if r.has("policy", "poddisruptionbudgets", "waypoint") {
		t.Error("a budget though there is to be none")
	}
	r.Load(`{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {horizontalPodAutoscaler: none}}`)
	r.until(t, "no autoscaler but a budget", func() bool {
		return !r.has("autoscaling", "horizontalpodautoscalers", "waypoint") && r.has("policy", "poddisruptionbudgets", "waypoint")
	})
	r.Load(`{apiVersion: v1, kind: ConfigMap, metadata: {name: p, namespace: shop}, data: {deployment: "spec: {nonsense: 1}"}}`)
	r.until(t, "bad parameters", func() bool { return strings.Contains(r.gateway("waypoint"), "Accepted=False InvalidParameters") })
	if !r.has("apps", "deployments", "waypoint") {
		t.Error("a slip in parameters took the waypoint down")
	}
}

// TestParametersAreAwaited: a ConfigMap that was not read yet is not one that is missing.
func TestParametersAreAwaited(t *testing.T) {
	r := New(Options{Settings: *settings()})
	ref := &ParametersRef{Kind: "ConfigMap", Name: "p"}
	if _, ready, err := r.parameters(ref, "shop"); ready || err != nil {
		t.Errorf("before it is watched: %v %v", ready, err)
	}
	p := &parameters{}
	r.params[name{"shop", "p"}] = p
	if _, ready, err := r.parameters(ref, "shop"); ready || err != nil {
		t.Errorf("before it is listed: %v %v", ready, err)
	}
	p.listed = true
	if _, ready, err := r.parameters(ref, "shop"); !ready || err == nil {
		t.Errorf("it is missing: %v %v", ready, err)
	}
	p.found, p.data = true, map[string]string{keyHPA: none}
	if data, ready, err := r.parameters(ref, "shop"); !ready || err != nil || data[keyHPA] != none {
		t.Errorf("it is there: %v %v %v", data, ready, err)
	}
	for _, bad := range []*ParametersRef{{Group: "example.com", Kind: "ConfigMap", Name: "p"}, {Kind: "Secret", Name: "p"}} {
		if _, ready, err := r.parameters(bad, "shop"); !ready || err == nil {
			t.Errorf("%+v: %v %v", bad, ready, err)
		}
	}
	if _, _, err := r.parameters(ref, ""); err == nil {
		t.Error("parameters of a class without a namespace are taken")
	}
}

func TestClassParameters(t *testing.T) {
	r := start(t, strings.ReplaceAll(shop, "spec: {controllerName: waypoint.dev/gateway-controller}", "spec: {controllerName: waypoint.dev/gateway-controller, parametersRef: {group: \"\", kind: ConfigMap, name: defaults, namespace: sys}}"))
	accepted := func() string {
		b, _ := json.Marshal(r.Get(gatewayGroup, "gatewayclasses", "", "waypoint")["status"])
		return string(b)
	}
	r.until(t, "refused class", func() bool { return strings.Contains(accepted(), "InvalidParameters") })
	r.Load(`{apiVersion: v1, kind: ConfigMap, metadata: {name: defaults, namespace: sys}, data: {deployment: "spec: {minReadySeconds: 5}"}}`)
	r.until(t, "accepted class", func() bool { return strings.Contains(accepted(), `"status":"True"`) })
	r.until(t, "defaults", func() bool {
		d := r.Get("apps", "deployments", "shop", "waypoint")
		return d != nil && d["spec"].(map[string]any)["minReadySeconds"] == int64(5)
	})
}

func TestOthersObjectsStay(t *testing.T) {
	r := start(t, shop+`
---
apiVersion: v1
kind: Service
metadata: {name: waypoint, namespace: shop}
spec: {clusterIP: 10.0.0.9, selector: {mine: "yes"}}
`)
	r.until(t, "taken", func() bool { return strings.Contains(r.gateway("waypoint"), "Programmed=False NoResources") })
	if s := r.Get("", "services", "shop", "waypoint"); s["spec"].(map[string]any)["selector"].(map[string]any)["mine"] != "yes" {
		t.Error("another's Service was changed")
	}
	r.Delete("", "services", "shop", "waypoint")
	r.until(t, "made once the name is free", func() bool { return r.has("apps", "deployments", "waypoint") })
}

func TestOtherClassesAreLeftAlone(t *testing.T) {
	r := start(t, shop+`
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/other}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}
`)
	r.until(t, "ours", func() bool { return r.has("policy", "poddisruptionbudgets", "waypoint") })
	if r.has("apps", "deployments", "edge") || r.gateway("edge") != "" {
		t.Error("another's Gateway was touched")
	}
	if n := r.r.Gateways(); len(n) != 1 {
		t.Errorf("%v", n)
	}
	// A Gateway that changes its class loses what we made; a class that is gone for a
	// moment takes nothing down.
	r.Delete(gatewayGroup, "gatewayclasses", "", "waypoint")
	g := r.Get(gatewayGroup, "gateways", "shop", "waypoint")
	r.until(t, "the class is gone", func() bool { return len(r.r.Gateways()) == 0 })
	// One worker looks at one Gateway after the other, so this one comes after.
	r.Load(strings.NewReplacer("name: waypoint", "name: second", "gatewayClassName: waypoint", "gatewayClassName: second").Replace(shop))
	r.until(t, "another class", func() bool { return r.has("policy", "poddisruptionbudgets", "second") })
	if !r.has("apps", "deployments", "waypoint") {
		t.Error("a class that is gone took the waypoint down")
	}
	g["spec"].(map[string]any)["gatewayClassName"] = "other"
	r.Put("gateways", g)
	r.until(t, "removed", func() bool {
		return !r.has("apps", "deployments", "waypoint") && !r.has("", "configmaps", "waypoint-waypoint-controller-ca")
	})
}

func TestListeners(t *testing.T) {
	for _, c := range []struct{ name, spec, want string }{
		{"http", `[{name: http, port: 80, protocol: HTTP}]`, "Accepted=False ListenersNotValid\nProgrammed=False Invalid\nhttp Accepted=False UnsupportedProtocol\nhttp Programmed=False Invalid\nhttp ResolvedRefs=True ResolvedRefs\nhttp routes=0 kinds=0"},
		{"port", `[{name: m, port: 15009, protocol: HBONE}]`, "Accepted=False ListenersNotValid\nProgrammed=False Invalid\nm Accepted=False PortUnavailable\nm Programmed=False Invalid\nm ResolvedRefs=True ResolvedRefs\nm routes=0 kinds=0"},
		{"both", `[{name: m, port: 15008, protocol: HBONE}, {name: http, port: 80, protocol: HTTP}]`, "Accepted=True ListenersNotValid\nProgrammed=True Programmed\nm Accepted=True Accepted\nm Programmed=True Programmed\nm ResolvedRefs=True ResolvedRefs\nm routes=2 kinds=4\nhttp Accepted=False UnsupportedProtocol\nhttp Programmed=False Invalid\nhttp ResolvedRefs=True ResolvedRefs\nhttp routes=0 kinds=0\nIPAddress 10.0.0.1"},
		{"kinds", `[{name: m, port: 15008, protocol: HBONE, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: UDPRoute}]}}]`, "Accepted=True Accepted\nProgrammed=True Programmed\nm Accepted=True Accepted\nm Programmed=True Programmed\nm ResolvedRefs=False InvalidRouteKinds\nm routes=2 kinds=1\nIPAddress 10.0.0.1"},
	} {
		gw := gatewayOf(t, "metadata: {name: w, namespace: shop}\nspec: {gatewayClassName: waypoint, listeners: "+c.spec+"}")
		st := describe(gw, outcome{made: true, available: 1, attached: 2, addresses: []address{{"IPAddress", "10.0.0.1"}}}, nil)
		if refused(gw) != nil {
			st = describe(gw, outcome{made: true}, nil)
		}
		s := apitest.New()
		r := &rig{s, nil}
		b, _ := json.Marshal(st)
		var m map[string]any
		_ = json.Unmarshal(b, &m)
		s.Put("gateways", apitest.Object{"apiVersion": gatewayGroup + "/v1", "kind": "Gateway", "metadata": apitest.Object{"name": "w", "namespace": "shop"}, "status": m})
		if got := r.gateway("w"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
		s.Close()
	}
}
