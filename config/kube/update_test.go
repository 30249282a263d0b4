package kube

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/config"
)

// small is a mesh whose every object a test may change at random: two namespaces,
// two waypoints, and references across all of it.
type small struct {
	t *rapid.T
	n int // of the change: part of what changes, so that most changes change something
}

func (g *small) pick(of ...string) string { return rapid.SampledFrom(of).Draw(g.t, "pick") }

func (g *small) ns() string { return g.pick("shop", "shop", "shop", "bank") }

// manifest is one object, some of them broken, by a name out of few.
func (g *small) manifest(kind string) string {
	ns := g.ns()
	name := g.pick("a", "b", "c")
	meta := fmt.Sprintf(`"metadata":{"name":"%s","namespace":"%s","creationTimestamp":"2026-01-0%sT00:00:00Z"`, name, ns, g.pick("1", "2"))
	switch kind {
	case "Namespace":
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s","labels":{%s"istio.io/dataplane-mode":"%s"}}}`, ns,
			g.pick(`"istio.io/use-waypoint":"waypoint",`, `"istio.io/use-waypoint":"other",`, ``), g.pick("ambient", "none"))
	case "Node":
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":{"topology.kubernetes.io/zone":"%s"}}}`, g.pick("z1", "z2"))
	case "Gateway":
		return fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"%s","namespace":"shop","labels":{"istio.io/waypoint-for":"%s"}},"spec":{"gatewayClassName":"waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE","allowedRoutes":{"namespaces":{"from":"All"}}}]}}`,
			g.pick("waypoint", "waypoint", "other"), g.pick("service", "all"))
	case "Service":
		if g.pick("", "", "", "other") != "" { // of a waypoint itself
			return `{"apiVersion":"v1","kind":"Service","metadata":{"name":"other","namespace":"shop"},"spec":{"clusterIP":"10.96.9.9","ports":[{"name":"http","port":15008}]}}`
		}
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service",%s,"labels":{%s"app":"%s"}},"spec":{"clusterIP":"10.96.%d.%d","selector":{"app":"%s"},"ports":[{"name":"http","port":80,"targetPort":"web"}%s]}}`,
			meta, g.pick("", "", `"istio.io/use-waypoint":"none",`, `"istio.io/use-waypoint":"other",`), name, len(ns), name[0], name,
			g.pick("", `,{"name":"tcp-x","port":9000}`))
	case "ServiceEntry":
		return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry",%s},"spec":{"hosts":["%s.example.com"%s],"ports":[{"number":80,"name":"http","protocol":"HTTP"}],%s}}`,
			meta, g.pick("x", "y"), g.pick("", `,"z.example.com"`),
			g.pick(fmt.Sprintf(`"addresses":["10.97.0.%d"],"resolution":"STATIC","workloadSelector":{"labels":{"app":"a"}}`, name[0]), fmt.Sprintf(`"addresses":["10.97.0.%d"],"resolution":"STATIC","endpoints":[{"address":"10.1.0.1"}]`, name[0]), `"resolution":"DNS"`))
	case "Pod":
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod",%s,"labels":{"app":"%s","v":"%d"%s},"annotations":{%s}},"spec":{"nodeName":"n1","serviceAccountName":"%s","containers":[{"ports":[{"name":"web","containerPort":808%s}]}]},"status":{"phase":"%s","podIPs":[{"ip":"10.1.0.%s"}],"conditions":[{"type":"Ready","status":"%s"}]}}`,
			meta, g.pick("a", "b"), g.n%3, g.pick("", "", `,"gateway.networking.k8s.io/gateway-name":"other"`, `,"gateway.networking.k8s.io/gateway-name":"waypoint","gateway.istio.io/managed":"istio.io-mesh-controller"`, `,"istio.io/use-waypoint":"waypoint"`),
			g.pick(`"ambient.istio.io/redirection":"enabled"`, `"ambient.istio.io/redirection":"enabled"`, ``), g.pick("one", "two"), g.pick("0", "1"),
			g.pick("Running", "Running", "Succeeded"), g.pick("1", "2", "3", "4", "5", "6"), g.pick("True", "False"))
	case "WorkloadEntry":
		return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"WorkloadEntry",%s},"spec":{"address":"10.1.0.%s","labels":{"app":"a"}}}`, meta, g.pick("7", "1"))
	case "EndpointSlice":
		return fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",%s,"labels":{"kubernetes.io/service-name":"%s"}},"addressType":"IPv4","ports":[{"name":"http","port":80%s}],"endpoints":[{"addresses":["10.1.0.%s"],"conditions":{"ready":%s},"targetRef":{"kind":"Pod","name":"%s"}},{"addresses":["10.1.0.%s"],"nodeName":"n1"}]}`,
			meta, g.pick("a", "b", "other"), g.pick("0", "1"), g.pick("1", "2"), g.pick("true", "false"), g.pick("a", "b"), g.pick("3", "4"))
	case "HTTPRoute", "GRPCRoute":
		matches := g.pick(`"matches":[{"path":{"type":"PathPrefix","value":"/x"}}],`, "", `"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"c","port":80}}}],`, `"filters":[{"type":"ExtensionRef","extensionRef":{"group":"g","kind":"k","name":"n"}}],`, `"wrong":1,`)
		if kind == "GRPCRoute" {
			matches = g.pick("", `"matches":[{"method":{"service":"s"}}],`)
		}
		return fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"%s",%s},"spec":{"parentRefs":[%s],"rules":[{%s"backendRefs":[%s]}]}}`, kind, meta,
			g.pick(`{"group":"","kind":"Service","name":"a"}`, `{"group":"","kind":"Service","name":"b","namespace":"shop","port":80},{"group":"","kind":"Service","name":"a"}`, `{"group":"","kind":"Service","name":"a","namespace":"shop"}`, `{"group":"networking.istio.io","kind":"ServiceEntry","name":"a"}`),
			matches, g.pick(`{"name":"b","port":80}`, `{"name":"a","port":80},{"name":"c","namespace":"bank","port":80}`, `{"name":"b","port":81}`, `{"group":"networking.istio.io","kind":"Hostname","name":"x.example.com","port":80}`, `{"group":"networking.istio.io","kind":"Hostname","name":"z.example.com","port":80},{"group":"networking.istio.io","kind":"ServiceEntry","name":"c","port":80}`))
	case "TCPRoute":
		return fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1alpha2","kind":"TCPRoute",%s},"spec":{"parentRefs":[{"group":"","kind":"Service","name":"%s"%s}],"rules":[{"backendRefs":[{"name":"%s","port":9000}]}]}}`, meta, g.pick("a", "b"), g.pick("", `,"port":9000`), g.pick("a", "b"))
	case "AuthorizationPolicy":
		return fmt.Sprintf(`{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy",%s},"spec":{%s"rules":[{"to":[{"operation":{"paths":["/p%d"]%s}}]%s}}`, meta,
			g.pick(`"targetRefs":[{"group":"","kind":"Service","name":"a"}],`, `"targetRefs":[{"group":"","kind":"Service","name":"a"},{"group":"","kind":"Service","name":"b"}],`, `"targetRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"waypoint"}],`, `"targetRef":{"group":"networking.istio.io","kind":"ServiceEntry","name":"a"},`, `"targetRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"other"}],`, `"selector":{"matchLabels":{"app":"a"}},`, ``, `"targetRefs":7,`),
			g.n%2, g.pick("", "", `,"ports":["9000"]`, `,"wrong":1`),
			g.pick(`}]`, `}],"action":"DENY"`, `}],"action":"CUSTOM","provider":{"name":"ext"}`, `,"when":[{"key":"request.auth.claims[x]","values":["y"]}]}]`))
	case "RequestAuthentication":
		return fmt.Sprintf(`{"apiVersion":"security.istio.io/v1","kind":"RequestAuthentication",%s},"spec":{"targetRefs":[%s],"jwtRules":[{"issuer":"i%d","jwks":"{}"}]}}`, meta,
			g.pick(`{"group":"","kind":"Service","name":"a"}`, `{"group":"","kind":"Service","name":"b"}`, `{"group":"networking.istio.io","kind":"ServiceEntry","name":"a"}`, `{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"waypoint"}`), g.n%2)
	case "WaypointPolicy":
		return fmt.Sprintf(`{"apiVersion":"waypoint.dev/v1alpha1","kind":"WaypointPolicy",%s},"spec":{"targetRefs":[%s],%s}}`, meta,
			g.pick(`{"group":"","kind":"Service","name":"a"}`, `{"group":"","kind":"Service","name":"b"},{"group":"gateway.networking.k8s.io","kind":"GRPCRoute","name":"a"}`, `{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","name":"b"}`, `{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"waypoint"}`),
			g.pick(fmt.Sprintf(`"timeouts":{"request":"%ds"}`, 1+g.n%3), `"circuitBreaker":{}`, `"outlierDetection":{"alwaysEjectOneHost":true}`))
	case "XBackendTrafficPolicy":
		return fmt.Sprintf(`{"apiVersion":"gateway.networking.x-k8s.io/v1alpha1","kind":"XBackendTrafficPolicy",%s},"spec":{"targetRefs":[{"group":"","kind":"Service","name":"%s"}],%s}}`, meta, g.pick("a", "b"),
			g.pick(fmt.Sprintf(`"retryConstraint":{"budget":{"percent":%d}}`, 10+g.n%3), fmt.Sprintf(`"sessionPersistence":{"sessionName":"s%d"}`, g.n%3), `"sessionPersistence":{"type":"Header"},"retryConstraint":{}`))
	case "DestinationRule":
		return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule",%s},"spec":{%s"host":"%s","trafficPolicy":{"outlierDetection":{"consecutive5xxErrors":%d}},"subsets":[{"name":"%s","labels":{"v":"0"}}]}}`, meta,
			g.pick("", "", "", `"exportTo":["."],`, `"workloadSelector":{"matchLabels":{"v":"0"}},`), g.pick("a", "b", "c.bank.svc.cluster.local", "z.example.com", "*.example.com", "*"), 1+g.n%3, g.pick("v0", "v1"))
	}
	return `{"apiVersion":"v1","kind":"Secret",` + meta + `}}`
}

var smallKinds = []string{"Namespace", "Node", "Gateway", "Service", "Service", "ServiceEntry", "Pod", "Pod", "WorkloadEntry", "EndpointSlice", "EndpointSlice",
	"HTTPRoute", "HTTPRoute", "GRPCRoute", "TCPRoute", "AuthorizationPolicy", "RequestAuthentication", "WaypointPolicy", "XBackendTrafficPolicy", "DestinationRule", "Secret"}

// followed are the kinds that an update follows.
var followed = []string{"Pod", "EndpointSlice", "HTTPRoute", "GRPCRoute", "TCPRoute", "AuthorizationPolicy", "RequestAuthentication", "Secret",
	"Service", "Service", "ServiceEntry", "ServiceEntry", "WorkloadEntry", "DestinationRule", "WaypointPolicy", "XBackendTrafficPolicy"}

// outcome is all that a build says, without pointers.
type outcome struct {
	destinations []config.Destination
	backends     map[string]config.Backend
	workloads    []config.Workload
	problems     []config.Problem
	statuses     Statuses
}

func outcomeOf(b *Builder, m *config.Model) *outcome {
	o := &outcome{backends: map[string]config.Backend{}, problems: m.Problems, statuses: b.Statuses()}
	for _, d := range m.Destinations {
		o.destinations = append(o.destinations, *d)
	}
	for k, x := range m.Backends {
		o.backends[k] = *x
	}
	for _, w := range m.Workloads {
		o.workloads = append(o.workloads, *w)
	}
	return o
}

// A model that follows changes is the one that is built from all objects, and
// shares with the one before what is equal to it.
func TestUpdateEqualsWhole(t *testing.T) {
	updates, builds := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := &small{t: t}
		s := NewObjects()
		put := func(kind string) {
			g.n++
			if o, err := Decode([]byte(g.manifest(kind)), "test"); err == nil {
				s.Put(o)
			}
		}
		for _, m := range []string{
			`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"istio.io/use-waypoint":"waypoint","istio.io/dataplane-mode":"ambient"}}}`,
			`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"waypoint","namespace":"shop"},"spec":{"gatewayClassName":"waypoint"}}`,
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"istio","namespace":"istio-system"},"data":{"mesh":"extensionProviders:\n- name: ext\n  envoyExtAuthzGrpc:\n    service: c.shop.svc.cluster.local\n    port: 80\n"}}`,
		} {
			o, err := Decode([]byte(m), "test")
			if err != nil {
				t.Fatal(err)
			}
			s.Put(o)
		}
		for range 30 {
			put(g.pick(smallKinds...))
		}
		o := Options{Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}}
		b := NewBuilder(o)
		before := b.Build(s)
		snap, _ := config.Compile(before, nil, config.Env{})
		var live config.Store
		for range rapid.IntRange(1, 12).Draw(t, "builds") {
			var did []string
			from := followed
			if rapid.IntRange(0, 4).Draw(t, "any kind") == 0 {
				from = smallKinds
			}
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				kind := g.pick(from...)
				if all := s.keys(kind); len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
					k := rapid.SampledFrom(all).Draw(t, "which")
					s.Delete(k)
					did = append(did, "delete "+k.String())
					continue
				}
				put(kind)
				did = append(did, "put "+kind)
			}
			last := b.last
			m := b.Build(s)
			builds++
			if b.last == last {
				updates++
			}
			fresh := NewBuilder(o)
			all := fresh.Build(s)
			want := outcomeOf(fresh, all)
			if got := outcomeOf(b, m); !reflect.DeepEqual(got, want) {
				t.Fatalf("after %s\n%s", strings.Join(did, ", "), difference(got, want))
			}
			shares(t, before, m)
			before = m
			snap, _ = config.Compile(m, snap, config.Env{})
			live.Swap(snap) // from then on it serves
			anew, _ := config.Compile(all, nil, config.Env{})
			serves(t, snap, anew)
		}
	})
	if updates*2 < builds {
		t.Errorf("only %d of %d builds were updates", updates, builds)
	}
}

// keys returns the keys of a kind, in order.
func (s *Objects) keys(kind string) (out []Key) {
	for k := range s.m {
		if k.Kind == kind {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, compareKeys)
	return out
}

// shares checks that what is equal is the same.
func shares(t *rapid.T, a, b *config.Model) {
	// Of several of one name the first one serves.
	first := map[string]*config.Destination{}
	for _, x := range a.Destinations {
		if old, twice := first[x.Key]; twice || old != nil {
			first[x.Key] = nil
			continue
		}
		first[x.Key] = x
	}
	for _, y := range b.Destinations {
		if x := first[y.Key]; x != nil && x != y && reflect.DeepEqual(x, y) {
			t.Fatalf("destination %s is equal and another", x.Key)
		}
	}
	for k, x := range a.Backends {
		if y := b.Backends[k]; y != nil && x != y && reflect.DeepEqual(x, y) {
			t.Fatalf("backend %s is equal and another", k)
		}
	}
}

// serves checks that a snapshot that followed changes answers as one made of all.
func serves(t *rapid.T, got, want *config.Snapshot) {
	if !reflect.DeepEqual(got.Problems, want.Problems) {
		t.Fatalf("problems\n got %v\nwant %v", got.Problems, want.Problems)
	}
	if len(got.Chains()) != len(want.Chains()) {
		t.Fatalf("%d chains, want %d", len(got.Chains()), len(want.Chains()))
	}
	for i, c := range want.Chains() {
		if g := got.Chains()[i]; !reflect.DeepEqual(g.Spec, c.Spec) {
			t.Fatalf("chain %d is %+v, want %+v", i, g.Spec, c.Spec)
		}
		for _, host := range c.Spec.Hosts {
			if g := got.Lookup(netip.AddrPort{}, host, c.Spec.Port); g.Spec.Key != want.Lookup(netip.AddrPort{}, host, c.Spec.Port).Spec.Key {
				t.Fatalf("%s leads to %s", host, g.Spec.Key)
			}
		}
		for _, p := range c.Spec.Addrs {
			a := netip.AddrPortFrom(p.Addr(), c.Spec.Port)
			if g := got.Lookup(a, "", 0); g.Spec.Key != want.Lookup(a, "", 0).Spec.Key {
				t.Fatalf("%s leads to %s", a, g.Spec.Key)
			}
		}
	}
	targets := 0
	want.Targets(func(x *config.Target) bool {
		g := got.Target(x.Key)
		if g == nil || g.Spec.Load().Service != x.Spec.Load().Service {
			t.Fatalf("target %s", x.Key)
		}
		targets++
		return true
	})
	got.Targets(func(*config.Target) bool { targets--; return true })
	if targets != 0 {
		t.Fatalf("%d targets are missing or too many", targets)
	}
	workloads := map[netip.Addr]config.Workload{}
	want.Workloads(func(a netip.Addr, w *config.Workload) bool { workloads[a] = *w; return true })
	got.Workloads(func(a netip.Addr, w *config.Workload) bool {
		if !reflect.DeepEqual(*w, workloads[a]) {
			t.Fatalf("%s is of %+v, want %+v", a, *w, workloads[a])
		}
		delete(workloads, a)
		return true
	})
	if len(workloads) != 0 {
		t.Fatalf("nobody has %v", workloads)
	}
}

func difference(got, want *outcome) string {
	var out strings.Builder
	for _, f := range []struct {
		name string
		a, b any
	}{
		{"destinations", got.destinations, want.destinations}, {"workloads", got.workloads, want.workloads},
		{"problems", got.problems, want.problems}, {"routes", got.statuses.Routes, want.statuses.Routes}, {"policies", got.statuses.Policies, want.statuses.Policies},
	} {
		if !reflect.DeepEqual(f.a, f.b) {
			fmt.Fprintf(&out, "%s\n got %+v\nwant %+v\n", f.name, f.a, f.b)
		}
	}
	for k := range want.backends {
		if !reflect.DeepEqual(got.backends[k], want.backends[k]) {
			fmt.Fprintf(&out, "backend %s\n got %+v\nwant %+v\n", k, got.backends[k], want.backends[k])
		}
	}
	for k := range got.backends {
		if _, ok := want.backends[k]; !ok {
			fmt.Fprintf(&out, "backend %s is too many\n", k)
		}
	}
	return out.String()
}
