package provision

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

// Options of a Reconciler. Client is required.
type Options struct {
	Client   dynamic.Interface
	Settings Settings
	Roots    func() []byte // PEM of what verifies the controller's certificate
	Log      *slog.Logger
}

// name is a Gateway's namespace and name.
type name struct{ namespace, name string }

// Reconciler keeps the objects and the status of every Gateway of our class. It is
// a [watch.Sink] of Gateways and GatewayClasses, and ignores other kinds.
type Reconciler struct {
	// Fixed after New.
	opts Options
	log  *slog.Logger
	now  func() time.Time

	mu       sync.Mutex
	queue    workqueue.TypedRateLimitingInterface[name] // guarded by mu; nil while nothing runs
	gateways map[name]*gateway                          // guarded by mu
	classes  map[string]*class                          // guarded by mu
	children map[kube.Key]*child                        // guarded by mu
	params   map[name]*parameters                       // guarded by mu
	attached map[name]int32                             // guarded by mu
	applied  map[kube.Key]applied                       // owned by the worker
}

type gateway struct {
	spec   *Gateway
	status json.RawMessage
}

type class struct {
	spec   *Class
	status json.RawMessage
}

// applied is what was last applied, and what the API server made of it.
type applied struct{ rendered, result uint64 }

// New returns a Reconciler that does nothing until Run.
func New(o Options) *Reconciler {
	o.Settings.ControllerName = cmp.Or(o.Settings.ControllerName, ControllerName)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{
		opts: o, log: o.Log, now: time.Now,
		gateways: map[name]*gateway{}, classes: map[string]*class{}, children: map[kube.Key]*child{},
		params: map[name]*parameters{}, attached: map[name]int32{}, applied: map[kube.Key]applied{},
	}
}

// Put takes Gateways and GatewayClasses.
func (r *Reconciler) Put(it *watch.Item, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(it)
}

func (r *Reconciler) put(it *watch.Item) {
	if it.Key.Group != gatewayGroup {
		return
	}
	switch it.Key.Kind {
	case "Gateway":
		g := &gateway{spec: &Gateway{}, status: it.Status}
		if err := json.Unmarshal(it.JSON, g.spec); err != nil {
			r.log.Error("a Gateway cannot be read", "gateway", it.Key.String(), "error", err)
			return
		}
		n := name{it.Key.Namespace, it.Key.Name}
		r.gateways[n] = g
		r.wake(n)
	case "GatewayClass":
		c := &class{spec: &Class{}, status: it.Status}
		if err := json.Unmarshal(it.JSON, c.spec); err != nil {
			r.log.Error("a GatewayClass cannot be read", "class", it.Key.Name, "error", err)
			return
		}
		r.classes[it.Key.Name] = c
		r.wakeClass(it.Key.Name)
	}
}

// Delete forgets a Gateway or class. A Gateway's objects go by their owner.
func (r *Reconciler) Delete(k kube.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(k)
}

func (r *Reconciler) drop(k kube.Key) {
	if k.Group != gatewayGroup {
		return
	}
	switch k.Kind {
	case "Gateway":
		n := name{k.Namespace, k.Name}
		delete(r.gateways, n)
		delete(r.attached, n)
		r.wake(n)
	case "GatewayClass":
		delete(r.classes, k.Name)
		r.wakeClass(k.Name)
	}
}

// Replace takes all Gateways or classes.
func (r *Reconciler) Replace(group, kind string, items []*watch.Item) {
	if group != gatewayGroup || kind != "Gateway" && kind != "GatewayClass" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	have := map[kube.Key]bool{}
	for _, it := range items {
		have[it.Key] = true
		r.put(it)
	}
	if kind == "Gateway" {
		for n := range r.gateways {
			if k := (kube.Key{Group: group, Kind: kind, Namespace: n.namespace, Name: n.name}); !have[k] {
				r.drop(k)
			}
		}
		return
	}
	for n := range r.classes {
		if k := (kube.Key{Group: group, Kind: kind, Name: n}); !have[k] {
			r.drop(k)
		}
	}
}

// Synced has nothing to do: each Gateway is looked at for itself.
func (r *Reconciler) Synced() {}

// SetAttached tells how many routes each waypoint serves, by namespace/name of its
// Gateway; Gateways that are not named serve none.
func (r *Reconciler) SetAttached(counts map[kube.Key]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := make(map[name]int32, len(counts))
	for k, c := range counts {
		now[name{k.Namespace, k.Name}] = c
	}
	for n := range r.gateways {
		if now[n] != r.attached[n] {
			r.wake(n)
		}
	}
	r.attached = now
}

// Refresh looks at everything again: the roots that waypoints trust have changed.
func (r *Reconciler) Refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.gateways {
		r.wake(n)
	}
}

func (r *Reconciler) wake(n name) {
	if r.queue != nil {
		r.queue.Add(n)
	}
}

// wakeClass looks at a class and its Gateways. The class is in the queue as a name
// without a namespace.
func (r *Reconciler) wakeClass(c string) {
	r.wake(name{"", c})
	for n, g := range r.gateways {
		if g.spec.Spec.GatewayClassName == c {
			r.wake(n)
		}
	}
}

// ours reports whether a Gateway is of a class of this controller. known is false
// while that cannot be told.
func (r *Reconciler) ours(className string) (ours, known bool) {
	c := r.classes[className]
	if c == nil {
		return false, false
	}
	return c.spec.Spec.ControllerName == r.opts.Settings.ControllerName, true
}

// Gateways returns the Gateways of our classes, ordered.
func (r *Reconciler) Gateways() []kube.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []kube.Key
	for n, g := range r.gateways {
		if ours, _ := r.ours(g.spec.Spec.GatewayClassName); ours {
			out = append(out, kube.Key{Group: gatewayGroup, Kind: "Gateway", Namespace: n.namespace, Name: n.name})
		}
	}
	slices.SortFunc(out, func(a, b kube.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Run makes and keeps what is wanted until ctx ends: it is to run in one process
// only. Between runs the Reconciler goes on listening.
func (r *Reconciler) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[name](200*time.Millisecond, time.Minute))
	var wg sync.WaitGroup
	synced := make(chan struct{}, len(childKinds))
	for _, k := range childKinds {
		wg.Go(func() {
			sink := &childSink{r: r, kind: k, synced: synced}
			watch.Follow(ctx, r.opts.Client, k, watch.Selection{Labels: LabelManagedBy + "=" + ManagedBy}, sink, r.log)
		})
	}
	wg.Go(func() {
		// Only with all its objects in sight can a Gateway be judged.
		for range childKinds {
			select {
			case <-synced:
			case <-ctx.Done():
				return
			}
		}
		r.mu.Lock()
		r.queue = queue
		for n := range r.gateways {
			queue.Add(n)
		}
		for c := range r.classes {
			queue.Add(name{"", c})
		}
		r.mu.Unlock()
		r.work(ctx, &wg, queue)
	})
	<-ctx.Done()
	r.mu.Lock()
	r.queue = nil
	r.mu.Unlock()
	queue.ShutDown()
	wg.Wait()
	r.mu.Lock()
	r.children, r.params = map[kube.Key]*child{}, map[name]*parameters{}
	r.mu.Unlock()
	clear(r.applied)
}

// work is the worker.
func (r *Reconciler) work(ctx context.Context, wg *sync.WaitGroup, queue workqueue.TypedRateLimitingInterface[name]) {
	for {
		n, quit := queue.Get()
		if quit {
			return
		}
		r.follow(ctx, wg)
		var err error
		if n.namespace == "" {
			err = r.reconcileClass(ctx, n.name)
		} else {
			err = r.reconcile(ctx, n)
		}
		queue.Done(n)
		switch {
		case err == nil:
			queue.Forget(n)
		case ctx.Err() == nil:
			r.log.Warn("a Gateway is tried again", "namespace", n.namespace, "name", n.name, "error", err)
			queue.AddRateLimited(n)
		}
	}
}

// childSink files what carries our labels.
type childSink struct {
	r      *Reconciler
	kind   watch.Kind
	synced chan<- struct{}
}

func (s *childSink) Put(it *watch.Item, _ bool) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.put(it)
}

func (s *childSink) put(it *watch.Item) {
	c := newChild(s.kind, it)
	s.r.children[it.Key] = c
	s.r.wake(name{it.Key.Namespace, c.gateway})
}

func (s *childSink) Delete(k kube.Key) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.drop(k)
}

func (s *childSink) drop(k kube.Key) {
	if c := s.r.children[k]; c != nil {
		delete(s.r.children, k)
		s.r.wake(name{k.Namespace, c.gateway})
	}
}

func (s *childSink) Replace(group, kind string, items []*watch.Item) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	have := map[kube.Key]bool{}
	for _, it := range items {
		have[it.Key] = true
		s.put(it)
	}
	for _, k := range slices.Collect(maps.Keys(s.r.children)) {
		if k.Group == group && k.Kind == kind && !have[k] {
			s.drop(k)
		}
	}
}

func (s *childSink) Synced() { s.synced <- struct{}{} }

// ControllerName is the controllerName of the classes that this Reconciler serves.
func (r *Reconciler) ControllerName() string { return r.opts.Settings.ControllerName }
