package kube

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

// TestPolicyFields has each field of a rule with a request that only it lets in or
// keeps out: none is lost, or read as another, between a manifest and a decision.
func TestPolicyFields(t *testing.T) {
	mine := func() *attrs.Request { // what every row's value is about
		r := request("/mine")
		r.Method, r.Authority = "PUT", "mine.example"
		r.Conn.Peer = attrs.Principal{URI: "spiffe://mine.td/ns/mine-ns/sa/mine-sa", TrustDomain: "mine.td", Namespace: "mine-ns", ServiceAccount: "mine-sa"}
		r.Conn.Source, r.Remote = netip.MustParseAddrPort("10.1.1.1:1"), netip.MustParseAddr("10.2.2.2")
		r.Conn.DestPort = 80
		r.Headers = []attrs.Field{{Name: "x-mine", Value: "yes"}}
		r.Claims = &attrs.Claims{Issuer: "mine-iss", Subject: "mine-sub", Raw: map[string]any{"group": "mine"}}
		return r
	}
	other := func() *attrs.Request {
		r := request("/other")
		r.Method, r.Authority = "GET", "other.example"
		r.Conn.Source, r.Remote = netip.MustParseAddrPort("10.3.3.3:1"), netip.MustParseAddr("10.4.4.4")
		r.Conn.DestPort = 81
		r.Claims = &attrs.Claims{Issuer: "i", Subject: "s", Raw: map[string]any{"group": "other"}}
		return r
	}
	source := func(field, value string) string {
		return fmt.Sprintf("[{from: [{source: {%s: [%q]}}]}]", field, value)
	}
	operation := func(field, value string) string {
		return fmt.Sprintf("[{to: [{operation: {%s: [%q]}}]}]", field, value)
	}
	type row struct{ field, value string }
	check := func(name, rules string, wantMine, wantOther bool) {
		t.Helper()
		m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), allowPolicy(rules)))
		if d := decide(t, m, cartKey, mine()); d.Allowed != wantMine {
			t.Errorf("%s: the request that it is about: %+v", name, d)
		}
		if d := decide(t, m, cartKey, other()); d.Allowed != wantOther {
			t.Errorf("%s: another request: %+v", name, d)
		}
	}
	for _, f := range []row{
		{"principals", "mine.td/ns/mine-ns/sa/mine-sa"}, {"requestPrincipals", "mine-iss/mine-sub"}, {"namespaces", "mine-ns"}, {"serviceAccounts", "mine-ns/mine-sa"},
		{"trustDomains", "mine.td"}, {"ipBlocks", "10.1.1.1"}, {"remoteIpBlocks", "10.2.2.2"},
	} {
		check(f.field, source(f.field, f.value), true, false)
		not := "not" + strings.ToUpper(f.field[:1]) + f.field[1:]
		check(not, source(not, f.value), false, true)
	}
	for _, f := range []row{{"hosts", "mine.example"}, {"ports", "80"}, {"methods", "PUT"}, {"paths", "/mine"}} {
		check(f.field, operation(f.field, f.value), true, false)
		not := "not" + strings.ToUpper(f.field[:1]) + f.field[1:]
		check(not, operation(not, f.value), false, true)
	}
	for _, f := range []row{
		{"source.principal", "mine.td/ns/mine-ns/sa/mine-sa"}, {"source.namespace", "mine-ns"}, {"source.ip", "10.1.1.1"}, {"remote.ip", "10.2.2.2"}, {"destination.port", "80"},
		{"request.headers[x-mine]", "yes"}, {"request.auth.principal", "mine-iss/mine-sub"}, {"request.auth.claims[group]", "mine"},
	} {
		check(f.field, fmt.Sprintf("[{when: [{key: %q, values: [%q]}]}]", f.field, f.value), true, false)
		check("not "+f.field, fmt.Sprintf("[{when: [{key: %q, notValues: [%q]}]}]", f.field, f.value), false, true)
	}
	check("rules are alternatives", "[{to: [{operation: {paths: [/mine]}}]}, {to: [{operation: {paths: [/other]}}]}]", true, true)
	check("conditions are not", "[{when: [{key: source.ip, values: [10.1.1.1]}, {key: remote.ip, values: [10.4.4.4]}]}]", false, false)
	check("parts are not", "[{from: [{source: {namespaces: [mine-ns]}}], to: [{operation: {paths: [/other]}}]}]", false, false)
	check("no rules", "[]", false, false)
	check("an empty rule", "[{}]", true, true)
}

// TestPolicyTargets: a policy acts on what its target names, and on nothing else. The
// destinations are two services and a workload.
func TestPolicyTargets(t *testing.T) {
	const v2Key = "cart-v2.shop.svc.cluster.local:80"
	gw := "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: all}}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}"
	denyIn := func(namespace, targets string) string {
		return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: " + namespace + "}\nspec: {" + targets + "action: DENY, rules: [{}]}"
	}
	ref := func(group, kind, name string) string {
		return fmt.Sprintf("targetRefs: [{group: %q, kind: %s, name: %s}], ", group, kind, name)
	}
	for _, tt := range []struct {
		name, policy       string
		cart, v2, workload bool // denied
	}{
		{"a service", denyIn("shop", ref("", "Service", "cart")), true, false, false},
		{"a service by its group", denyIn("shop", ref("core", "Service", "cart")), true, false, false},
		{"two services", denyIn("shop", "targetRefs: [{group: '', kind: Service, name: cart}, {group: '', kind: Service, name: cart-v2}], "), true, true, false},
		{"the gateway", denyIn("shop", ref(groupGateway, "Gateway", "waypoint")), true, true, true},
		{"another gateway", denyIn("shop", ref(groupGateway, "Gateway", "other")), false, false, false},
		{"the class", denyIn("istio-system", ref(groupGateway, "GatewayClass", "istio-waypoint")), true, true, true},
		{"the class, from another namespace", denyIn("shop", ref(groupGateway, "GatewayClass", "istio-waypoint")), false, false, false},
		{"another class", denyIn("istio-system", ref(groupGateway, "GatewayClass", "other")), false, false, false},
		{"a service of another namespace", denyIn("clients", ref("", "Service", "cart")), false, false, false},
		{"no target", denyIn("shop", ""), false, false, false},
		{"a selector", denyIn("shop", "selector: {matchLabels: {app: cart}}, "), false, false, false},
	} {
		m := NewBuilder(Options{}).Build(store(t, manifest(t, "testdata/base.yaml"), gw, tt.policy))
		workloads := 0
		for _, d := range m.Destinations {
			want := map[string]bool{cartKey: tt.cart, v2Key: tt.v2}[d.Key]
			switch {
			case d.Workload:
				workloads++
				want = tt.workload
			case d.Key != cartKey && d.Key != v2Key:
				continue
			}
			if got := decide(t, m, d.Key, request("/")); got.Allowed == want {
				t.Errorf("%s: %s: %+v", tt.name, d.Key, got)
			}
		}
		if workloads == 0 {
			t.Fatalf("%s: no workload is served", tt.name)
		}
	}
}

// Only workloads that chose this waypoint are served, and only by a waypoint for them.
func TestWorkloadsThatAreServed(t *testing.T) {
	for value, want := range map[string]bool{"all": true, "workload": true, "service": false, "none": false} {
		for choice, mine := range map[string]bool{"waypoint": true, "none": false, "other": false} {
			gw := "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: " + value + "}}\nspec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}"
			second := strings.ReplaceAll(gw, "name: waypoint,", "name: other,")
			pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: lone, namespace: shop, labels: {istio.io/use-waypoint: " + choice + "}}\nspec: {serviceAccountName: lone}\nstatus: {phase: Running, podIP: 10.244.7.7}"
			m := NewBuilder(Options{Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}}).Build(store(t, manifest(t, "testdata/base.yaml"), gw, second, pod))
			at := netip.MustParsePrefix("10.244.7.7/32")
			served := false
			for _, d := range m.Destinations {
				for _, p := range d.Addrs {
					served = served || d.Workload && p == at
				}
			}
			if served != (want && mine) {
				t.Errorf("waypoint for %s, pod that uses %s: served %v", value, choice, served)
			}
		}
	}
}

// TestListenersAdmit: who may use a waypoint of another namespace is what its HBONE
// listeners say.
func TestListenersAdmit(t *testing.T) {
	const from = "allowedRoutes: {namespaces: "
	for _, tt := range []struct {
		name, listeners string
		want            bool
	}{
		{"nothing said", "{name: mesh, port: 15008, protocol: HBONE}", false},
		{"same", "{name: mesh, port: 15008, protocol: HBONE, " + from + "{from: Same}}}", false},
		{"all", "{name: mesh, port: 15008, protocol: HBONE, " + from + "{from: All}}}", true},
		{"by label", "{name: mesh, port: 15008, protocol: HBONE, " + from + "{from: Selector, selector: {matchLabels: {team: a}}}}}", true},
		{"by another label", "{name: mesh, port: 15008, protocol: HBONE, " + from + "{from: Selector, selector: {matchLabels: {team: b}}}}}", false},
		{"by name", "{name: mesh, port: 15008, protocol: HBONE, " + from + "{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: apps}}}}}", true},
		{"all on another protocol", "{name: web, port: 80, protocol: HTTP, " + from + "{from: All}}}, {name: mesh, port: 15008, protocol: HBONE}", false},
		{"all on no tunnel at all", "{name: web, port: 80, protocol: HTTP, " + from + "{from: All}}}", true},
		{"one of two", "{name: mesh, port: 15008, protocol: HBONE}, {name: more, port: 15009, protocol: HBONE, " + from + "{from: All}}}", true},
	} {
		m := NewBuilder(Options{}).Build(store(t,
			"apiVersion: v1\nkind: Namespace\nmetadata: {name: infra, labels: {istio.io/dataplane-mode: ambient}}",
			"apiVersion: v1\nkind: Namespace\nmetadata: {name: apps, labels: {istio.io/dataplane-mode: ambient, team: a, istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: infra}}",
			"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: waypoint, namespace: infra}\nspec: {gatewayClassName: istio-waypoint, listeners: ["+tt.listeners+"]}",
			"apiVersion: v1\nkind: Service\nmetadata: {name: app, namespace: apps}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}"))
		served := false
		for _, d := range m.Destinations {
			served = served || d.Key == "app.apps.svc.cluster.local:80"
		}
		if served != tt.want {
			t.Errorf("%s: served %v", tt.name, served)
		}
	}
}
