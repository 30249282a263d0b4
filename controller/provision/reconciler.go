package provision

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
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
// a [watch.Sink] of Gateways, GatewayClasses and, where it makes no waypoints, of
// their Services; it ignores other kinds.
type Reconciler struct {
	// Fixed after New.
	opts Options
	log  *slog.Logger
	now  func() time.Time

	mu       sync.Mutex
	queue    workqueue.TypedRateLimitingInterface[name] // guarded by mu; nil while nothing runs
	gateways map[name]*gateway                          // guarded by mu
	classes  map[string]*class                          // guarded by mu
	services map[name]*child                            // guarded by mu; of all waypoints, where others run them
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
		gateways: map[name]*gateway{}, classes: map[string]*class{}, services: map[name]*child{}, children: map[kube.Key]*child{},
		params: map[name]*parameters{}, attached: map[name]int32{}, applied: map[kube.Key]applied{},
	}
}

// makes reports whether waypoints are made. Without an image they are not: others run
// them, and only the status is kept here.
func (r *Reconciler) makes() bool { return r.opts.Settings.Image != "" }

// Put takes Gateways, GatewayClasses and Services.
func (r *Reconciler) Put(it *watch.Item, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(it)
}

func (r *Reconciler) put(it *watch.Item) {
	if r.follows(it.Key.Group, it.Key.Kind) && it.Key.Kind == "Service" {
		r.putService(it)
		return
	}
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
	if !r.follows(k.Group, k.Kind) {
		return
	}
	switch k.Kind {
	case "Service":
		r.dropService(name{k.Namespace, k.Name})
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

// follows reports whether a kind matters here.
func (r *Reconciler) follows(group, kind string) bool {
	switch kind {
	case "Gateway", "GatewayClass":
		return group == gatewayGroup
	case "Service":
		return group == "" && !r.makes()
	}
	return false
}

// Replace takes all objects of a kind.
func (r *Reconciler) Replace(group, kind string, items []*watch.Item) {
	if !r.follows(group, kind) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	have := map[kube.Key]bool{}
	for _, it := range items {
		have[it.Key] = true
		r.put(it)
	}
	for _, k := range r.known(group, kind) {
		if !have[k] {
			r.drop(k)
		}
	}
}

// known lists the objects of a kind that are remembered.
func (r *Reconciler) known(group, kind string) (out []kube.Key) {
	add := func(n name) {
		out = append(out, kube.Key{Group: group, Kind: kind, Namespace: n.namespace, Name: n.name})
	}
	switch kind {
	case "Gateway":
		for n := range r.gateways {
			add(n)
		}
	case "GatewayClass":
		for n := range r.classes {
			add(name{"", n})
		}
	case "Service":
		for n := range r.services {
			add(n)
		}
	}
	return out
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
	kinds := childKinds
	if !r.makes() {
		kinds = nil
	}
	synced := make(chan struct{}, len(kinds))
	for _, k := range kinds {
		wg.Go(func() {
			sink := &childSink{r: r, kind: k, synced: synced}
			watch.Follow(ctx, r.opts.Client, k, watch.Selection{Labels: LabelManagedBy + "=" + ManagedBy}, sink, r.log)
		})
	}
	wg.Go(func() {
		// Only with all its objects in sight can a Gateway be judged.
		for range kinds {
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
			err = r.reconcile(ctx, n, queue.NumRequeues(n))
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

// ControllerName is the controllerName of the classes that this Reconciler serves.
func (r *Reconciler) ControllerName() string { return r.opts.Settings.ControllerName }
