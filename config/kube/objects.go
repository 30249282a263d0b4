package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
)

// Objects is a store of decoded objects, whatever they came from. An object that
// cannot be applied stands beside the last good version of itself. It belongs to
// one goroutine. The zero value is not ready; use NewObjects.
type Objects struct {
	m     map[Key]*entry
	extra []config.Problem          // what the source found wrong with itself
	lists map[groupKind]*objectList // good versions by kind
	noted map[Key]*entry            // those that Problems has something to say of
	log   []Key                     // changes, for builders
	first uint64                    // number of the first change in log
}

type entry struct {
	current *Object // as its source has it
	good    *Object // last version without an Err; nil if there was none
	source  string  // where the current version stands
}

// maxLog bounds the log of changes: what changed more since a build is built anew.
const maxLog = 4096

// NewObjects returns an empty store.
func NewObjects() *Objects {
	return &Objects{m: make(map[Key]*entry), lists: map[groupKind]*objectList{}, noted: map[Key]*entry{}}
}

// changed logs a change.
func (s *Objects) changed(k Key) {
	if len(s.log) == maxLog {
		// The older half goes: a builder that keeps up never misses a change.
		s.first += maxLog / 2
		s.log = s.log[:copy(s.log, s.log[maxLog/2:])]
	}
	s.log = append(s.log, k)
}

// since returns what changed since a moment, which is the result of an earlier
// call, and that of now. ok is false when that is not known any more.
func (s *Objects) since(moment uint64) (keys []Key, now uint64, ok bool) {
	now = s.first + uint64(len(s.log))
	if moment < s.first {
		return nil, now, false
	}
	return s.log[moment-s.first:], now, true
}

// Put adds or replaces an object. It reports whether anything changed: an object
// of equal content keeps the pointer that the store has.
func (s *Objects) Put(o *Object) bool {
	e := s.m[o.Key]
	if e == nil {
		e = &entry{}
		s.m[o.Key] = e
	}
	moved := e.source != o.Source
	e.source = o.Source // it may have moved, which changes only messages about it
	if e.current != nil && e.current.sum == o.sum && errString(e.current.Err) == errString(o.Err) {
		if moved {
			s.changed(o.Key)
		}
		return false
	}
	e.current = o
	if o.Err == nil {
		s.list(o.Group, o.Kind).put(o)
		e.good = o
	}
	if noteworthy(o) {
		s.noted[o.Key] = e
	} else {
		delete(s.noted, o.Key)
	}
	s.changed(o.Key)
	return true
}

func errString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Delete removes an object with its last good version.
func (s *Objects) Delete(k Key) {
	e := s.m[k]
	if e == nil {
		return
	}
	if e.good != nil {
		s.list(k.Group, k.Kind).remove(k)
	}
	delete(s.noted, k)
	delete(s.m, k)
	s.changed(k)
}

// Keep removes every object whose key is not in keys.
func (s *Objects) Keep(keys map[Key]bool) {
	for k := range s.m {
		if !keys[k] {
			s.Delete(k)
		}
	}
}

// Get returns the version to apply: the current one, or the last good one of an
// object that cannot be applied now; nil if there is none.
func (s *Objects) Get(k Key) *Object {
	if e := s.m[k]; e != nil {
		return e.good
	}
	return nil
}

// source returns where the current version of an object stands.
func (s *Objects) source(k Key) string {
	if e := s.m[k]; e != nil {
		return e.source
	}
	return ""
}

// Len returns the number of objects.
func (s *Objects) Len() int { return len(s.m) }

// All returns the versions to apply of one kind, ordered by namespace and name. The
// list is the store's own: it must not be changed, and holds until the next change.
func (s *Objects) All(group, kind string) []*Object {
	l := s.lists[groupKind{group, kind}]
	if l == nil {
		return nil
	}
	if l.stale {
		l.fill(s.m)
	}
	return l.sorted
}

func (s *Objects) list(group, kind string) *objectList {
	k := groupKind{group, kind}
	l := s.lists[k]
	if l == nil {
		l = &objectList{kind: k}
		s.lists[k] = l
	}
	return l
}

// objectList is the objects of one kind in order. It follows single changes, and is
// made anew after many.
type objectList struct {
	kind   groupKind
	sorted []*Object
	moved  int  // by changes since it was made
	stale  bool // it is not followed until it is made again
}

func (l *objectList) find(k Key) (int, bool) {
	return slices.BinarySearchFunc(l.sorted, k, func(o *Object, k Key) int { return compareKeys(o.Key, k) })
}

func (l *objectList) put(o *Object) {
	if l.stale {
		return
	}
	if n := len(l.sorted); n == 0 || compareKeys(l.sorted[n-1].Key, o.Key) < 0 {
		l.sorted = append(l.sorted, o)
		return
	}
	i, found := l.find(o.Key)
	if found {
		l.sorted[i] = o
	} else if l.cost(i) {
		l.sorted = slices.Insert(l.sorted, i, o)
	}
}

func (l *objectList) remove(k Key) {
	if l.stale {
		return
	}
	if i, found := l.find(k); found && l.cost(i) {
		l.sorted = slices.Delete(l.sorted, i, i+1)
	}
}

// cost counts what moving the tail behind i costs, and gives up following when
// sorting again costs less: moving a list is some hundred times cheaper.
func (l *objectList) cost(i int) bool {
	if l.moved += len(l.sorted) - i; l.moved > 256*len(l.sorted)+1024 {
		l.sorted, l.stale = nil, true
	}
	return !l.stale
}

func (l *objectList) fill(m map[Key]*entry) {
	l.sorted = nil
	for k, e := range m {
		if k.Group == l.kind.group && k.Kind == l.kind.kind && e.good != nil {
			l.sorted = append(l.sorted, e.good)
		}
	}
	sortObjects(l.sorted)
	l.moved, l.stale = 0, false
}

// bad returns the objects whose current version cannot be applied, with the last
// good version or nil.
func (s *Objects) bad() (out []entry) {
	for _, e := range s.noted {
		if e.current.Err != nil {
			out = append(out, *e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return compareKeys(a.current.Key, b.current.Key) })
	return out
}

func sortObjects(os []*Object) {
	slices.SortFunc(os, func(a, b *Object) int { return compareKeys(a.Key, b.Key) })
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Locate says of problems where the objects stand that they name, if nothing did.
func (s *Objects) Locate(ps []config.Problem) {
	for i := range ps {
		p := &ps[i]
		for group := range groupsOf(p.Kind) {
			if o := s.Get(Key{group, p.Kind, p.Namespace, p.Name}); o != nil && p.Source == "" {
				p.Source = s.source(o.Key)
			}
		}
	}
}

// Problems reports what the store itself knows: objects that cannot be applied,
// and kinds that are not applied.
func (s *Objects) Problems() []config.Problem {
	out := append([]config.Problem(nil), s.extra...)
	for _, e := range s.noted {
		o := e.current
		p := config.Problem{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Source: e.source}
		info := kinds[groupKind{o.Group, o.Kind}]
		switch {
		case o.Err != nil:
			p.Severity, p.Reason = config.Error, "Invalid"
			what := "it is not applied"
			switch {
			case e.good != nil:
				what = "its last good version serves"
			case o.Kind == "AuthorizationPolicy" || o.Kind == "RequestAuthentication":
				if what = "its targets deny every request"; aimless(o) {
					what = "it names no target that can be one, and does nothing"
				}
			case o.Body != nil && isRoute(o.Kind):
				what = "its requests are answered 500"
			}
			fields, ok := o.Err.(Fields)
			if !ok {
				fields = Fields{{"", o.Err.Error()}}
			}
			for _, f := range fields {
				p.Field, p.Message = f.Path, f.Message+"; "+what
				out = append(out, p)
			}
			continue
		case info == nil:
			p.Severity, p.Reason = config.Warning, "UnknownKind"
			p.Message = fmt.Sprintf("kind %s of group %q is not known; ignored", o.Kind, o.Group)
			if k := meant(o.Group, o.Kind); k.kind != "" {
				p.Message += fmt.Sprintf("; there is a %s of group %q", k.kind, k.group)
				if k.group == o.Group {
					p.Severity = config.Error // written wrong: the API server would not take it
				}
			}
		case info.note != "" && o.Body == nil:
			p.Severity, p.Reason, p.Message = config.Info, "NotApplied", o.Kind+" "+info.note
			if strings.HasPrefix(info.note, notYet) || strings.HasPrefix(info.note, "is ignored") {
				p.Severity = config.Warning
			}
			out = append(out, p)
			for _, x := range o.advice {
				p.Severity, p.Reason, p.Field, p.Message = x.severity, "UnderIstiod", x.field, "under istiod: "+x.message
				out = append(out, p)
			}
			continue
		default:
			continue
		}
		out = append(out, p)
	}
	sortProblems(out)
	return out
}

// noteworthy reports whether Problems has something to say of an object.
func noteworthy(o *Object) bool {
	info := kinds[groupKind{o.Group, o.Kind}]
	return o.Err != nil || info == nil || info.note != "" && o.Body == nil
}

func isRoute(kind string) bool {
	switch kind {
	case "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute":
		return true
	}
	return false
}

func sortProblems(ps []config.Problem) {
	slices.SortStableFunc(ps, func(a, b config.Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message),
			cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Source, b.Source))
	})
}
