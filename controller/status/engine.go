package status

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

const (
	// gather is how long changes are collected before a build.
	gather = 50 * time.Millisecond
	// share bounds the part of a core that builds take: a pause of so many times as
	// long as the build follows it.
	share = 4
	// writers work side by side: a write waits for etcd most of the time.
	writers = 4
)

// Options of an Engine. Client, Resource and Gateways are required.
type Options struct {
	Client         dynamic.Interface
	ControllerName string
	Mesh           config.Mesh

	// Gateways lists the Gateways of ours.
	Gateways func() []kube.Key
	// Resource says where a kind is written; false while it is not watched.
	Resource func(group, kind string) (watch.Kind, bool)
	// Attached is told how many routes each waypoint serves; nil: nobody.
	Attached func(map[kube.Key]int32)

	// PerSecond and Burst limit the writes; 0: 20 and 100.
	PerSecond float32
	Burst     int
	Log       *slog.Logger
}

// Engine keeps statuses. It is a [watch.Sink].
type Engine struct {
	// Fixed after New.
	opts    Options
	log     *slog.Logger
	now     func() time.Time
	changed chan struct{} // holds one

	mu      sync.Mutex
	all     map[kube.Key]bool        // guarded by mu: objects that there are
	pending map[kube.Key]*watch.Item // guarded by mu: not taken yet; nil: deleted
	rebuild bool                     // guarded by mu: configuration has changed
	synced  bool                     // guarded by mu
	held    map[kube.Key]*held       // guarded by mu: objects with a status, as they stand
	wanted  map[kube.Key]*desired    // guarded by mu, its values immutable
	touched map[kube.Key]bool        // guarded by mu: to be compared with wanted

	objs     *kube.Objects              // owned by the goroutine of Run
	builders map[kube.Key]*kube.Builder // owned by the goroutine of Run

	writes, conflicts, failures atomic.Int64
	lastBuild                   atomic.Int64 // nanoseconds
}

// held is an object's status as it stands.
type held struct {
	version string
	status  map[string]any
	foreign bool // another controller says of an Istio policy what we would say
}

// New returns an Engine that only listens until Run.
func New(o Options) *Engine {
	if o.PerSecond == 0 {
		o.PerSecond, o.Burst = 20, 100
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{
		opts: o, log: o.Log, now: time.Now, changed: make(chan struct{}, 1),
		all: map[kube.Key]bool{}, pending: map[kube.Key]*watch.Item{}, held: map[kube.Key]*held{}, wanted: map[kube.Key]*desired{}, touched: map[kube.Key]bool{},
		objs: kube.NewObjects(), builders: map[kube.Key]*kube.Builder{},
	}
}

// read are the kinds that a status depends on. Where endpoints are does not.
func read(group, kind string) bool {
	switch kind {
	case "Pod", "Node", "EndpointSlice", "WorkloadEntry":
		return false
	case "DestinationRule":
		return false
	}
	return true
}

// written are the kinds whose status is kept here.
func written(k kube.Key) bool {
	switch k.Kind {
	case "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute":
		return k.Group == groupGateway
	case "AuthorizationPolicy", "RequestAuthentication":
		return k.Group == groupSecurity
	case "WaypointPolicy":
		return k.Group == "waypoint.dev"
	case "XBackendTrafficPolicy":
		return k.Group == "gateway.networking.x-k8s.io"
	}
	return false
}

// Put takes an object.
func (e *Engine) Put(it *watch.Item, content bool) {
	if !read(it.Key.Group, it.Key.Kind) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.put(it, content)
	e.wake()
}

func (e *Engine) put(it *watch.Item, content bool) {
	e.all[it.Key] = true
	if content {
		e.pending[it.Key] = it
		e.rebuild = true
	}
	if !written(it.Key) {
		return
	}
	h := &held{version: it.Version}
	if len(it.Status) > 0 && json.Unmarshal(it.Status, &h.status) != nil {
		h.status = nil // nothing of it can be kept
	}
	if old := e.held[it.Key]; old != nil && !content {
		h.foreign = old.foreign
	}
	e.held[it.Key] = h
	e.touched[it.Key] = true
}

// Delete forgets an object.
func (e *Engine) Delete(k kube.Key) {
	if !read(k.Group, k.Kind) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(k)
	e.wake()
}

func (e *Engine) drop(k kube.Key) {
	delete(e.all, k)
	e.pending[k] = nil
	e.rebuild = true
	delete(e.held, k)
	delete(e.touched, k)
}

// Replace takes all objects of a kind.
func (e *Engine) Replace(group, kind string, items []*watch.Item) {
	if !read(group, kind) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	have := make(map[kube.Key]bool, len(items))
	for _, it := range items {
		have[it.Key] = true
		e.put(it, true)
	}
	gone := func(k kube.Key) bool { return k.Group == group && k.Kind == kind && !have[k] }
	for k := range e.all {
		if gone(k) {
			e.drop(k)
		}
	}
	e.rebuild = true
	e.wake()
}

// Synced lets the engine judge: before it a parent that was not read yet would look
// missing.
func (e *Engine) Synced() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = true
	e.wake()
}

// Refresh builds again: the Gateways of ours have changed.
func (e *Engine) Refresh() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rebuild = true
	e.wake()
}

func (e *Engine) wake() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Run judges and writes until ctx ends: it is to run in one process only.
func (e *Engine) Run(ctx context.Context) {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[kube.Key](200*time.Millisecond, time.Minute))
	limit := flowcontrol.NewTokenBucketRateLimiter(e.opts.PerSecond, e.opts.Burst)
	defer limit.Stop()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() { e.write(ctx, queue, limit) })
	}
	e.mu.Lock()
	e.rebuild = true
	for k, h := range e.held {
		h.foreign = false
		e.touched[k] = true
	}
	e.wake()
	e.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-e.changed:
			pause(ctx, gather)
			began := time.Now()
			e.pass(queue)
			pause(ctx, share*time.Since(began))
		}
	}
	queue.ShutDown()
	wg.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// pass builds if configuration has changed, and queues what stands differently.
func (e *Engine) pass(queue workqueue.TypedRateLimitingInterface[kube.Key]) {
	e.mu.Lock()
	if !e.synced {
		e.mu.Unlock()
		return
	}
	taken, rebuild := e.pending, e.rebuild
	e.pending, e.rebuild = map[kube.Key]*watch.Item{}, false
	e.mu.Unlock()
	if rebuild {
		e.take(taken)
		e.judge()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	touched := e.touched
	e.touched = map[kube.Key]bool{}
	for k := range touched {
		if h := e.held[k]; h != nil && !h.foreign {
			if _, same := e.merged(k, h, e.wanted[k]); !same {
				queue.Add(k)
			}
		}
	}
}

// take applies changes to the objects.
func (e *Engine) take(items map[kube.Key]*watch.Item) {
	for k, it := range items {
		if it == nil {
			e.objs.Delete(k)
			continue
		}
		o, err := kube.Decode(it.JSON, it.Key.String())
		if err != nil {
			e.log.Error("an object cannot be read", "object", k.String(), "error", err)
			continue
		}
		e.objs.Put(o)
	}
}

// judge builds for every waypoint.
func (e *Engine) judge() {
	began := time.Now()
	gws := e.opts.Gateways()
	mine := make(map[kube.Key]bool, len(gws))
	for _, gw := range gws {
		mine[gw] = true
	}
	maps.DeleteFunc(e.builders, func(k kube.Key, _ *kube.Builder) bool { return !mine[k] })
	all := newStatuses(func(ns, name string) bool {
		return mine[kube.Key{Group: groupGateway, Kind: "Gateway", Namespace: ns, Name: name}]
	})
	for _, gw := range gws {
		b := e.builders[gw]
		if b == nil {
			b = kube.NewBuilder(kube.Options{Waypoint: config.Owner{Namespace: gw.Namespace, Name: gw.Name}, Mesh: e.opts.Mesh, UpstreamTLS: true})
			e.builders[gw] = b
		}
		b.Build(e.objs)
		all.add(gw, b.RouteStatuses(), b.PolicyStatuses())
	}
	e.mu.Lock()
	e.wanted = all.by
	for k := range e.held {
		e.touched[k] = true
	}
	e.mu.Unlock()
	e.lastBuild.Store(int64(time.Since(began)))
	if e.opts.Attached != nil {
		e.opts.Attached(all.attached)
	}
}

// Stats counts what was done since the start.
type Stats struct {
	Writes, Conflicts, Failures int64
	LastBuild                   time.Duration
}

// Stats returns the counts.
func (e *Engine) Stats() Stats {
	return Stats{e.writes.Load(), e.conflicts.Load(), e.failures.Load(), time.Duration(e.lastBuild.Load())}
}
