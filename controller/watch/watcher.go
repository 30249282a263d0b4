package watch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"waypoint.dev/waypoint/config/kube"
)

// Options of a Watcher. The clients and Sink are required.
type Options struct {
	Core    kubernetes.Interface // for built-in kinds; protobuf makes the first list several times cheaper
	Dynamic dynamic.Interface
	Sink    Sink

	// RootNamespace is where Istio's mesh configuration stands, the only ConfigMap
	// that is read. Empty: istio-system.
	RootNamespace string
	Log           *slog.Logger
}

// Watcher follows the kinds of the model.
type Watcher struct {
	// Fixed after New.
	opts  Options
	log   *slog.Logger
	defs  *definitions
	lists atomic.Int64

	mu     sync.Mutex
	runs   map[groupKind]*run // guarded by mu
	synced bool               // guarded by mu
}

// run is one kind that is being reflected.
type run struct {
	kind  Kind
	store *store
	stop  context.CancelFunc
	done  chan struct{}
}

// New returns a Watcher; Run starts it.
func New(o Options) *Watcher {
	if o.RootNamespace == "" {
		o.RootNamespace = "istio-system"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{opts: o, log: o.Log, runs: map[groupKind]*run{}}
	w.defs = &definitions{wanted: wanted(), refused: w.refused, changed: make(chan struct{}, 1)}
	return w
}

func (w *Watcher) refused(err error) {
	w.log.Error("an object cannot be read and is left out", "error", err)
}

// Run watches until ctx ends. It returns when all its goroutines have.
func (w *Watcher) Run(ctx context.Context) {
	for gk, k := range core {
		w.start(ctx, Kind{Group: gk.group, Version: "v1", Kind: gk.kind, Resource: k.resource})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		client := w.opts.Dynamic.Resource(crdResource)
		reflect(ctx, "CustomResourceDefinition", dynamicLister(client, Selection{}), w.opts.Dynamic, w.defs, w.log)
	})
	first := true
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-w.defs.changed:
			w.apply(ctx)
			if first && ctx.Err() == nil {
				first = false
				wg.Go(func() { w.await(ctx) })
			}
		}
	}
	w.mu.Lock()
	runs := w.runs
	w.mu.Unlock()
	for _, r := range runs {
		r.stop()
		<-r.done
	}
	wg.Wait()
}

// apply starts and stops kinds as their definitions came and went.
func (w *Watcher) apply(ctx context.Context) {
	now := w.defs.snapshot()
	w.mu.Lock()
	var ended []*run
	for gk, r := range w.runs {
		if _, builtin := core[gk]; !builtin && now[gk] != r.kind {
			ended = append(ended, r)
			delete(w.runs, gk)
		}
	}
	var begin []Kind
	for gk, k := range now {
		if w.runs[gk] == nil {
			begin = append(begin, k)
		}
	}
	w.mu.Unlock()
	for _, r := range ended {
		r.stop()
		<-r.done
		if now[groupKind{r.kind.Group, r.kind.Kind}] == (Kind{}) {
			w.log.Info("a kind is gone", "group", r.kind.Group, "kind", r.kind.Kind)
			w.opts.Sink.Replace(r.kind.Group, r.kind.Kind, nil)
		}
	}
	for _, k := range begin {
		w.start(ctx, k)
	}
}

// await tells the sink when all that was there at the start has been listed.
func (w *Watcher) await(ctx context.Context) {
	w.mu.Lock()
	var stores []*run
	for _, r := range w.runs {
		stores = append(stores, r)
	}
	w.mu.Unlock()
	for _, r := range stores {
		select {
		case <-ctx.Done():
			return
		case <-r.store.first:
		case <-r.done: // its definition went meanwhile
		}
	}
	w.mu.Lock()
	w.synced = true
	w.mu.Unlock()
	w.opts.Sink.Synced()
}

// start begins to reflect a kind.
func (w *Watcher) start(ctx context.Context, k Kind) {
	gk := groupKind{k.Group, k.Kind}
	s := &store{kind: k, sink: w.opts.Sink, refused: w.refused, first: make(chan struct{}), lists: &w.lists, have: map[kube.Key]seen{}}
	var lw *cache.ListWatch
	var client any
	if _, ok := core[gk]; ok {
		lw, client = w.coreLister(k), w.opts.Core
		s.convert = func(obj any) (*Item, error) { return builtin(k, obj) }
	} else {
		lw, client = dynamicLister(w.opts.Dynamic.Resource(k.GVR()), Selection{}), w.opts.Dynamic
		s.convert = func(obj any) (*Item, error) {
			u, err := as[*unstructured.Unstructured](obj)
			if err != nil {
				return nil, err
			}
			return custom(k, u)
		}
		w.log.Info("watching a kind", "group", k.Group, "version", k.Version, "kind", k.Kind)
	}
	ctx, stop := context.WithCancel(ctx)
	r := &run{kind: k, store: s, stop: stop, done: make(chan struct{})}
	w.mu.Lock()
	w.runs[gk] = r
	w.mu.Unlock()
	go func() {
		defer close(r.done)
		reflect(ctx, k.Kind, lw, client, s, w.log)
	}()
}

func (w *Watcher) coreLister(k Kind) *cache.ListWatch {
	c := w.opts.Core
	switch k.Kind {
	case "Namespace":
		return lister[*corev1.NamespaceList](c.CoreV1().Namespaces().List, c.CoreV1().Namespaces().Watch, Selection{})
	case "Node":
		return lister[*corev1.NodeList](c.CoreV1().Nodes().List, c.CoreV1().Nodes().Watch, Selection{})
	case "Service":
		return lister[*corev1.ServiceList](c.CoreV1().Services("").List, c.CoreV1().Services("").Watch, Selection{})
	case "Pod":
		// What has ended has no address; left out at the API server it costs nothing.
		return lister[*corev1.PodList](c.CoreV1().Pods("").List, c.CoreV1().Pods("").Watch, Selection{Fields: "status.phase!=Succeeded,status.phase!=Failed"})
	case "ConfigMap":
		m := c.CoreV1().ConfigMaps(w.opts.RootNamespace)
		return lister[*corev1.ConfigMapList](m.List, m.Watch, Named(kube.MeshConfigName))
	case "EndpointSlice":
		return lister[*discoveryv1.EndpointSliceList](c.DiscoveryV1().EndpointSlices("").List, c.DiscoveryV1().EndpointSlices("").Watch, Selection{})
	}
	panic("watch: no client for the built-in kind " + k.Kind)
}

// Synced reports whether every kind that exists was listed.
func (w *Watcher) Synced() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.synced
}

// Waiting names the kinds that were not listed yet, for whoever wonders why nothing
// starts: a missing permission is the usual reason.
func (w *Watcher) Waiting() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.runs {
		select {
		case <-r.store.first:
		default:
			out = append(out, r.kind.Kind)
		}
	}
	if w.defs.snapshot() == nil {
		out = append(out, "CustomResourceDefinition")
	}
	slices.Sort(out)
	return out
}

// Counts returns how many objects of each kind are known, and how many lists were
// read since the start.
func (w *Watcher) Counts() (objects map[string]int, lists int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	objects = make(map[string]int, len(w.runs))
	for gk, r := range w.runs {
		objects[gk.kind] = r.store.len()
	}
	return objects, w.lists.Load()
}

// Kind returns at which version and path a kind is watched; false while it is not.
func (w *Watcher) Kind(group, kind string) (Kind, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.runs[groupKind{group, kind}]
	if r == nil {
		return Kind{}, false
	}
	return r.kind, true
}
