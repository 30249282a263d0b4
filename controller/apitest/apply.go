package apitest

import (
	"slices"
	"strings"
)

// apply merges what a manager wants; mu is held. Ownership is kept of the fields of
// spec and status, not of what is in them: one that a manager no longer applies, and no
// other applied, goes.
func (s *Server) apply(p Place, old, body Object, manager string) Object {
	next := clone(old)
	if next == nil {
		s.seen[Request{"create", p}] = true // a right of its own, beside that to patch
		next = Object{"metadata": Object{}}
	}
	fields := Object{}
	for k, v := range body {
		if (p.Sub == "status") != (k == "status") {
			continue
		}
		merge(next, k, v)
		if m, ok := v.(map[string]any); ok && (k == "status" || k == "spec") {
			inner := Object{}
			for f := range m {
				inner["f:"+f] = Object{}
			}
			fields["f:"+k] = inner
		}
	}
	m := metaOf(next)
	delete(m, "resourceVersion")
	managed, _ := m["managedFields"].([]any)
	claim := Object{
		"manager": manager, "operation": "Apply", "apiVersion": body["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": fields, "subresource": p.Sub,
	}
	var had Object
	if i := slices.IndexFunc(managed, func(x any) bool {
		e, ok := x.(map[string]any)
		return ok && e["manager"] == manager && e["subresource"] == any(p.Sub)
	}); i >= 0 {
		had, managed[i] = managed[i].(map[string]any), claim
	} else {
		managed = append(managed, claim)
	}
	m["managedFields"] = managed
	for _, part := range []string{"spec", "status"} {
		for f := range claimed(had, part) {
			if !slices.ContainsFunc(managed, func(x any) bool { e, _ := x.(map[string]any); return claimed(e, part)[f] != nil }) {
				delete(next[part].(map[string]any), strings.TrimPrefix(f, "f:"))
			}
		}
	}
	if old != nil {
		m["resourceVersion"] = metaOf(old)["resourceVersion"]
	}
	return s.store(p, next)
}

// claimed are the fields of a part that an entry of managedFields names.
func claimed(entry Object, part string) Object {
	v1, _ := entry["fieldsV1"].(map[string]any)
	fields, _ := v1["f:"+part].(map[string]any)
	return fields
}

func merge(into Object, k string, v any) {
	have, ok := into[k].(map[string]any)
	want, ok2 := v.(map[string]any)
	if !ok || !ok2 {
		into[k] = v
		return
	}
	for f, x := range want {
		merge(have, f, x)
	}
}
