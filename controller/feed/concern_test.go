package feed

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
)

// random objects of a mesh of two namespaces and two waypoints, with references
// across all of it.
type random struct {
	t *rapid.T
	n int
}

func (g *random) pick(of ...string) string { return rapid.SampledFrom(of).Draw(g.t, "pick") }

func (g *random) json() string {
	g.n++
	kind := g.pick("Namespace", "Gateway", "Service", "Service", "ServiceEntry", "Pod", "Pod", "WorkloadEntry", "EndpointSlice", "EndpointSlice", "HTTPRoute", "HTTPRoute", "AuthorizationPolicy", "RequestAuthentication", "WaypointPolicy", "DestinationRule", "ConfigMap")
	ns, name := g.pick("shop", "bank", "mesh"), g.pick("a", "b", "c", "other")
	meta := fmt.Sprintf(`"metadata":{"name":"%s","namespace":"%s"`, name, ns)
	use := g.pick("", "", `"istio.io/use-waypoint":"none",`, `"istio.io/use-waypoint":"other","istio.io/use-waypoint-namespace":"shop",`, `"istio.io/use-waypoint":"waypoint","istio.io/use-waypoint-namespace":"shop",`)
	service := fmt.Sprintf(`{"group":"","kind":"Service","name":"%s"}`, g.pick("a", "b"))
	switch kind {
	case "Namespace":
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s","labels":{%s"istio.io/dataplane-mode":"%s"}}}`, ns, use, g.pick("ambient", "none"))
	case "Gateway":
		return fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"%s","namespace":"shop","labels":{"istio.io/waypoint-for":"%s"}},"spec":{"gatewayClassName":"waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE","allowedRoutes":{"namespaces":{"from":"All"}}}]}}`,
			g.pick("waypoint", "other"), g.pick("service", "all"))
	case "Service":
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service",%s,"labels":{%s"app":"a"}},"spec":{"clusterIP":"10.96.%d.%d","ports":[{"name":"http","port":80},{"name":"hbone","port":15008}]}}`, meta, use, len(ns), name[0])
	case "ServiceEntry":
		return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry",%s,"labels":{%s"app":"a"}},"spec":{"hosts":["%s.example.com"],"ports":[{"number":80,"name":"http","protocol":"HTTP"}],%s}}`, meta, use, g.pick("x", "y"),
			g.pick(`"resolution":"STATIC","workloadSelector":{"labels":{"app":"a"}}`, `"resolution":"STATIC","endpoints":[{"address":"10.1.0.1"}]`, `"resolution":"DNS"`))
	case "Pod":
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod",%s,"labels":{%s"app":"%s"%s},"annotations":{%s}},"spec":{"serviceAccountName":"sa"},"status":{"phase":"Running","podIPs":[{"ip":"10.1.%d.%d"}]}}`,
			meta, use, g.pick("a", "b"), g.pick("", `,"gateway.networking.k8s.io/gateway-name":"other"`), g.pick(`"ambient.istio.io/redirection":"enabled"`, ``), len(ns), name[0])
	case "WorkloadEntry":
		return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"WorkloadEntry",%s},"spec":{"address":"10.1.0.1","labels":{"app":"a"}}}`, meta)
	case "EndpointSlice":
		return fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",%s,"labels":{"kubernetes.io/service-name":"%s"}},"addressType":"IPv4","ports":[{"name":"%s","port":80}],"endpoints":[{"addresses":["10.1.%d.%d"],"targetRef":{"kind":"Pod","name":"%s"}},{"addresses":["10.1.4.97"]}]}`,
			meta, g.pick("a", "b", "other"), g.pick("http", "hbone"), len(ns), name[0], name)
	case "HTTPRoute":
		return fmt.Sprintf(`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute",%s},"spec":{"parentRefs":[%s{"group":"","kind":"Service","name":"%s","namespace":"%s"}],"rules":[{"filters":[{"type":"RequestMirror","requestMirror":{"backendRef":{"name":"c","namespace":"bank","port":80}}}],"backendRefs":[%s]}]}}`, meta, g.pick("", "", `{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"waypoint","namespace":"shop"},`), g.pick("a", "b"), g.pick("shop", "bank"),
			g.pick(`{"name":"b","port":80}`, `{"name":"c","namespace":"bank","port":80}`, `{"group":"networking.istio.io","kind":"Hostname","name":"x.example.com","port":80}`, `{"group":"networking.istio.io","kind":"ServiceEntry","name":"a","port":80}`))
	case "AuthorizationPolicy":
		return fmt.Sprintf(`{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy",%s},"spec":{%s"rules":[{"to":[{"operation":{"paths":["/p%d"]}}]}]}}`, meta,
			g.pick(`"targetRefs":[`+service+`],`, `"targetRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"waypoint"}],`, `"action":"CUSTOM","provider":{"name":"ask"},"targetRefs":[`+service+`],`, ``, `"targetRefs":7,`), g.n%2)
	case "RequestAuthentication":
		return fmt.Sprintf(`{"apiVersion":"security.istio.io/v1","kind":"RequestAuthentication",%s},"spec":{"targetRefs":[%s],"jwtRules":[{"issuer":"i%d","jwks":"{}"}]}}`, meta, service, g.n%2)
	case "WaypointPolicy":
		return fmt.Sprintf(`{"apiVersion":"waypoint.dev/v1alpha1","kind":"WaypointPolicy",%s},"spec":{"targetRefs":[%s],"timeouts":{"request":"%ds"}}}`, meta, g.pick(service, service+`,{"group":"","kind":"Service","name":"c"}`, `{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","name":"b"}`), 1+g.n%3)
	case "DestinationRule":
		return fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule",%s},"spec":{"host":"%s","trafficPolicy":{"outlierDetection":{"consecutive5xxErrors":%d}}}}`, meta, g.pick("a", "a.bank.svc.cluster.local", "*.example.com", "x.example.com"), 1+g.n%3)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"istio","namespace":"istio-system"},"data":{"mesh":"extensionProviders: [{name: ask, envoyExtAuthzHttp: {service: %s, port: 80}}]"}}`, g.pick("c.bank.svc.cluster.local", "b.shop"))
}

// A waypoint serves the same from what concerns it as from everything, and as much is
// said in the status of routes and policies; and the sets that follow changes are those of a store that is filled anew.
func TestConcernsAreEnough(t *testing.T) {
	some, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := &random{t: t}
		s := NewStore(Mesh{})
		gateways := []owner{{"shop", "waypoint"}, {"shop", "other"}}
		s.mu.Lock()
		for _, o := range gateways {
			s.view(o).sessions[&session{pending: map[kube.Key]*object{}}] = struct{}{}
		}
		s.mu.Unlock()
		everything := map[kube.Key]Object{}
		for i := range rapid.IntRange(10, 40).Draw(t, "objects") {
			if keys := sorted(everything); len(keys) > 0 && rapid.IntRange(0, 5).Draw(t, "delete") == 0 {
				k := rapid.SampledFrom(keys).Draw(t, "which")
				delete(everything, k)
				s.Delete(k)
				continue
			}
			raw := []byte(g.json())
			k, err := kube.Decode(raw, "")
			if err != nil {
				t.Fatal(err)
			}
			o := Object{k.Key, fmt.Sprint(i), raw}
			if err := s.Put(o); err != nil {
				t.Fatal(err)
			}
			everything[k.Key] = o
		}
		anew := NewStore(Mesh{})
		for _, k := range sorted(everything) {
			if err := anew.Put(everything[k]); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range gateways {
			v, w := s.views[o], anew.view(o)
			if got, want := members(v), members(w); !slices.Equal(got, want) {
				t.Fatalf("concerns of %v\n got %v\nwant %v", o, got, want)
			}
			if !reflect.DeepEqual(v.wants, w.wants) {
				t.Fatalf("wants of %v\n got %v\nwant %v", o, v.wants, w.wants)
			}
			part, whole, judged := kube.NewObjects(), kube.NewObjects(), kube.NewObjects()
			for k, x := range everything {
				put(t, whole, x.JSON)
				if v.members[s.slots[k]] != nil {
					raw, _, err := kube.Trim(x.JSON)
					if err != nil {
						t.Fatal(err)
					}
					put(t, part, raw)
					switch k.Kind {
					case "Pod", "Node", "EndpointSlice", "WorkloadEntry", "DestinationRule":
					default: // what statuses are judged by
						put(t, judged, raw)
					}
				}
			}
			some, all = some+part.Len(), all+whole.Len()
			builders := map[*kube.Objects]*kube.Builder{}
			build := func(objs *kube.Objects) *config.Model {
				b := kube.NewBuilder(kube.Options{Waypoint: config.Owner{Namespace: o.namespace, Name: o.name}})
				builders[objs] = b
				return b.Build(objs)
			}
			got, want := build(part), build(whole)
			build(judged)
			for _, objs := range []*kube.Objects{part, judged} {
				if got, want := said(o, builders[objs], part), said(o, builders[whole], part); !reflect.DeepEqual(got, want) {
					t.Fatalf("what %v says\n got %+v\nwant %+v", o, got, want)
				}
			}
			if len(got.Destinations) != len(want.Destinations) {
				t.Fatalf("%v: %d destinations, want %d", o, len(got.Destinations), len(want.Destinations))
			}
			for i, d := range want.Destinations {
				if !reflect.DeepEqual(got.Destinations[i], d) {
					t.Fatalf("%v: %s\n got %+v\nwant %+v", o, d.Key, got.Destinations[i], d)
				}
			}
			if !reflect.DeepEqual(got.Backends, want.Backends) {
				for k, b := range want.Backends {
					if !reflect.DeepEqual(got.Backends[k], b) {
						t.Fatalf("%v: backend %s\n got %+v\nwant %+v", o, k, got.Backends[k], b)
					}
				}
				t.Fatalf("%v: %d backends, want %d", o, len(got.Backends), len(want.Backends))
			}
		}
	})
	if some*10 > all*9 {
		t.Errorf("%d of %d objects concern a waypoint: nothing is left out", some, all)
	}
}

// said is what a build says of routes and policies for its Gateway. Of a policy that
// cannot be read nobody speaks whom it does not concern.
func said(o owner, b *kube.Builder, part *kube.Objects) map[string]any {
	out := map[string]any{}
	gw := part.Get(kube.Key{Group: "gateway.networking.k8s.io", Kind: "Gateway", Namespace: o.namespace, Name: o.name})
	for _, r := range b.RouteStatuses() {
		for i, p := range r.Parents {
			if p.Ours || gw != nil && *p.Ref.Kind == "Gateway" && p.Ref.Name == o.name {
				out[fmt.Sprint(r.Kind, r.Namespace, r.Name, i)] = []any{p.Ref, p.Conditions, r.Generation}
			}
		}
	}
	for _, p := range b.PolicyStatuses() {
		if part.Get(kube.Key{Group: p.Group, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}) == nil {
			if slices.ContainsFunc(p.Targets, func(t kube.TargetStatus) bool { return t.Ours && t.Ref.Name != "" }) {
				out["missing "+p.Kind+p.Namespace+p.Name] = p
			}
			continue
		}
		for _, t := range p.Targets {
			if t.Ours {
				out[fmt.Sprint(p.Kind, p.Namespace, p.Name, t.Ref)] = []any{t.Condition, p.Generation}
			}
		}
	}
	return out
}

func put(t *rapid.T, objs *kube.Objects, raw []byte) {
	o, err := kube.Decode(raw, "x")
	if err != nil {
		t.Fatal(err)
	}
	objs.Put(o)
}

func sorted(m map[kube.Key]Object) (out []kube.Key) {
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b kube.Key) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func members(v *view) (out []string) {
	for sl := range v.members {
		out = append(out, sl.name)
	}
	slices.Sort(out)
	return out
}
