package istiod

import (
	"reflect"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
)

// Listeners of a waypoint. The others open tunnels, which the data path does by
// itself.
const (
	mainInternal     = "main_internal"
	connectTerminate = "connect_terminate"
)

// mainListener is main_internal.
type mainListener struct {
	chains   map[string]*chainEntry
	matcher  digest
	tree     *matchTree
	filters  []*listenerv3.ListenerFilter
	problems []string
}

// chainEntry is a filter chain and what it was translated to.
type chainEntry struct {
	digest digest
	prog   *program
	uses   []string // extension configurations
	body   []byte   // kept if it uses any, to be translated again when one changes
}

func (w *World) setListener(r *Resource) error {
	switch r.Name {
	case mainInternal:
		return w.setMain(r.Body)
	case connectTerminate:
		t, err := decodeTerminate(r.Body, w)
		if err != nil {
			return err
		}
		if w.terminate != nil && reflect.DeepEqual(w.terminate, t) {
			return nil
		}
		w.terminate = t
		w.stale.chains, w.stale.problems = true, true
		return nil
	}
	_, err := scan(r.Body)
	return err
}

func (w *World) removeListener(name string) {
	switch name {
	case mainInternal:
		w.main = mainListener{}
	case connectTerminate:
		w.terminate = nil
	default:
		return
	}
	w.stale.chains, w.stale.problems = true, true
}

// setMain takes a new main_internal, translating what changed of it.
func (w *World) setMain(b []byte) error {
	s, err := scan(b)
	if err != nil {
		return err
	}
	next := mainListener{chains: make(map[string]*chainEntry, len(s.chains)), filters: s.filters, matcher: digestOf(s.matcher), tree: w.main.tree}
	if next.tree == nil || next.matcher != w.main.matcher {
		m, err := decodeMatcher(s.matcher)
		if err != nil {
			return err
		}
		next.tree = flatten(m)
	}
	if s.fallback {
		next.problems = append(next.problems, "default_filter_chain is not supported; what matches nothing is refused")
	}
	for _, c := range s.chains {
		if next.chains[c.name] != nil {
			next.problems = append(next.problems, "two filter chains have the name "+c.name+"; the first one serves")
			continue
		}
		old := w.main.chains[c.name]
		if d := digestOf(c.body); old == nil || old.digest != d {
			old = w.translate(c.name, c.body, d, old)
		}
		next.chains[c.name] = old
	}
	w.main = next
	clear(w.absent)
	w.stale.chains, w.stale.problems = true, true
	return nil
}

// translate makes the program of a filter chain. One that comes out equal to the
// old one keeps its pointer.
func (w *World) translate(name string, body []byte, d digest, old *chainEntry) *chainEntry {
	t := &translator{p: &program{name: name, http: looksHTTP(name)}, intern: w.inline, ext: w.extension}
	var fc listenerv3.FilterChain
	if err := proto.Unmarshal(body, &fc); err != nil {
		t.fail("filter chain: cannot be decoded: %v", err)
	} else {
		t.chain(&fc)
	}
	e := &chainEntry{digest: d, prog: t.p, uses: t.used}
	if len(e.uses) > 0 {
		e.body = slices.Clone(body)
	}
	if old != nil && reflect.DeepEqual(old.prog, e.prog) {
		e.prog = old.prog
	}
	return e
}

func (w *World) extension(name string) (*anyMessage, bool) {
	e, ok := w.extensions[name]
	return e.cfg, ok && e.cfg != nil
}

// retranslate translates the chains again that use an extension.
func (w *World) retranslate(name string) {
	for n, e := range w.main.chains {
		if slices.Contains(e.uses, name) {
			w.main.chains[n] = w.translate(n, e.body, e.digest, e)
			w.stale.chains, w.stale.problems = true, true
		}
	}
}

// looksHTTP reads from the name of a chain what it is for, for chains that cannot
// be read.
func looksHTTP(name string) bool {
	kind, _, _, _ := cutCluster(name)
	return strings.HasPrefix(kind, "http") || name == "direct-http"
}
