package feed

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

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

// Options of a Feed; all but Log and Server are required.
type Options struct {
	World   World
	Publish func(*config.Model)
	// Server is told the control plane's identifier when it changes.
	Server func(identifier string)
	Log    *slog.Logger
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
	without bool // the first model was built without workloads: no use waiting for them
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
	all := unwrapped(r)
	for _, u := range all {
		present[u.Name] = true
		if u.Resource == nil {
			bad = append(bad, fmt.Errorf("%q: no resource", u.Name))
			continue
		}
		if f.unwanted(r.Type, u.Name) {
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
	for _, u := range all {
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
