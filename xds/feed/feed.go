package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/xds"
)

// World is what translates resources: *istiod.World.
type World interface {
	Apply(typeURL string, upserts []istiod.Resource, removals []string) []*istiod.ResourceError
	Model() *config.Model
	Wanted(typeURL string) []string
}

// Types are what a waypoint subscribes to, in Envoy's order.
var Types = []xds.Type{
	{URL: istiod.ClusterType, Wildcard: true},
	{URL: istiod.EndpointsType},
	{URL: istiod.ListenerType, Wildcard: true},
	{URL: istiod.ExtensionType},
	{URL: istiod.SecretType},
	{URL: istiod.WorkloadType, Wildcard: true},
}

// named are the types subscribed to by name; what they name may name more, so the
// order is that of reference.
var named = []string{istiod.ExtensionType, istiod.EndpointsType, istiod.SecretType}

const (
	// A burst is over when nothing came for quiet; a model is built after burst at
	// the latest. Endpoint changes must serve within 200 ms (p99).
	quiet = 10 * time.Millisecond
	burst = 50 * time.Millisecond
	// Endpoints, extensions and secrets of something new are waited for so long;
	// a change of policy beside them must not wait longer.
	warm = 500 * time.Millisecond
	// The first model waits longer: nothing serves yet.
	firstWarm = 5 * time.Second
	// Secrets that were not given are asked for again. istiod is silent when a service
	// account may read Secrets that it was refused before, and remembers the refusal
	// for a minute (pilot/pkg/credentials/kube: cacheTTL): a little longer is enough.
	again = 65 * time.Second
)

// Options of a Feed; all but Log and Server are required.
type Options struct {
	World   World
	Publish func(*config.Model)
	// Server is told the control plane's identifier when it changes.
	Server func(identifier string)
	Log    *slog.Logger
}

// Held is one resource as it was received.
type Held struct {
	Name    string
	Version string
	Body    *anypb.Any // immutable
	At      time.Time
}

// Refused is a resource of which the newest version could not be taken.
type Refused struct {
	Name, Version, Reason string
	At                    time.Time
}

// Feed is an xds.Handler.
type Feed struct {
	// Fixed after New and Bind.
	opts      Options
	log       *slog.Logger
	subscribe func(url string, names []string)

	dirty chan struct{} // capacity 1

	mu      sync.Mutex
	held    map[string]map[string]Held
	refused map[string]map[string]Refused
	version map[string]string          // system version by type
	wants   map[string]map[string]bool // named types: what is subscribed to
	pending map[string]int             // named types: how many of it are waited for
	applied map[string]bool
	server  string
}

// New makes a feed; Bind it to the client before the client runs.
func New(o Options) *Feed {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Feed{
		opts: o, log: o.Log, dirty: make(chan struct{}, 1), subscribe: func(string, []string) {},
		held: map[string]map[string]Held{}, refused: map[string]map[string]Refused{}, version: map[string]string{},
		wants: map[string]map[string]bool{}, pending: map[string]int{}, applied: map[string]bool{},
	}
}

// Bind says where subscriptions go.
func (f *Feed) Bind(c interface {
	Subscribe(url string, names []string)
}) {
	f.subscribe = c.Subscribe
}

// Apply implements xds.Handler. It refuses a response that holds a resource that
// cannot be decoded; the others of the response apply.
func (f *Feed) Apply(r *xds.Response) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Server != f.server && r.Server != "" {
		f.server = r.Server
		if f.opts.Server != nil {
			f.opts.Server(r.Server)
		}
	}
	held := f.held[r.Type]
	if held == nil {
		held = map[string]Held{}
		f.held[r.Type] = held
	}
	upserts := make([]istiod.Resource, 0, len(r.Upserts))
	present := make(map[string]bool, len(r.Upserts))
	var bad []error
	for _, u := range r.Upserts {
		present[u.Name] = true
		if u.Resource == nil {
			bad = append(bad, fmt.Errorf("%q: no resource", u.Name))
			continue
		}
		if f.unwanted(r.Type, u.Name) {
			continue
		}
		if r.Type == istiod.WorkloadType && u.Resource.TypeUrl == istiod.AddressType {
			bad = append(bad, fmt.Errorf("%q: an Address where a Workload was subscribed to", u.Name))
			continue
		}
		if u.Resource.TypeUrl != r.Type {
			bad = append(bad, fmt.Errorf("%q: is a %s", u.Name, u.Resource.TypeUrl))
			continue
		}
		upserts = append(upserts, istiod.Resource{Name: u.Name, Version: u.Version, Body: u.Resource.Value})
	}
	removals := slices.Clone(r.Removed)
	if r.Full {
		for name := range held {
			if !present[name] && !slices.Contains(r.Removed, name) {
				removals = append(removals, name)
			}
		}
	}
	failed := map[string]bool{}
	for _, e := range f.opts.World.Apply(r.Type, upserts, removals) {
		bad = append(bad, e)
		failed[e.Name] = true
		f.refuse(r, e)
	}
	now := time.Now()
	for _, u := range r.Upserts {
		if u.Resource == nil || u.Resource.TypeUrl != r.Type || failed[u.Name] || f.unwanted(r.Type, u.Name) {
			continue
		}
		if _, known := held[u.Name]; !known {
			f.came(r.Type, u.Name)
		}
		held[u.Name] = Held{u.Name, u.Version, u.Resource, now}
		delete(f.refused[r.Type], u.Name)
	}
	for _, name := range removals {
		if _, known := held[name]; !known {
			f.came(r.Type, name) // it does not exist: no use waiting
		}
		delete(held, name)
		delete(f.refused[r.Type], name)
	}
	f.version[r.Type], f.applied[r.Type] = r.Version, true
	if r.Type != istiod.EndpointsType && r.Type != istiod.WorkloadType {
		f.follow()
	}
	select {
	case f.dirty <- struct{}{}:
	default:
	}
	return errors.Join(bad...)
}

// unwanted reports whether a named resource is not, or no longer, subscribed to:
// istiod's answer to an older subscription may cross the newer one. Kept, it would
// stay for good.
func (f *Feed) unwanted(url, name string) bool {
	if f.wants[url] == nil {
		return false // a type that is subscribed to as a whole
	}
	_, ok := f.wants[url][name]
	return !ok
}

func (f *Feed) refuse(r *xds.Response, e *istiod.ResourceError) {
	m := f.refused[r.Type]
	if m == nil {
		m = map[string]Refused{}
		f.refused[r.Type] = m
	}
	m[e.Name] = Refused{Name: e.Name, Version: r.Version, Reason: e.Err.Error(), At: time.Now()}
}

// came counts a named resource as no longer awaited.
func (f *Feed) came(url, name string) {
	if waiting, ok := f.wants[url][name]; ok && waiting {
		f.wants[url][name] = false
		f.pending[url]--
	}
}

// follow subscribes to what the resources name now, and forgets what nothing
// names any more: istiod sends no removals of it.
func (f *Feed) follow() {
	for _, url := range named {
		names := f.opts.World.Wanted(url)
		old := f.wants[url]
		now := make(map[string]bool, len(names))
		added := false
		for _, n := range names {
			waiting, known := old[n]
			if !known {
				waiting, added = true, true
				f.pending[url]++
			}
			now[n] = waiting
		}
		if !added && len(now) == len(old) {
			continue
		}
		var gone []string
		for n, waiting := range old {
			if _, ok := now[n]; ok {
				continue
			}
			if waiting {
				f.pending[url]--
			}
			if _, ok := f.held[url][n]; ok {
				gone = append(gone, n)
				delete(f.held[url], n)
			}
			delete(f.refused[url], n)
		}
		f.wants[url] = now
		if len(gone) > 0 {
			f.opts.World.Apply(url, nil, gone)
		}
		f.subscribe(url, names)
	}
}

// Ready says whether clusters and listeners each came at least once.
func (f *Feed) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing []string
	for _, t := range []string{istiod.ClusterType, istiod.ListenerType} {
		if !f.applied[t] {
			missing = append(missing, t[strings.LastIndexByte(t, '.')+1:])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no %s from the control plane yet", strings.Join(missing, " and no "))
	}
	return nil
}

// warming reports whether something new is still awaited.
func (f *Feed) warming() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.pending {
		if n > 0 {
			return true
		}
	}
	return !f.applied[istiod.WorkloadType]
}

// giveUp ends the wait for what did not come in time: what never comes must not slow
// every later change down.
func (f *Feed) giveUp() {
	for url, n := range f.pending {
		if n == 0 {
			continue
		}
		for name := range f.wants[url] {
			f.wants[url][name] = false
		}
		f.pending[url] = 0
	}
}

// askAgain subscribes anew to the secrets that are missing. One that is subscribed to
// is not answered again, so it is given up first.
func (f *Feed) askAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	url := istiod.SecretType
	var all, given []string
	for name := range f.wants[url] {
		all = append(all, name)
		if _, ok := f.held[url][name]; ok {
			given = append(given, name)
		}
	}
	if len(given) < len(all) {
		f.subscribe(url, given)
		f.subscribe(url, all)
	}
}

// Run builds and publishes models until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	limit := firstWarm
	t := time.NewTicker(again)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			f.askAgain()
			continue
		case <-f.dirty:
		}
		if f.Ready() != nil {
			continue
		}
		if !f.settle(ctx, limit) {
			return nil
		}
		limit = warm
		f.mu.Lock()
		f.giveUp()
		m := f.opts.World.Model()
		f.mu.Unlock()
		f.opts.Publish(m)
	}
}

// settle waits for the end of a burst; false: ctx ended.
func (f *Feed) settle(ctx context.Context, limit time.Duration) bool {
	start := time.Now()
	t := time.NewTimer(quiet)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-f.dirty:
			if time.Since(start) >= burst && !f.warming() {
				return true
			}
			t.Reset(quiet)
		case <-t.C:
			if !f.warming() || time.Since(start) >= limit {
				return true
			}
			t.Reset(quiet)
		}
		if time.Since(start) >= limit {
			return true
		}
	}
}

// Resources returns what is held of a type, by name.
func (f *Feed) Resources(url string) []Held {
	f.mu.Lock()
	out := make([]Held, 0, len(f.held[url]))
	for _, h := range f.held[url] {
		out = append(out, h)
	}
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b Held) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Refusals returns what was refused of a type and not replaced since, by name.
func (f *Feed) Refusals(url string) []Refused {
	f.mu.Lock()
	out := make([]Refused, 0, len(f.refused[url]))
	for _, r := range f.refused[url] {
		out = append(out, r)
	}
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b Refused) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Version returns the control plane's version of a type.
func (f *Feed) Version(url string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version[url]
}
