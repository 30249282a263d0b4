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

// finding is what was found wrong with one rule, or one backend of it.
type finding struct {
	condition
	share bool // of a broken part: only a backend's share, the rule itself can be applied
}

// parentStatus checks a parent reference by itself.
func (r *build) parentStatus(x *route, p *ParentRef) ParentStatus {
	st := ParentStatus{Ref: *p}
	ns := x.obj.Namespace
	if p.Namespace != nil {
		ns = *p.Namespace
	}
	k := parentKey(p, ns)
	if k.Group == groupGateway {
		r.judgeGateway(x, k)
		return st // a Gateway's controller speaks for it
	}
	if !(k.Group == "" && k.Kind == "Service") && !(k.Group == groupNet && k.Kind == "ServiceEntry") {
		st.rejected = &condition{"InvalidKind", k.Kind + " cannot be a parent"}
		r.problem(config.Error, x.obj, "spec.parentRefs", "InvalidKind", "%s cannot be a parent; the route is not attached to it: "+namesService, groupKind{k.Group, k.Kind})
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

// namesService tells how a service becomes a parent.
const namesService = `name a Service by group "", kind Service, or a ServiceEntry by group ` + groupNet

// judgeGateway tells of a parent that does not write what it means: without a group
// and kind it is a Gateway, and routes of a mesh have none.
func (r *build) judgeGateway(x *route, k Key) {
	say := func(sev config.Severity, format string, args ...any) {
		r.problem(sev, x.obj, "spec.parentRefs", "NoMatchingParent", format+"; "+namesService, args...)
	}
	g := r.objs.Get(k)
	switch {
	case k.Kind == "Service" || k.Kind == "ServiceEntry":
		say(config.Warning, "a %s has another group than %s, which a parent without one gets, so the route is not attached to %s", k.Kind, groupGateway, k.Name)
	case k.Kind != "Gateway":
	case g != nil && r.isWaypoint(g):
		say(config.Warning, "routes are not attached to a waypoint's Gateway %s/%s but to the services behind it", k.Namespace, k.Name)
	case g == nil && !slices.ContainsFunc(x.parents, func(p ParentRef) bool { return *p.Group != groupGateway }):
		say(config.Info, "a parent without a kind is a Gateway, and there is no Gateway %s/%s here; the route acts on no service", k.Namespace, k.Name)
	}
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

// unsupported is the reason of what cannot be applied; all others are of references.
const unsupported = "UnsupportedValue"

// addRef records a backend that cannot be resolved.
func (x *route) addRef(reason, msg string) { x.found(finding{condition: condition{reason, msg}}) }

func (x *route) found(f finding) {
	if !slices.Contains(x.findings, f) {
		x.findings = append(x.findings, f)
	}
}

// brokenShare records a backend whose share answers 500 because of its filters.
func (x *route) brokenShare(msg string) {
	x.found(finding{condition{unsupported, msg}, true})
}

func (x *route) brokenRule(i int, why string) {
	msg := why
	if !strings.HasPrefix(why, "spec.") { // of the rule, not of the object
		msg = fmt.Sprintf("spec.rules[%d].%s", i, why)
		if !strings.HasPrefix(why, "filters[") {
			msg = fmt.Sprintf("spec.rules[%d]: %s", i, why)
		}
	}
	x.found(finding{condition: condition{unsupported, msg}})
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
		x.status.Parents, x.findings = slices.Clone(x.alone), nil
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
	var rules, shares, refs []condition
	broken, whole := map[string]bool{}, false
	for _, f := range x.findings {
		switch {
		case f.reason != unsupported:
			refs = append(refs, f.condition)
		case f.share:
			shares = append(shares, f.condition)
		default:
			rules = append(rules, f.condition)
			rule, _, _ := strings.Cut(f.message, "]")
			broken[rule] = true
			whole = whole || !strings.HasPrefix(rule, "spec.rules[")
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
		case rules != nil && (whole || len(broken) >= x.ruleCount()):
			accepted.Status, accepted.Reason, accepted.Message = false, unsupported, listed(rules)
		}
		resolved := Condition{Type: "ResolvedRefs", Status: true, Reason: "ResolvedRefs", Message: "all references are resolved", ObservedGeneration: gen}
		if refs != nil {
			resolved.Status, resolved.Reason, resolved.Message = false, refs[0].reason, listed(refs)
		}
		p.Conditions = []Condition{accepted, resolved}
		if accepted.Status && (rules != nil || shares != nil) {
			p.Conditions = append(p.Conditions, Condition{Type: "PartiallyInvalid", Status: true, Reason: unsupported,
				Message: partly(rules, shares), ObservedGeneration: gen})
		}
	}
}

// partly says which rules, and which shares of rules, answer 500.
func partly(rules, shares []condition) string {
	var parts []string
	if rules != nil {
		parts = append(parts, "Broken rules answer 500: "+listed(rules))
	}
	if shares != nil {
		parts = append(parts, "Backends whose share answers 500: "+listed(shares))
	}
	return strings.Join(parts, ". ")
}

// maxListed bounds what one condition names: a message has at most 32768 bytes
// (metav1.Condition), and one entry is a path with a name of up to 253 bytes.
const maxListed = 16

// listed names each of what was found, up to a bound.
func listed(cs []condition) string {
	parts := make([]string, 0, maxListed+1)
	for _, c := range cs[:min(len(cs), maxListed)] {
		parts = append(parts, c.message)
	}
	if more := len(cs) - maxListed; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}
