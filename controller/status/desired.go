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
	groupOwn      = "waypoint.dev"
)

// desired is what this controller says of one object.
type desired struct {
	entries []entry          // of Gateway API's kinds, and of ours
	istio   []kube.Condition // of Istio's kinds: at most one
	targets []string         // of that one, which were found, as its message names them
}

// policy takes what the build of one waypoint says of a policy.
func (d *desired) policy(p *kube.PolicyStatus) {
	for i := range p.Targets {
		t := &p.Targets[i]
		switch {
		case !t.Ours:
		case p.Group == groupSecurity:
			d.bind(t)
		default:
			d.add(targetRef(p, t), []kube.Condition{t.Condition})
		}
	}
}

// attached counts the routes that a waypoint serves.
func attached(routes []kube.RouteStatus) (n int32) {
	for i := range routes {
		if slices.ContainsFunc(routes[i].Parents, func(p kube.ParentStatus) bool {
			return p.Ours && len(p.Conditions) > 0 && p.Conditions[0].Status
		}) {
			n++
		}
	}
	return n
}

// route takes what the build of one Gateway's waypoint says of a route.
func (d *desired) route(gw kube.Key, r *kube.RouteStatus) {
	for i := range r.Parents {
		p := &r.Parents[i]
		switch {
		case p.Ours:
			d.add(parentRef(&p.Ref), p.Conditions)
		case p.Ref.Group != nil && *p.Ref.Group == groupGateway && p.Ref.Kind != nil && *p.Ref.Kind == "Gateway":
			ns := r.Namespace
			if p.Ref.Namespace != nil {
				ns = *p.Ref.Namespace
			}
			if ns == gw.Namespace && p.Ref.Name == gw.Name {
				d.add(parentRef(&p.Ref), notByGateway(r.Generation))
			}
		}
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

// bind folds a target into the one condition that Istio's kinds have.
func (d *desired) bind(t *kube.TargetStatus) {
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
