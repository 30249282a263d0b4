package kube

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
)

// PolicyStatus is the status of a policy, one entry for each of its targets.
type PolicyStatus struct {
	Group, Kind, Namespace, Name string
	Generation                   int64
	Targets                      []TargetStatus
}

// TargetStatus is the status towards one target. An empty Ref is the policy as a
// whole.
type TargetStatus struct {
	Ref       TargetRef
	Ours      bool      // this waypoint serves the target
	Condition Condition // Accepted; WaypointAccepted for Istio's kinds
}

// PolicyStatuses returns the status of every policy with targets of the last Build:
// AuthorizationPolicy, RequestAuthentication, WaypointPolicy, XBackendTrafficPolicy.
func (b *Builder) PolicyStatuses() []PolicyStatus { return b.policyStatuses }

// Statuses are what a Build found of routes and policies. They are not changed by
// later Builds.
type Statuses struct {
	Routes   []RouteStatus
	Policies []PolicyStatus
}

// Statuses returns those of the last Build.
func (b *Builder) Statuses() Statuses { return Statuses{b.statuses, b.policyStatuses} }

// Print writes the status conditions, one in a line.
func (s Statuses) Print(w io.Writer) {
	line := func(kind, ns, name, target string, c *Condition) {
		is := "False"
		if c.Status {
			is = "True"
		}
		fmt.Fprintf(w, "status %s %s/%s", kind, ns, name)
		if target != "" {
			fmt.Fprintf(w, " %s", target)
		}
		fmt.Fprintf(w, ": %s %s %s: %s\n", c.Type, is, c.Reason, c.Message)
	}
	for _, st := range s.Routes {
		for i := range st.Parents {
			for j := range st.Parents[i].Conditions {
				line(st.Kind, st.Namespace, st.Name, st.Parents[i].Ref.Name, &st.Parents[i].Conditions[j])
			}
		}
	}
	for _, st := range s.Policies {
		for i := range st.Targets {
			t := &st.Targets[i]
			target := t.Ref.Kind
			if t.Ref.Name != "" {
				target += " " + t.Ref.Name
			}
			line(st.Kind, st.Namespace, st.Name, target, &t.Condition)
		}
	}
}

// policyTarget records what became of one target.
func (r *build) policyTarget(o *Object, t TargetRef, reason, msg string, ok bool) {
	st := r.statusOf[o.Key]
	if st == nil {
		st = &PolicyStatus{Group: o.Group, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Generation: o.Meta.Generation}
		r.statusOf[o.Key] = st
	}
	if r.targeted == nil {
		r.targeted = map[Key]bool{}
	}
	r.targeted[targetKey(o.Namespace, &t)] = true
	typ := "Accepted"
	if o.Group == groupSecurity {
		typ = "WaypointAccepted"
	}
	c := Condition{Type: typ, Status: ok, Reason: reason, Message: msg, ObservedGeneration: o.Meta.Generation}
	for i := range st.Targets {
		if x := &st.Targets[i]; x.Ref == t {
			if x.Condition.Status && !ok {
				x.Condition = c // the worst of what was found counts
			}
			return
		}
	}
	st.Targets = append(st.Targets, TargetStatus{Ref: t, Condition: c})
}

// serves reports whether this waypoint is who applies a policy of a namespace to a
// target. A policy as a whole, an empty target, is everyone's. routes are those of
// services that it serves.
func (r *build) serves(namespace string, t *TargetRef, routes map[Key]bool) bool {
	k := targetKey(namespace, t)
	switch {
	case t.Name == "":
		return true
	case t.Kind == "GatewayClass":
		return t.Name == r.mesh.Waypoint.Class
	case t.Kind == "Gateway":
		return r.gw != nil && k == r.gw.Key
	case isRoute(t.Kind):
		return routes[k]
	}
	s := r.byName[k]
	return s != nil && s.served
}

// targetKey is the object that a reference of a policy in a namespace means.
func targetKey(namespace string, t *TargetRef) Key {
	k := Key{strings.TrimPrefix(t.Group, "core"), t.Kind, namespace, t.Name}
	if t.Kind == "" {
		k.Kind = "Service" // the only kind that an XBackendTrafficPolicy can mean
	}
	return k
}

func (r *build) targetMissing(o *Object, i int, t *TargetRef) {
	r.problem(config.Warning, o, at("spec.targetRefs", i), "TargetNotFound", "%s %q does not exist in namespace %s, so the policy does nothing for it", t.Kind, t.Name, o.Namespace)
	r.policyTarget(o, *t, "TargetNotFound", t.Kind+" "+t.Name+" does not exist", false)
}

func (r *build) conflicted(o *Object, i int, t *TargetRef, field string) {
	r.problem(config.Warning, o, at("spec.targetRefs", i), "Conflicted", "an older policy sets %s of %s %q already, which counts", field, t.Kind, t.Name)
	r.policyTarget(o, *t, "Conflicted", "an older policy sets "+field, false)
}

// invalidPolicies gives a status to policies whose current version is refused.
func (r *build) invalidPolicies() {
	for _, e := range r.objs.bad() {
		o := e.current
		switch o.Kind {
		case "AuthorizationPolicy", "RequestAuthentication", "WaypointPolicy", "XBackendTrafficPolicy":
		default:
			continue
		}
		delete(r.statusOf, o.Key)
		r.policyTarget(o, TargetRef{}, "Invalid", o.Err.Error(), false)
	}
	routes := map[Key]bool{}
	for _, x := range r.routes {
		if slices.ContainsFunc(x.status.Parents, func(p ParentStatus) bool { return p.Ours }) {
			routes[x.obj.Key] = true
		}
	}
	r.policyStatuses = nil
	for _, st := range r.statusOf {
		out := *st
		out.Targets = slices.Clone(st.Targets) // those of an earlier Build stay as they are
		for i := range out.Targets {
			out.Targets[i].Ours = r.serves(st.Namespace, &out.Targets[i].Ref, routes)
		}
		r.policyStatuses = append(r.policyStatuses, out)
	}
	slices.SortFunc(r.policyStatuses, func(a, b PolicyStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}
