package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/xds"
)

// Types are what a waypoint subscribes to.
var Types = []xds.Type{{URL: TypeURL, Wildcard: true}}

const (
	// Builds have at least so much time between them, and as much as the last one
	// took, so that a storm of changes costs no more than half a core; a long one, of
	// a whole state, does not hold the next change up. A change after a pause is
	// built at once.
	gap    = 10 * time.Millisecond
	maxGap = 50 * time.Millisecond
	// A refusal names so many objects; the administration port names them all.
	maxNamed = 20
)

// Options of a Feed.
type Options struct {
	// Build is called with the same store after each complete state that changed
	// something, by Run. It may use the store until it returns.
	Build func(*kube.Objects)
	Log   *slog.Logger // nil: none
}

// Feed is an xds.Handler that fills a store of objects.
type Feed struct {
	// Fixed after New.
	opts  Options
	log   *slog.Logger
	dirty chan struct{} // capacity 1

	objs *kube.Objects // owned by Run

	mu      sync.Mutex
	held    map[string]held    // guarded by mu, as all below
	refused map[string]Refused //
	staged  []change           // since the last complete state
	ready   []change           // of complete states, not built yet
	state   string             // version of the last complete state; empty: none came
	server  string             // who sent it
	at      time.Time          // when it came
	built   string             // version of the state that was built last
}

// held is what the waypoint has of one resource.
type held struct{ version, group string }

// change is an object to put, or the key of one that is gone.
type change struct {
	obj *kube.Object
	key kube.Key
}

// Held is one object as it was received.
type Held struct{ Name, Version string }

// Refused is an object of which the newest version cannot be used.
type Refused struct {
	Name, Version, Reason string
	At                    time.Time
}

// New makes a feed without objects.
func New(o Options) *Feed {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Feed{
		opts: o, log: o.Log, dirty: make(chan struct{}, 1), objs: kube.NewObjects(),
		held: map[string]held{}, refused: map[string]Refused{},
	}
}

// Apply implements xds.Handler. It refuses a response with an object that cannot be
// used, naming it and the field; the others of the response count, and of the
// refused one the last good version stays.
func (f *Feed) Apply(r *xds.Response) error {
	// Decoding is most of the work and needs no lock.
	got, errs := decodeAll(r.Upserts)
	var bad []Refused
	for i, err := range errs {
		if err != nil {
			u := r.Upserts[i]
			bad = append(bad, Refused{Name: u.Name, Version: u.Version, Reason: err.Error(), At: time.Now()})
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, u := range r.Upserts {
		o := got[i]
		if o == nil {
			continue
		}
		f.staged = append(f.staged, change{obj: o})
		if o.Err == nil {
			delete(f.refused, u.Name)
			f.held[u.Name] = held{u.Version, o.Group}
		} else {
			// Without a version the server sends it again to the next stream, and hears
			// again what is wrong with it.
			f.held[u.Name] = held{"", o.Group}
		}
	}
	for _, x := range bad {
		f.refused[x.Name] = x
	}
	for _, name := range r.Removed {
		delete(f.refused, name)
		if h, ok := f.held[name]; ok {
			kind, ns, n, _ := ParseName(name)
			f.staged = append(f.staged, change{key: kube.Key{Group: h.group, Kind: kind, Namespace: ns, Name: n}})
			delete(f.held, name)
		}
	}
	if i := slices.IndexFunc(r.Upserts, func(u *discovery.Resource) bool { return u.Name == Complete }); i >= 0 {
		f.ready, f.staged = append(f.ready, f.staged...), nil
		f.state, f.server, f.at = r.Upserts[i].Version, r.Server, time.Now()
		select {
		case f.dirty <- struct{}{}:
		default:
		}
	}
	return refusal(bad)
}

func refusal(bad []Refused) error {
	if len(bad) == 0 {
		return nil
	}
	lines := make([]string, 0, maxNamed+1)
	for i, x := range bad {
		if i == maxNamed {
			lines = append(lines, fmt.Sprintf("and %d more", len(bad)-i))
			break
		}
		lines = append(lines, x.Name+": "+x.Reason)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// decodeAll reads resources, on several processors where there are many. An object
// with an error is there as far as it could be read.
func decodeAll(us []*discovery.Resource) ([]*kube.Object, []error) {
	got, errs := make([]*kube.Object, len(us)), make([]error, len(us))
	part := func(from, to int) {
		for i := from; i < to; i++ {
			if us[i].Name == Complete {
				continue
			}
			if got[i], errs[i] = decode(us[i]); errs[i] == nil {
				errs[i] = got[i].Err
			}
		}
	}
	const least = 64 // an object takes some 20 us: less is not worth a goroutine
	n := max(1, min(runtime.GOMAXPROCS(0), len(us)/least))
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { part(i*len(us)/n, (i+1)*len(us)/n) })
	}
	wg.Wait()
	return got, errs
}

// decode reads one resource. What is wrong with the object's content is in its Err.
func decode(u *discovery.Resource) (*kube.Object, error) {
	kind, ns, name, ok := ParseName(u.Name)
	if !ok {
		return nil, errors.New("the name is not kind/namespace/name")
	}
	if t := u.GetResource().GetTypeUrl(); t != TypeURL {
		return nil, fmt.Errorf("is a %q", t)
	}
	raw, err := value(u.Resource.Value)
	if err != nil {
		return nil, err
	}
	o, err := kube.Decode(raw, u.Name)
	switch {
	case err != nil:
		return nil, err
	case o.Kind != kind || o.Namespace != ns || o.Name != name:
		return nil, fmt.Errorf("holds %s", o.Key)
	case o.Kind == "Secret":
		return nil, errors.New("secrets are not taken")
	}
	return o, nil
}

// value is the content of a google.protobuf.BytesValue, borrowed from b.
func value(b []byte) (out []byte, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		if num == 1 && typ == protowire.BytesType {
			out, n = protowire.ConsumeBytes(b)
		} else {
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return out, nil
}

// Versions returns what is held, for xds.Config.Held. What was refused stands there
// without a version.
func (f *Feed) Versions(string) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]string, len(f.held))
	for name, h := range f.held {
		out[name] = h.version
	}
	return out
}

// Run builds complete states until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	<-t.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.dirty:
		}
		start := time.Now()
		f.build()
		t.Reset(min(max(gap, time.Since(start)), maxGap))
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (f *Feed) build() {
	f.mu.Lock()
	first, state, changes := f.built == "", f.state, f.ready
	f.ready = nil
	f.mu.Unlock()
	changed := first
	for _, c := range changes {
		if c.obj != nil {
			changed = f.objs.Put(c.obj) || changed
		} else {
			f.objs.Delete(c.key)
			changed = true
		}
	}
	if changed {
		f.opts.Build(f.objs)
	}
	f.mu.Lock()
	f.built = state
	f.mu.Unlock()
}

// Ready says whether a complete state was built.
func (f *Feed) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.state == "":
		return errors.New("no complete state from the controller yet")
	case f.built == "":
		return errors.New("the first state from the controller is being built")
	}
	return nil
}

// Stats say what a Feed holds.
type Stats struct {
	Objects, Refused int
	Pending          int    // changes received and not built
	State            string // version of the last complete state
	Server           string
	At               time.Time
}

// Stats returns what is held now.
func (f *Feed) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{len(f.held), len(f.refused), len(f.staged) + len(f.ready), f.state, f.server, f.at}
}

// Objects returns what is held, by name.
func (f *Feed) Objects() []Held {
	f.mu.Lock()
	out := make([]Held, 0, len(f.held))
	for name, h := range f.held {
		out = append(out, Held{name, h.version})
	}
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b Held) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Refusals returns what was refused and not replaced since, by name.
func (f *Feed) Refusals() []Refused {
	f.mu.Lock()
	out := make([]Refused, 0, len(f.refused))
	for _, r := range f.refused {
		out = append(out, r)
	}
	f.mu.Unlock()
	slices.SortFunc(out, func(a, b Refused) int { return strings.Compare(a.Name, b.Name) })
	return out
}
