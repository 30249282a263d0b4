package status

import (
	"fmt"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config/kube"
)

const (
	groupGateway  = "gateway.networking.k8s.io"
	groupSecurity = "security.istio.io"
)

// desired is what this controller says of one object.
type desired struct {
	entries []entry          // of Gateway API's kinds, and of ours
	istio   []kube.Condition // of Istio's kinds: at most one
	targets []string         // of it, that were found, as the message names them
}

// statuses collects what the builds of all waypoints say.
type statuses struct {
	ours     func(namespace, gateway string) bool // whether a Gateway is of this controller
	by       map[kube.Key]*desired
	attached map[kube.Key]int32 // routes by Gateway
}

func newStatuses(ours func(namespace, gateway string) bool) *statuses {
	return &statuses{ours: ours, by: map[kube.Key]*desired{}, attached: map[kube.Key]int32{}}
}

func (s *statuses) of(k kube.Key) *desired {
	d := s.by[k]
	if d == nil {
		d = &desired{}
		s.by[k] = d
	}
	return d
}

// add takes the statuses of one waypoint's build.
func (s *statuses) add(gw kube.Key, routes []kube.RouteStatus, policies []kube.PolicyStatus) {
	for i := range routes {
		s.route(gw, &routes[i])
	}
	for i := range policies {
		p := &policies[i]
		k := kube.Key{Group: p.Group, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name}
		for j := range p.Targets {
			t := &p.Targets[j]
			// Our own kind has nobody else who could tell of a missing target.
			if !t.Ours && !(p.Kind == "WaypointPolicy" && t.Condition.Reason == "TargetNotFound") {
				continue
			}
			if p.Group == groupSecurity {
				s.istio(k, t)
			} else {
				s.of(k).add(targetRef(p, t), []kube.Condition{t.Condition})
			}
		}
	}
}

func (s *statuses) route(gw kube.Key, r *kube.RouteStatus) {
	k := kube.Key{Group: groupGateway, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
	attached := false
	for i := range r.Parents {
		p := &r.Parents[i]
		switch {
		case p.Ours:
			s.of(k).add(parentRef(&p.Ref), p.Conditions)
			attached = attached || len(p.Conditions) > 0 && p.Conditions[0].Status
		case p.Ref.Group != nil && *p.Ref.Group == groupGateway && p.Ref.Kind != nil && *p.Ref.Kind == "Gateway":
			ns := r.Namespace
			if p.Ref.Namespace != nil {
				ns = *p.Ref.Namespace
			}
			if s.ours(ns, p.Ref.Name) {
				s.of(k).add(parentRef(&p.Ref), notByGateway(r.Generation))
			}
		}
	}
	if attached {
		s.attached[gw]++
	}
}

// notByGateway is what a route hears that names a waypoint's Gateway as its parent.
func notByGateway(generation int64) []kube.Condition {
	return []kube.Condition{
		{Type: "Accepted", Reason: "NotAllowedByListeners", ObservedGeneration: generation,
			Message: "the Gateway is a waypoint, which takes routes by the Services they act on: make a Service the parent"},
		{Type: "ResolvedRefs", Status: true, Reason: "ResolvedRefs", Message: "all references are resolved", ObservedGeneration: generation},
	}
}

// add adds an entry, or makes one that stands worse: of a target that several
// waypoints serve the one where it fails counts.
func (d *desired) add(ref map[string]any, conditions []kube.Condition) {
	for i := range d.entries {
		if e := &d.entries[i]; sameRef(e.ref, ref) {
			if good(e.conditions) && !good(conditions) {
				e.conditions = conditions
			}
			return
		}
	}
	d.entries = append(d.entries, entry{ref, conditions})
}

func good(cs []kube.Condition) bool {
	return !slices.ContainsFunc(cs, func(c kube.Condition) bool { return c.Status == (c.Type == "PartiallyInvalid") })
}

// istio folds the targets into the one condition that Istio's kinds have.
func (s *statuses) istio(k kube.Key, t *kube.TargetStatus) {
	d := s.of(k)
	c := t.Condition
	if c.Status {
		if name := strings.TrimSpace(t.Ref.Kind + " " + t.Ref.Name); !slices.Contains(d.targets, name) {
			d.targets = append(d.targets, name)
			slices.Sort(d.targets)
		}
	} else if t.Ref.Name != "" {
		c.Message = fmt.Sprintf("%s %s: %s", t.Ref.Kind, t.Ref.Name, c.Message)
	}
	switch {
	case len(d.istio) == 0:
		d.istio = []kube.Condition{c}
	case d.istio[0].Status && !c.Status:
		d.istio[0] = c
	}
	if x := &d.istio[0]; x.Status {
		x.Message = "bound to " + strings.Join(d.targets, ", ")
	}
}

// parentRef is a route's reference as its spec has it.
func parentRef(p *kube.ParentRef) map[string]any {
	m := map[string]any{"name": p.Name}
	for k, v := range map[string]*string{"group": p.Group, "kind": p.Kind, "namespace": p.Namespace, "sectionName": p.SectionName} {
		if v != nil {
			m[k] = *v
		}
	}
	if p.Port != nil {
		m["port"] = int64(*p.Port)
	}
	return m
}

// targetRef is a policy's target, with all that its defaults leave out: those of an
// ancestorRef are others.
func targetRef(p *kube.PolicyStatus, t *kube.TargetStatus) map[string]any {
	kind, name, group := t.Ref.Kind, t.Ref.Name, t.Ref.Group
	if name == "" { // the policy as a whole
		return map[string]any{"group": p.Group, "kind": p.Kind, "namespace": p.Namespace, "name": p.Name}
	}
	if kind == "" {
		kind = "Service"
	}
	m := map[string]any{"group": strings.TrimPrefix(group, "core"), "kind": kind, "namespace": p.Namespace, "name": name}
	if t.Ref.SectionName != "" {
		m["sectionName"] = t.Ref.SectionName
	}
	return m
}
