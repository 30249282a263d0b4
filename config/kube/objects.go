package kube

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
)

// Objects is a store of decoded objects, whatever they came from. An object that
// cannot be applied stands beside the last good version of itself. It belongs to
// one goroutine. The zero value is not ready; use NewObjects.
type Objects struct {
	m     map[Key]*entry
	extra []config.Problem // what the source found wrong with itself
}

type entry struct {
	current *Object // as its source has it
	good    *Object // last version without an Err; nil if there was none
	source  string  // where the current version stands
}

// NewObjects returns an empty store.
func NewObjects() *Objects { return &Objects{m: make(map[Key]*entry)} }

// Put adds or replaces an object. It reports whether anything changed: an object
// of equal content keeps the pointer that the store has.
func (s *Objects) Put(o *Object) bool {
	e := s.m[o.Key]
	if e == nil {
		e = &entry{}
		s.m[o.Key] = e
	}
	e.source = o.Source // it may have moved, which changes only messages about it
	if e.current != nil && e.current.sum == o.sum && errString(e.current.Err) == errString(o.Err) {
		return false
	}
	e.current = o
	if o.Err == nil {
		e.good = o
	}
	return true
}

func errString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Delete removes an object with its last good version.
func (s *Objects) Delete(k Key) { delete(s.m, k) }

// Keep removes every object whose key is not in keys.
func (s *Objects) Keep(keys map[Key]bool) {
	maps.DeleteFunc(s.m, func(k Key, _ *entry) bool { return !keys[k] })
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

// All returns the versions to apply of one kind, ordered by namespace and name.
func (s *Objects) All(group, kind string) []*Object {
	var out []*Object
	for k, e := range s.m {
		if k.Group == group && k.Kind == kind && e.good != nil {
			out = append(out, e.good)
		}
	}
	sortObjects(out)
	return out
}

// bad returns the objects whose current version cannot be applied, with the last
// good version or nil.
func (s *Objects) bad() (out []entry) {
	for _, e := range s.m {
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

// Problems reports what the store itself knows: objects that cannot be applied,
// and kinds that are not applied.
func (s *Objects) Problems() []config.Problem {
	out := append([]config.Problem(nil), s.extra...)
	for _, e := range s.m {
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
				what = "its targets deny every request"
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
		case info.note != "" && o.Body == nil:
			p.Severity, p.Reason, p.Message = config.Info, "NotApplied", o.Kind+" "+info.note
			if strings.HasPrefix(info.note, notYet) || strings.HasPrefix(info.note, "is ignored") {
				p.Severity = config.Warning
			}
		default:
			continue
		}
		out = append(out, p)
	}
	sortProblems(out)
	return out
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
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
}
