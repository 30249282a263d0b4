package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/apitest"
)

// recorder is a sink that remembers.
type recorder struct {
	mu      sync.Mutex
	objects map[kube.Key]*Item
	log     []string
	synced  bool
	changed chan struct{}
}

func newRecorder() *recorder {
	return &recorder{objects: map[kube.Key]*Item{}, changed: make(chan struct{}, 1)}
}

func (r *recorder) note(format string, args ...any) {
	r.log = append(r.log, fmt.Sprintf(format, args...))
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) Put(it *Item, content bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.objects[it.Key] = it
	r.note("put %s %v", it.Key, content)
}

func (r *recorder) Delete(k kube.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.objects, k)
	r.note("delete %s", k)
}

func (r *recorder) Replace(group, kind string, items []*Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.objects {
		if k.Group == group && k.Kind == kind {
			delete(r.objects, k)
		}
	}
	for _, it := range items {
		r.objects[it.Key] = it
	}
	r.note("replace %s %d", kind, len(items))
}

func (r *recorder) Synced() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.synced = true
	r.note("synced")
}

// until waits for a state of the recorder.
func (r *recorder) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		good := ok()
		r.mu.Unlock()
		if good {
			return
		}
		select {
		case <-r.changed:
		case <-time.After(10 * time.Millisecond): // what ok looks at may change without it
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("never: %s\n%s", what, strings.Join(r.log, "\n"))
		}
	}
}

// saw waits for a line of the log.
func (r *recorder) saw(t *testing.T, line string) {
	t.Helper()
	r.until(t, line, func() bool { return slices.Contains(r.log, line) })
}

// watching starts a Watcher on a server.
func watching(t *testing.T, s *apitest.Server) (*recorder, *Watcher) {
	t.Helper()
	core, dyn := s.Clients()
	r := newRecorder()
	w := New(Options{Core: core, Dynamic: dyn, Sink: r})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); s.Close(); <-done })
	return r, w
}

const route = `{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{group: "", kind: Service, name: web}]}}`

func TestKindsComeAndGo(t *testing.T) {
	s := apitest.New()
	s.Load(`{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.0.0.1}}`)
	late := apitest.CRD("gateway.networking.k8s.io", "HTTPRoute", "httproutes", "v1beta1")
	delete(late, "status")
	s.Put("customresourcedefinitions", late)
	s.Put("customresourcedefinitions", apitest.CRD("example.com", "Widget", "widgets", "v1"))
	r, w := watching(t, s)
	r.saw(t, "synced")
	if _, ok := w.Kind("gateway.networking.k8s.io", "HTTPRoute"); ok {
		t.Error("a kind is watched before its definition is established")
	}
	if _, ok := w.Kind("example.com", "Widget"); ok {
		t.Error("a kind that no waypoint reads is watched")
	}
	if len(w.Waiting()) != 0 || !w.Synced() {
		t.Errorf("waiting for %v, synced %v", w.Waiting(), w.Synced())
	}

	s.Put("customresourcedefinitions", apitest.CRD("gateway.networking.k8s.io", "HTTPRoute", "httproutes", "v1beta1"))
	s.Load(route)
	r.until(t, "the route", func() bool {
		return r.objects[kube.Key{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "shop", Name: "r"}] != nil
	})
	// A better version is taken when it is served.
	s.Put("customresourcedefinitions", apitest.CRD("gateway.networking.k8s.io", "HTTPRoute", "httproutes", "v1beta1", "v1"))
	r.until(t, "version v1", func() bool {
		o := r.objects[kube.Key{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "shop", Name: "r"}]
		return o != nil && strings.Contains(string(o.JSON), `networking.k8s.io/v1"`)
	})
	s.Delete("apiextensions.k8s.io", "customresourcedefinitions", "", "httproutes.gateway.networking.k8s.io")
	r.until(t, "no watch without a definition, and no object of it", func() bool {
		_, ok := w.Kind("gateway.networking.k8s.io", "HTTPRoute")
		return !ok && r.objects[kube.Key{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "shop", Name: "r"}] == nil
	})
	// Its objects went with it; it comes back without them.
	s.Delete("gateway.networking.k8s.io", "httproutes", "shop", "r")
	s.Put("customresourcedefinitions", apitest.CRD("gateway.networking.k8s.io", "HTTPRoute", "httproutes", "v1"))
	s.Load(strings.ReplaceAll(route, "name: r", "name: again"))
	r.until(t, "the kind again", func() bool {
		return r.objects[kube.Key{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "shop", Name: "again"}] != nil
	})
	// One that is not served any more, though it is there, is watched no longer.
	gone := apitest.CRD("gateway.networking.k8s.io", "HTTPRoute", "httproutes", "v1")
	gone["status"] = apitest.Object{"conditions": []any{apitest.Object{"type": "Established", "status": "False"}}}
	s.Put("customresourcedefinitions", gone)
	r.until(t, "no watch of what is not established", func() bool {
		_, ok := w.Kind("gateway.networking.k8s.io", "HTTPRoute")
		return !ok
	})
}

func TestStatusIsNoConfiguration(t *testing.T) {
	s := apitest.New()
	s.Define()
	s.Load(route)
	r, _ := watching(t, s)
	r.saw(t, "synced")
	o := s.Get("gateway.networking.k8s.io", "httproutes", "shop", "r")
	o["status"] = apitest.Object{"parents": []any{}}
	s.Put("httproutes", o)
	r.saw(t, "put HTTPRoute shop/r false")
	o["spec"].(map[string]any)["hostnames"] = []any{"a.example"}
	s.Put("httproutes", o)
	r.saw(t, "put HTTPRoute shop/r true")
	it := r.objects[kube.Key{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "shop", Name: "r"}]
	if string(it.Status) != `{"parents":[]}` || strings.Contains(string(it.JSON), "status") || strings.Contains(string(it.JSON), "resourceVersion") {
		t.Errorf("status %s of %s", it.Status, it.JSON)
	}
}

func TestExpiryAndRestart(t *testing.T) {
	s := apitest.New()
	s.Define()
	s.Load(route)
	r, w := watching(t, s)
	r.saw(t, "synced")
	_, before := w.Counts()

	s.Expire()
	s.Delete("gateway.networking.k8s.io", "httproutes", "shop", "r")
	r.until(t, "a list after 410 without the route", func() bool {
		return r.objects[kube.Key{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "shop", Name: "r"}] == nil
	})
	r.until(t, "lists anew", func() bool { _, n := w.Counts(); return n > before })

	s.SetDown(true)
	s.Load(strings.ReplaceAll(route, "name: r", "name: r2"))
	s.SetDown(false)
	r.until(t, "the route made while away", func() bool {
		return r.objects[kube.Key{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "shop", Name: "r2"}] != nil
	})
}

// TestMissingPermission names the kind that cannot be listed, for whoever looks why
// the controller is not ready.
func TestMissingPermission(t *testing.T) {
	s := apitest.New()
	s.Put("customresourcedefinitions", apitest.CRD("example.com", "Widget", "widgets", "v1"))
	s.Deny("nodes", true)
	r, w := watching(t, s)
	r.saw(t, "replace Pod 0")
	r.saw(t, "replace Service 0")
	r.until(t, "only nodes missing", func() bool {
		x := w.Waiting()
		return len(x) == 1 && x[0] == "Node"
	})
	if w.Synced() {
		t.Error("synced without nodes")
	}
	s.Deny("nodes", false)
	r.saw(t, "synced")
}
