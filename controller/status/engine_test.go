package status

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/apitest"
	"waypoint.dev/waypoint/controller/feed"
	"waypoint.dev/waypoint/controller/watch"
)

const world = apitest.Shop + `---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop, generation: 1}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{group: "", kind: Service, name: web, port: 80, weight: 1}]}]}
status:
  parents:
  - parentRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge}
    controllerName: example.com/edge
    conditions: [{type: Accepted, status: "True", reason: Accepted, message: "", lastTransitionTime: "2025-01-01T00:00:00Z"}]
`

type rig struct {
	*apitest.Server
	engine   *Engine
	attached atomic.Pointer[map[kube.Key]int32]
	gateways atomic.Pointer[[]kube.Key]
}

// start runs an engine over a server's objects.
func start(t *testing.T, objects string) *rig {
	t.Helper()
	return startWith(t, objects, func(*apitest.Server) {})
}

func startWith(t *testing.T, objects string, prepare func(*apitest.Server)) *rig {
	t.Helper()
	s := apitest.New()
	s.Define()
	s.Load(objects)
	prepare(s)
	core, dyn := s.Clients()
	r := &rig{Server: s}
	gw := kube.Key{Group: groupGateway, Kind: "Gateway", Namespace: "shop", Name: "waypoint"}
	r.gateways.Store(&[]kube.Key{gw})
	var w *watch.Watcher
	store := feed.NewStore(feed.Mesh{})
	r.engine = New(Options{
		Client: dyn, Store: store, ControllerName: us, Mesh: config.Mesh{},
		Gateways:  func() []kube.Key { return *r.gateways.Load() },
		Resource:  func(group, kind string) (watch.Kind, bool) { return w.Kind(group, kind) },
		Attached:  func(m map[kube.Key]int32) { r.attached.Store(&m) },
		PerSecond: 1000, Burst: 1000,
	})
	w = watch.New(watch.Options{Core: core, Dynamic: dyn, Sink: fed{r.engine, store}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() { w.Run(ctx); done <- struct{}{} }()
	go func() { r.engine.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() { cancel(); s.Close(); <-done; <-done })
	return r
}

// fed puts what an engine gets into its store before, as the controller does.
type fed struct {
	*Engine
	store *feed.Store
}

func object(it *watch.Item) feed.Object {
	return feed.Object{Key: it.Key, Version: it.Version, JSON: it.JSON}
}

func (f fed) Put(it *watch.Item, content bool) {
	if content {
		f.store.Put(object(it))
	}
	f.Engine.Put(it, content)
}

func (f fed) Delete(k kube.Key) {
	f.store.Delete(k)
	f.Engine.Delete(k)
}

func (f fed) Replace(group, kind string, items []*watch.Item) {
	var objs []feed.Object
	for _, it := range items {
		objs = append(objs, object(it))
	}
	f.store.Replace(group, kind, objs)
	f.Engine.Replace(group, kind, items)
}

func (f fed) Synced() {
	f.store.SetSynced()
	f.Engine.Synced()
}

// until waits for a state of the server.
func (r *rig) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !r.Until(ok) {
		b, _ := json.MarshalIndent(r.Get(groupGateway, "httproutes", "shop", "r")["status"], "", " ")
		t.Fatalf("never: %s\n%s", what, b)
	}
}

// conditions returns "controller parent Type=Status Reason gen" for each condition
// of a route.
func (r *rig) conditions(name string) string {
	status, _ := r.Get(groupGateway, "httproutes", "shop", name)["status"].(map[string]any)
	list, _ := status["parents"].([]any)
	var out []string
	for _, p := range list {
		m := p.(map[string]any)
		cs, _ := m["conditions"].([]any)
		for _, c := range cs {
			x := c.(map[string]any)
			out = append(out, fmt.Sprintf("%v %v %v=%v %v %v", m["controllerName"], m["parentRef"].(map[string]any)["name"], x["type"], x["status"], x["reason"], number(x["observedGeneration"])))
		}
	}
	return strings.Join(out, "\n")
}

func TestRouteStatus(t *testing.T) {
	r := start(t, world)
	const edge = "example.com/edge edge Accepted=True Accepted 0\n"
	r.until(t, "accepted beside the other's entry", func() bool {
		return r.conditions("r") == edge+us+" web Accepted=True Accepted 1\n"+us+" web ResolvedRefs=True ResolvedRefs 1"
	})
	o := r.Get(groupGateway, "httproutes", "shop", "r")
	o["spec"].(map[string]any)["rules"].([]any)[0].(map[string]any)["backendRefs"].([]any)[0].(map[string]any)["name"] = "gone"
	r.Put("httproutes", o)
	r.until(t, "the missing backend of generation 2", func() bool {
		return r.conditions("r") == edge+us+" web Accepted=True Accepted 2\n"+us+" web ResolvedRefs=False BackendNotFound 2"
	})
	// The other controller goes on writing its own.
	o = r.Get(groupGateway, "httproutes", "shop", "r")
	list := o["status"].(map[string]any)["parents"].([]any)
	o["status"].(map[string]any)["parents"] = list[:1]
	r.Put("httproutes", o)
	r.until(t, "our entry again after it was dropped", func() bool { return strings.Contains(r.conditions("r"), "BackendNotFound") })
	// A parent that is not ours any more loses our entry.
	o = r.Get(groupGateway, "httproutes", "shop", "r")
	o["spec"].(map[string]any)["parentRefs"] = []any{apitest.Object{"group": "", "kind": "Service", "name": "far", "namespace": "other"}}
	r.Put("httproutes", o)
	r.until(t, "only the other's entry", func() bool { return r.conditions("r") == strings.TrimSuffix(edge, "\n") })
}

// TestGatewayNoLongerOurs takes back what was said for a Gateway, and nothing else.
func TestGatewayNoLongerOurs(t *testing.T) {
	r := start(t, world)
	r.until(t, "accepted", func() bool { return strings.Contains(r.conditions("r"), us+" web ResolvedRefs=True") })
	r.gateways.Store(&[]kube.Key{})
	r.engine.Refresh()
	r.until(t, "only the other's entry", func() bool { return r.conditions("r") == "example.com/edge edge Accepted=True Accepted 0" })
	r.until(t, "nothing attached", func() bool { return len(*r.attached.Load()) == 0 })
}

// TestOwnPolicyOfNobody is said of a WaypointPolicy that no waypoint has among its
// objects.
func TestOwnPolicyOfNobody(t *testing.T) {
	const policy = `
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: NAME, namespace: other, generation: 1}
spec: {targetRefs: [{group: "", kind: KIND, name: later}], timeouts: {request: 1s}}
`
	r := start(t, world+"---"+strings.NewReplacer("NAME", "orphan", "KIND", "Service").Replace(policy)+
		"---"+strings.NewReplacer("NAME", "broken", "KIND", "Nonsense").Replace(policy))
	status := func(name string) string {
		b, _ := json.Marshal(r.Get("waypoint.dev", "waypointpolicies", "other", name)["status"])
		return string(b)
	}
	r.until(t, "a target is missing", func() bool { return strings.Contains(status("orphan"), `"reason":"TargetNotFound"`) })
	r.until(t, "a policy cannot be read", func() bool { return strings.Contains(status("broken"), `"reason":"Invalid"`) })
	later := apitest.Parse("{apiVersion: v1, kind: Service, metadata: {name: later, namespace: other}, spec: {clusterIP: 10.0.0.9, ports: [{name: http, port: 80}]}}")[0]
	r.Put("services", later)
	r.until(t, "the target is there, and of no waypoint of ours", func() bool { return !strings.Contains(status("orphan"), "TargetNotFound") })
	r.Server.Delete("", "services", "other", "later")
	r.until(t, "it is gone", func() bool { return strings.Contains(status("orphan"), `"reason":"TargetNotFound"`) })
}

func TestGatewayAsParent(t *testing.T) {
	r := start(t, strings.ReplaceAll(world, `parentRefs: [{group: "", kind: Service, name: web}]`, `parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]`))
	r.until(t, "refused", func() bool {
		return strings.Contains(r.conditions("r"), us+" waypoint Accepted=False NotAllowedByListeners 1")
	})
}

// TestCrossedWrite lets another controller write between our read and our write.
func TestCrossedWrite(t *testing.T) {
	s := world[:strings.Index(world, "status:\n  parents")]
	var crossed atomic.Int32
	r := startWith(t, s, func(srv *apitest.Server) {
		srv.Before(func(method string, p apitest.Place) error {
			if method == "PATCH" && p.Sub == "status" && crossed.Add(1) == 1 {
				o := srv.Get(groupGateway, "httproutes", "shop", "r")
				o["status"] = apitest.Object{"parents": []any{apitest.Object{
					"parentRef": service("web"), "controllerName": "example.com/other", "conditions": []any{}}}}
				srv.Put("httproutes", o)
			}
			return nil
		})
	})
	r.until(t, "both entries", func() bool {
		b, _ := json.Marshal(r.Get(groupGateway, "httproutes", "shop", "r")["status"])
		return strings.Contains(string(b), "example.com/other") && strings.Contains(string(b), us)
	})
	if st := r.engine.Stats(); st.Conflicts == 0 {
		t.Errorf("%+v: the write was not refused", st)
	}
	if m := *r.attached.Load(); m[kube.Key{Group: groupGateway, Kind: "Gateway", Namespace: "shop", Name: "waypoint"}] != 1 {
		t.Errorf("attached %v", m)
	}
}

const policies = world + `
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop, generation: 1}
spec: {targetRefs: [{group: "", kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: far, namespace: other, generation: 1}
spec: {targetRefs: [{group: "", kind: Service, name: far}], action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: istiods, namespace: shop, generation: 1, managedFields: [{manager: istiod, operation: Apply, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:status": {"f:conditions": {}}}, subresource: status}]}
spec: {targetRefs: [{group: "", kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}
status: {conditions: [{type: WaypointAccepted, status: "True", reason: Accepted, message: bound by istiod}]}
---
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: w, namespace: shop, generation: 1}
spec: {targetRefs: [{group: "", kind: Service, name: web}, {group: "", kind: Service, name: gone}], timeouts: {request: 1s}}
`

func TestPolicyStatus(t *testing.T) {
	r := start(t, policies)
	status := func(group, resource, ns, name string) string {
		b, _ := json.Marshal(r.Get(group, resource, ns, name)["status"])
		return string(b)
	}
	r.until(t, "the policy is bound", func() bool {
		return strings.Contains(status(groupSecurity, "authorizationpolicies", "shop", "p"), `"message":"bound to Service web"`)
	})
	r.until(t, "both targets of our own kind", func() bool {
		s := status("waypoint.dev", "waypointpolicies", "shop", "w")
		return strings.Contains(s, `"reason":"Accepted"`) && strings.Contains(s, `"reason":"TargetNotFound"`)
	})
	if s := status(groupSecurity, "authorizationpolicies", "other", "far"); s != "null" {
		t.Errorf("the status of another's policy: %s", s)
	}
	if s := status(groupSecurity, "authorizationpolicies", "shop", "istiods"); !strings.Contains(s, "bound by istiod") {
		t.Errorf("istiod's condition is gone: %s", s)
	}
}

// TestPolicyNoLongerServed takes back what was said of a policy, and leaves what others
// said: of that policy, and of one that was never ours.
func TestPolicyNoLongerServed(t *testing.T) {
	r := start(t, policies)
	status := func(name string) string {
		b, _ := json.Marshal(r.Get(groupSecurity, "authorizationpolicies", "shop", name)["status"])
		return string(b)
	}
	r.until(t, "the policy is bound", func() bool { return strings.Contains(status("p"), "bound to Service web") })
	o := r.Get(groupSecurity, "authorizationpolicies", "shop", "p")
	st := o["status"].(map[string]any)
	st["conditions"] = append([]any{apitest.Object{"type": "ZtunnelAccepted", "status": "True", "reason": "Accepted", "message": "z"}}, st["conditions"].([]any)...)
	r.Put("authorizationpolicies", o)
	ns := r.Get("", "namespaces", "", "shop")
	ns["metadata"].(map[string]any)["labels"] = apitest.Object{}
	r.Put("namespaces", ns)
	r.until(t, "nothing of ours", func() bool { return !strings.Contains(status("p"), istioCondition) })
	if s := status("p"); !strings.Contains(s, "ZtunnelAccepted") {
		t.Errorf("another's condition is gone: %s", s)
	}
	if s := status("istiods"); !strings.Contains(s, "bound by istiod") {
		t.Errorf("istiod's condition is gone: %s", s)
	}
}

// TestNothingIsWrittenTwice lets the world stand still and counts writes.
func TestNothingIsWrittenTwice(t *testing.T) {
	r := start(t, policies)
	r.until(t, "all written", func() bool {
		all := true
		for _, x := range [][3]string{{groupGateway, "httproutes", "r"}, {groupSecurity, "authorizationpolicies", "p"}, {"waypoint.dev", "waypointpolicies", "w"}} {
			b, _ := json.Marshal(r.Get(x[0], x[1], "shop", x[2])["status"])
			all = all && strings.Contains(string(b), "Accepted") && (x[1] != "httproutes" || strings.Contains(string(b), us))
		}
		return all
	})
	// The first round may still see the last of those writes.
	for quiet, deadline := 0, time.Now().Add(10*time.Second); quiet < 3; {
		changed := r.Changed()
		r.engine.Refresh()
		select {
		case <-changed:
			if quiet > 0 || time.Now().After(deadline) {
				t.Fatalf("a write that changes nothing: %+v", r.engine.Stats())
			}
		case <-time.After(150 * time.Millisecond):
			quiet++
		}
	}
}
