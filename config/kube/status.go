package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
)

// RouteStatus is what Gateway API's status of a route says, one entry for each
// parent that this waypoint may speak for.
type RouteStatus struct {
	Kind, Namespace, Name string
	Generation            int64 // observedGeneration of every condition
	Parents               []ParentStatus
}

// ParentStatus is the status towards one parent.
type ParentStatus struct {
	Ref        ParentRef
	Ours       bool // the parent is served by this waypoint
	Conditions []Condition

	rejected *condition // first reason why it is not accepted
	ports    int        // service ports that were rejected
	total    int        // service ports that the reference means
}

// Condition is one Kubernetes condition, without its times.
type Condition struct {
	Type, Reason, Message string
	Status                bool
	ObservedGeneration    int64
}

type condition struct{ reason, message string }

// parentStatus checks a parent reference by itself.
func (r *build) parentStatus(x *route, p *ParentRef) ParentStatus {
	st := ParentStatus{Ref: *p}
	ns := x.obj.Namespace
	if p.Namespace != nil {
		ns = *p.Namespace
	}
	k := parentKey(p, ns)
	if k.Group == groupGateway {
		return st // a Gateway's controller speaks for it
	}
	if !(k.Group == "" && k.Kind == "Service") && !(k.Group == groupNet && k.Kind == "ServiceEntry") {
		st.rejected = &condition{"InvalidKind", k.Kind + " cannot be a parent"}
		r.problem(config.Error, x.obj, "spec.parentRefs", "InvalidKind", "%s/%s cannot be a parent; the route is not attached to it", k.Group, k.Kind)
		return st
	}
	s := r.byName[k]
	if s == nil {
		st.rejected = &condition{"NoMatchingParent", fmt.Sprintf("%s %s/%s does not exist", k.Kind, k.Namespace, k.Name)}
		r.problem(config.Warning, x.obj, "spec.parentRefs", "NoMatchingParent", "%s %s/%s does not exist", k.Kind, k.Namespace, k.Name)
		return st
	}
	st.Ours = s.served
	if p.Port != nil {
		if st.total = 1; s.port(*p.Port) == nil {
			st.rejected = &condition{"NoMatchingParent", fmt.Sprintf("%s %s/%s has no TCP port %d", k.Kind, k.Namespace, k.Name, *p.Port)}
			r.problem(config.Warning, x.obj, "spec.parentRefs", "NoMatchingParent", "%s %s/%s has no TCP port %d", k.Kind, k.Namespace, k.Name, *p.Port)
			st.ports = 1
		}
	} else {
		st.total = len(s.ports)
	}
	if s.kube != nil && s.kube.Spec.Type == "ExternalName" {
		st.rejected, st.ports = &condition{"NoMatchingParent", fmt.Sprintf("Service %s/%s is an ExternalName, which a waypoint cannot serve", k.Namespace, k.Name)}, st.total
	}
	if !st.Ours && s.waypoint == nil {
		r.problem(config.Warning, x.obj, "spec.parentRefs", "NoWaypoint", "%s %s/%s has no waypoint, so the route acts on nothing", k.Kind, k.Namespace, k.Name)
	}
	return st
}

// reject records that one port of a service does not take the route. It reports
// whether a parent reference names the port.
func (r *build) reject(x *route, s *service, p *port, reason, msg string) (named bool) {
	for i := range x.parents {
		if !x.attaches(&x.parents[i], s, p.number) {
			continue
		}
		r.tell(x, func() {
			st := &x.status.Parents[i]
			st.ports++
			if st.rejected == nil {
				st.rejected = &condition{reason, msg}
			}
		})
		named = named || x.parents[i].Port != nil
	}
	return named
}

// tell records what the unit that is being computed finds of a route. It becomes
// part of the route's status when all units are there.
func (r *build) tell(x *route, f func()) { r.unit.told = append(r.unit.told, told{x, f}) }

// addRef records a backend that cannot be resolved.
func (x *route) addRef(reason, msg string) {
	c := condition{reason, msg}
	if !slices.Contains(x.refs, c) {
		x.refs = append(x.refs, c)
	}
}

func (x *route) unsupported(msg string) { x.addRef("UnsupportedValue", msg) }

func (x *route) brokenRule(i int, why string) {
	msg := why
	if !strings.HasPrefix(why, "spec.rules[") {
		msg = fmt.Sprintf("spec.rules[%d]: %s", i, why)
	}
	for _, c := range x.refs {
		if c.reason == "UnsupportedValue" && strings.Contains(c.message, fmt.Sprintf("spec.rules[%d].", i)) {
			return
		}
	}
	x.addRef("UnsupportedValue", msg)
}

func (x *route) ruleCount() int {
	switch b := x.obj.Body.(type) {
	case *HTTPRoute:
		return len(b.Rules)
	case *GRPCRoute:
		return len(b.Rules)
	case *TLSRoute:
		return len(b.Rules)
	case *TCPRoute:
		return len(b.Rules)
	}
	return 0
}

// routeStatuses computes the statuses of some routes from what units told of them.
func (r *build) routeStatuses(routes []*route) {
	for _, x := range routes {
		x.status.Parents, x.refs = slices.Clone(x.alone), nil
	}
	for _, x := range routes {
		for _, u := range r.unitsOf(x) {
			for _, t := range u.told {
				if t.route == x {
					t.f()
				}
			}
		}
		x.conclude()
	}
	r.statuses = make([]RouteStatus, 0, len(r.routes))
	for _, x := range r.routes {
		r.statuses = append(r.statuses, x.status)
	}
	slices.SortFunc(r.statuses, func(a, b RouteStatus) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// unitsOf returns the units of a route's parents, in their order.
func (r *build) unitsOf(x *route) (out []*unit) {
	for _, k := range x.parentKeys() {
		for _, s := range r.servicesOf(k) {
			if u := r.unitOf[s]; u != nil {
				out = append(out, u)
			}
		}
	}
	slices.SortFunc(out, func(a, b *unit) int { return cmp.Compare(a.order, b.order) })
	return out
}

// conclude turns what was found into conditions.
func (x *route) conclude() {
	gen := x.obj.Meta.Generation
	var bad, refs *condition
	broken := map[string]bool{}
	for i := range x.refs {
		c := &x.refs[i]
		if c.reason == "UnsupportedValue" {
			if bad == nil {
				bad = c
			}
			rule, _, _ := strings.Cut(c.message, "]")
			broken[rule] = true
		} else if refs == nil {
			refs = c
		}
	}
	for i := range x.status.Parents {
		p := &x.status.Parents[i]
		if *p.Ref.Group == groupGateway {
			continue
		}
		accepted := Condition{Type: "Accepted", Status: true, Reason: "Accepted", Message: "the route is attached", ObservedGeneration: gen}
		switch {
		case p.rejected != nil && (p.total == 0 || p.ports >= p.total):
			accepted.Status, accepted.Reason, accepted.Message = false, p.rejected.reason, p.rejected.message
		case bad != nil && len(broken) >= x.ruleCount():
			accepted.Status, accepted.Reason, accepted.Message = false, "UnsupportedValue", bad.message
		}
		resolved := Condition{Type: "ResolvedRefs", Status: true, Reason: "ResolvedRefs", Message: "all references are resolved", ObservedGeneration: gen}
		if refs != nil {
			resolved.Status, resolved.Reason, resolved.Message = false, refs.reason, refs.message
		}
		p.Conditions = []Condition{accepted, resolved}
		if accepted.Status && bad != nil {
			p.Conditions = append(p.Conditions, Condition{Type: "PartiallyInvalid", Status: true, Reason: "UnsupportedValue",
				Message: "Broken rules answer 500: " + bad.message, ObservedGeneration: gen})
		}
	}
}
