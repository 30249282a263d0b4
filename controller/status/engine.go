package status

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/feed"
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

// Options of an Engine. Client, Store, Resource and Gateways are required.
type Options struct {
	Client         dynamic.Interface
	ControllerName string
	Mesh           config.Mesh

	// Store has the objects, and knows which of them concern a Gateway.
	Store *feed.Store
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
	all     map[kube.Key]bool     // guarded by mu: objects of the kinds that kept names
	own     own                   // guarded by mu
	resaid  map[kube.Key]bool     // guarded by mu: of which own says something else
	synced  bool                  // guarded by mu
	held    map[kube.Key]*held    // guarded by mu: objects with a status, as they stand
	wanted  map[kube.Key]*desired // guarded by mu, its values immutable
	touched map[kube.Key]bool     // guarded by mu: to be compared with wanted

	judges   map[kube.Key]*judge   // owned by the goroutine of Run, by Gateway
	speakers map[kube.Key][]*judge // owned by the goroutine of Run: who says something of an object, ordered

	writes, conflicts, failures atomic.Int64
	builds                      atomic.Int64
	lastBuild                   atomic.Int64 // nanoseconds
}

// held is an object's status as it stands.
type held struct {
	version string
	status  map[string]any
	by      []string // who wrote it
	foreign bool     // another controller says of an Istio policy what we would say
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
		all: map[kube.Key]bool{}, own: newOwn(), resaid: map[kube.Key]bool{}, held: map[kube.Key]*held{},
		wanted: map[kube.Key]*desired{}, touched: map[kube.Key]bool{},
	}
}

// Synced lets the engine judge: before it a parent that was not read yet would look
// missing.
func (e *Engine) Synced() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = true
	e.wake()
}

// Refresh looks again at which Gateways are ours.
func (e *Engine) Refresh() { e.wake() }

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
	e.judges, e.speakers = map[kube.Key]*judge{}, map[kube.Key][]*judge{}
	defer e.dismiss()
	e.mu.Lock()
	for k := range e.own.policies {
		e.resaid[k] = true
	}
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

// dismiss ends all judges, and forgets what they said: another replica speaks now.
func (e *Engine) dismiss() {
	for _, j := range e.judges {
		j.follower.Stop()
	}
	e.judges, e.speakers = nil, nil
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wanted = map[kube.Key]*desired{}
}

// pass judges what has changed, and queues what stands differently.
func (e *Engine) pass(queue workqueue.TypedRateLimitingInterface[kube.Key]) {
	e.mu.Lock()
	synced := e.synced
	e.mu.Unlock()
	if !synced {
		return
	}
	e.judge()
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

// judge lets all judges look, and says anew what is to be said of what they found.
func (e *Engine) judge() {
	began := time.Now()
	said := map[kube.Key]bool{}
	recount := e.appoint(said)
	for _, j := range e.judges {
		had := j.attached
		for _, k := range j.look() {
			said[k] = true
			e.speak(j, k)
		}
		recount = recount || j.attached != had
	}
	e.mu.Lock()
	for k := range e.resaid {
		said[k] = true
	}
	e.resaid = map[kube.Key]bool{}
	for k := range said {
		d := &desired{}
		e.own.say(k, e.all, d)
		for _, j := range e.speakers[k] {
			j.say(k, d)
		}
		if len(d.entries)+len(d.istio) > 0 {
			e.wanted[k] = d
		} else {
			delete(e.wanted, k)
		}
		if e.held[k] != nil {
			e.touched[k] = true
		}
	}
	e.mu.Unlock()
	if len(said) > 0 {
		e.lastBuild.Store(int64(time.Since(began)))
	}
	if recount && e.opts.Attached != nil {
		n := make(map[kube.Key]int32, len(e.judges))
		for gw, j := range e.judges {
			n[gw] = j.attached
		}
		e.opts.Attached(n)
	}
}

// appoint follows the Gateways that are ours now. It adds to said what those that are
// no longer spoke of, and reports whether any came or went.
func (e *Engine) appoint(said map[kube.Key]bool) (changed bool) {
	gws := e.opts.Gateways()
	mine := make(map[kube.Key]bool, len(gws))
	for _, gw := range gws {
		if mine[gw] = true; e.judges[gw] == nil {
			e.judges[gw], changed = e.follow(gw), true
		}
	}
	for gw, j := range e.judges {
		if mine[gw] {
			continue
		}
		j.follower.Stop()
		delete(e.judges, gw)
		changed = true
		keys := j.everything()
		j.routes, j.policies = nil, nil
		for _, k := range keys {
			said[k] = true
			e.speak(j, k)
		}
	}
	return changed
}

// speak notes whether a judge says something of an object.
func (e *Engine) speak(j *judge, k kube.Key) {
	list := e.speakers[k]
	i, there := slices.BinarySearchFunc(list, j.gw, func(x *judge, gw kube.Key) int { return order(x.gw, gw) })
	switch says := j.says(k); {
	case says && !there:
		e.speakers[k] = slices.Insert(list, i, j)
	case !says && there && len(list) == 1:
		delete(e.speakers, k)
	case !says && there:
		e.speakers[k] = slices.Delete(list, i, i+1)
	}
}

// Stats counts what was done since the start.
type Stats struct {
	Writes, Conflicts, Failures int64
	Builds                      int64         // of all Gateways
	LastBuild                   time.Duration // that the last change took, at all Gateways that it concerns
}

// Stats returns the counts.
func (e *Engine) Stats() Stats {
	return Stats{e.writes.Load(), e.conflicts.Load(), e.failures.Load(), e.builds.Load(), time.Duration(e.lastBuild.Load())}
}
