package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/testmesh"
)

// A ServiceEntry is a parent as a Service is, and a Hostname a backend.
func TestServiceEntries(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(frame + pod(podV1) + pod(podV2) + service(2, "v2", "http", 8080, podV2) + `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: shop}
spec:
  hosts: [ext.example]
  addresses: [10.96.7.1]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints: [{address: 127.60.0.1}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: entry, namespace: shop}
spec:
  parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: ext, port: 80}]
  rules:
  - name: own
    matches: [{path: {value: /own}}]
    backendRefs: [{group: networking.istio.io, kind: Hostname, name: ext.example, port: 80}]
  - name: other
    matches: [{path: {value: /other}}]
    backendRefs: [{name: v2, port: 80}]
  - name: nobody
    matches: [{path: {value: /nobody}}]
    backendRefs: [{group: networking.istio.io, kind: Hostname, name: nobody.example, port: 80}]
`)
	if a := m.ask("clients", 1, "GET", "/own/x"); a.one(t, m.v1).Path != "/own/x" || a.rec.Route != "shop/entry/own" {
		t.Errorf("%d by %s", a.StatusCode, a.rec.Route)
	}
	if a := m.ask("clients", 1, "GET", "/other"); a.one(t, m.v2).Path != "/other" {
		t.Errorf("%d by %s", a.StatusCode, a.rec.Route)
	}
	if a := m.ask("clients", 1, "GET", "/nobody"); a.StatusCode != 500 || a.rec.Flags.String() != "NC" {
		t.Errorf("%d %v", a.StatusCode, a.rec.Flags)
	}
	if a := m.ask("clients", 1, "GET", "/else"); a.StatusCode != 404 {
		t.Errorf("no rule: %d", a.StatusCode)
	}
}

const otherWaypoint = "127.60.0.5"

// bank is a service in a namespace with a waypoint of its own, whose policy
// denies /secret.
const bank = `
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: gate}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gate, namespace: other}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gate-1, namespace: other, labels: {gateway.networking.k8s.io/gateway-name: gate}}
spec: {serviceAccountName: gate}
status: {phase: Running, podIP: 127.60.0.5, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bank-1, namespace: other}
spec: {serviceAccountName: bank}
status: {phase: Running, podIP: 127.60.0.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: bank, namespace: other}
spec: {clusterIP: 10.96.7.50, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bank-1, namespace: other, labels: {kubernetes.io/service-name: bank}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [127.60.0.2], targetRef: {kind: Pod, name: bank-1, namespace: other}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: other}
spec:
  targetRefs: [{group: "", kind: Service, name: bank}]
  action: DENY
  rules: [{to: [{operation: {paths: [/secret*]}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules:
  - name: bank
    matches: [{path: {value: /bank}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: bank, namespace: other, port: 80}]
`

// A backend that another waypoint guards is reached through it, so that its policy
// holds; the pod never hears of the first waypoint.
func TestBackendBehindAnotherWaypoint(t *testing.T) {
	m := startMesh(t, nil)
	yaml := frame + pod(podV1) + service(1, "cart", "http", 8080, podV1) + bank
	m.opts.Waypoint = config.Owner{Namespace: "shop", Name: "waypoint"}
	m.serve(yaml)

	m.nodes[podV2].Close() // the pod is of another account here
	node, err := testmesh.NewNode(netip.MustParseAddr(podV2), m.source("other", "bank"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	gate, err := testmesh.NewWaypoint(testmesh.WaypointOptions{Source: m.source("other", "gate"), Listen: otherWaypoint + ":15008"})
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	objs := kube.NewObjects()
	list, err := kube.Parse("mesh.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		objs.Put(o)
	}
	gate.Serve(kube.NewBuilder(kube.Options{Waypoint: config.Owner{Namespace: "other", Name: "gate"}}).Build(objs))

	if a := m.ask("clients", 1, "GET", "/bank/a"); a.StatusCode != 200 || a.one(t, m.v2).Path != "/a" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := m.ask("clients", 1, "GET", "/bank/secret"); a.StatusCode != 403 || a.body != "RBAC: access denied" || len(m.v2.Find(a.id)) > 0 {
		t.Errorf("%d %s: the policy of the other waypoint does not hold", a.StatusCode, a.body)
	}
	if p := node.Peers(); len(p) != 1 || p["spiffe://cluster.local/ns/other/sa/gate"] == 0 {
		t.Errorf("the pod was called by %v", p)
	}
	// Without the other waypoint there is no way, and none past it.
	gate.Close()
	if a := m.ask("clients", 1, "GET", "/bank/a"); a.StatusCode != 503 || len(m.v2.Find(a.id)) > 0 {
		t.Errorf("%d %s: a way past the waypoint", a.StatusCode, a.body)
	}
}

// What chose a waypoint is what it serves: by namespace, service, ServiceEntry or
// pod, each of which may also opt out.
func TestUseWaypoint(t *testing.T) {
	const uses = "labels: {istio.io/use-waypoint: waypoint}"
	const never = "labels: {istio.io/use-waypoint: none}"
	gateway := func(label string) string {
		return "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: " + label + "}}\n" +
			"spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n---\n"
	}
	objects := func(namespace, svc, entry, pod string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: shop, %s}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop, %s}
spec: {clusterIP: 10.96.7.1, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: shop, %s}
spec: {hosts: [ext.example], addresses: [10.96.7.2], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], endpoints: [{address: 127.60.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: pod-1, namespace: shop, %s}
spec: {serviceAccountName: cart}
status: {phase: Running, podIP: 127.60.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [127.60.0.1], targetRef: {kind: Pod, name: pod-1, namespace: shop}}]
`, namespace, svc, entry, pod)
	}
	const none = "annotations: {a: b}"
	for _, tt := range []struct {
		name, yaml      string
		svc, entry, pod bool
	}{
		{"nobody", gateway("all") + objects(none, none, none, none), false, false, false},
		{"namespace, for services", gateway("service") + objects(uses, none, none, none), true, true, false},
		{"namespace, for workloads", gateway("workload") + objects(uses, none, none, none), false, false, true},
		{"namespace, for all", gateway("all") + objects(uses, none, none, none), true, true, true},
		{"namespace, for none", gateway("none") + objects(uses, none, none, none), false, false, false},
		{"service", gateway("all") + objects(none, uses, none, none), true, false, false},
		{"entry", gateway("all") + objects(none, none, uses, none), false, true, false},
		{"pod", gateway("all") + objects(none, none, none, uses), false, false, true},
		{"opted out", gateway("all") + objects(uses, never, never, never), false, false, false},
		{"service opted out", gateway("all") + objects(uses, never, none, none), false, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := startMesh(t, nil)
			m.serve(tt.yaml)
			client := testmesh.NewClient(m.source("clients", "curl"))
			defer client.Close()
			for authority, want := range map[string]bool{"10.96.7.1:80": tt.svc, "10.96.7.2:80": tt.entry, podV1 + ":8080": tt.pod} {
				if want {
					if a := m.askAt("clients", authority, "GET", "/a?b=c"); a.StatusCode != 200 || a.one(t, m.v1).Path != "/a?b=c" {
						t.Errorf("%s: %d %s", authority, a.StatusCode, a.body)
					}
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				tunnel, err := client.Dial(ctx, m.w.Addr, authority)
				cancel()
				var de *hbone.DialError
				if err == nil {
					tunnel.Close()
				}
				if !errors.As(err, &de) || de.Status != 404 {
					t.Errorf("%s: %v, want to be refused as unknown", authority, err)
				}
			}
		})
	}
}

// A pod that is called by its address is served on any port, as itself.
func TestWorkloadAddressed(t *testing.T) {
	m := startMesh(t, nil)
	greet(t, podV1+":7070", "v1", nil)
	extra, err := testmesh.NewApp("extra", podV1+":9999")
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	m.serve(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: workload}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]
  action: DENY
  rules: [{to: [{operation: {paths: [/no]}}]}, {to: [{operation: {ports: ["6666"]}}]}]
---
` + pod(podV1) + pod(podV2))
	if a := m.askAt("clients", podV1+":8080", "GET", "/a"); a.one(t, m.v1).Path != "/a" {
		t.Errorf("%d", a.StatusCode)
	}
	if a := m.askAt("clients", podV1+":9999", "GET", "/b"); a.one(t, extra).Path != "/b" {
		t.Errorf("%d", a.StatusCode)
	}
	if a := m.askAt("clients", podV2+":8080", "GET", "/no"); a.StatusCode != 403 || a.rec.Policy != "shop/deny" {
		t.Errorf("%d by %s", a.StatusCode, a.rec.Policy)
	}
	if a := m.askAt("clients", podV1+":6666", "GET", "/a"); a.StatusCode != 403 {
		t.Errorf("%d", a.StatusCode)
	}
	if a := m.askAt("clients", podV1+":1", "GET", "/a"); a.StatusCode != 503 || a.rec.Flags.String() == "-" {
		t.Errorf("a closed port: %d %v", a.StatusCode, a.rec.Flags)
	}
}
