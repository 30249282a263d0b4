package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

// readiness tells what of the objects does less at a waypoint than it seems to:
// policies that never match or can be got around, and workloads that can be reached
// past the waypoint.
func (r *build) readiness() {
	r.noteAll()
	r.warnBypass(r.services)
}

// noteAll judges all policies.
func (r *build) noteAll() {
	r.notes = map[Key][]config.Problem{}
	for _, kind := range []string{"AuthorizationPolicy", "RequestAuthentication"} {
		for _, o := range r.objs.All(groupSecurity, kind) {
			r.note(o.Key)
		}
	}
}

// note judges one policy.
func (r *build) note(k Key) {
	delete(r.notes, k)
	o := r.objs.Get(k)
	if o == nil {
		return
	}
	var out []config.Problem
	r.into(&out, func() {
		switch b := o.Body.(type) {
		case *AuthorizationPolicy:
			r.warnSelector(o, &b.Attachment)
			r.warnUnattached(o, &b.Attachment)
			r.warnRules(o, b)
		case *RequestAuthentication:
			r.warnSelector(o, &b.Attachment)
			r.warnUnattached(o, &b.Attachment)
		}
	})
	if len(out) > 0 {
		r.notes[k] = out
	}
}

// warnRules judges the rules of a policy.
func (r *build) warnRules(o *Object, a *AuthorizationPolicy) {
	if len(a.refs()) == 0 {
		return // ztunnel enforces it, not a waypoint
	}
	if p := r.Builder.policies[o]; p != nil && p.err != nil {
		return // what it would mean does not matter while it is refused
	}
	for i := range a.Rules {
		r.warnBrackets(o, a, i)
		r.warnNever(o, a, i)
	}
	if a.Action == "ALLOW" && len(a.Rules) == 0 {
		r.problem(config.Info, o, "spec.rules", "DeniesAll", "an ALLOW policy without rules denies every request to its targets")
	}
}

// warnSelector tells of a selector that chooses a waypoint's own pods, which does
// not do what it does for a gateway.
func (r *build) warnSelector(o *Object, a *Attachment) {
	if r.selectsWaypoint(o, a) {
		r.problem(config.Warning, o, "spec.selector", "SelectsWaypoint",
			"chooses the pods of a waypoint, where selectors are not applied: %s", r.attachTo())
	}
}

func (r *build) selectsWaypoint(o *Object, a *Attachment) bool {
	if a.Selector == nil || len(a.Selector.MatchLabels) == 0 {
		return false
	}
	for _, w := range r.managedPods() {
		if w.Namespace == o.Namespace && subset(a.Selector.MatchLabels, w.Labels) {
			return true
		}
	}
	return false
}

// managedPods returns the workloads that are waypoints.
func (r *build) managedPods() []*workload {
	if r.managed == nil {
		r.managed = []*workload{}
		for _, w := range r.list {
			if w.Labels[labelManaged] == "istio.io-mesh-controller" {
				r.managed = append(r.managed, w)
			}
		}
	}
	return r.managed
}

// warnBrackets tells of a DENY template that a path with a bracket passes by: the
// alphabet of {*} and {**} has no brackets, so /a/[x] does not match /a/{*}.
func (r *build) warnBrackets(o *Object, a *AuthorizationPolicy, i int) {
	if a.Action != "DENY" {
		return
	}
	for j, t := range a.Rules[i].To {
		for k, p := range t.Operation.Paths {
			if p, _ = authz.BraceTemplate(p); strings.Contains(p, "{*}") || strings.Contains(p, "{**}") {
				prefix, _, _ := strings.Cut(p, "{")
				r.problem(config.Warning, o, fmt.Sprintf("spec.rules[%d].to[%d].operation.paths[%d]", i, j, k), "TemplateEscape",
					"a path with a character outside the alphabet of templates, such as [, escapes %q: deny the prefix %q, or allow what is wanted instead", p, prefix+"*")
			}
		}
	}
}

// warnNever tells of a rule that no request can match.
func (r *build) warnNever(o *Object, a *AuthorizationPolicy, i int) {
	rule, p := &a.Rules[i], at("spec.rules", i)
	never := func(field, why string) {
		effect := "so the rule never matches"
		if a.Action == "ALLOW" {
			effect = "so the rule allows nothing"
		}
		r.problem(config.Warning, o, p+field, "NeverMatches", "%s, %s", why, effect)
	}
	for j, t := range rule.To {
		op, q := t.Operation, at(".to", j)+".operation"
		if x := covered(op.Methods, op.NotMethods); x != "" {
			never(q, x)
		}
		if x := covered(op.Paths, op.NotPaths); x != "" {
			never(q, x)
		}
		if x := covered(op.Hosts, op.NotHosts); x != "" {
			never(q, x)
		}
		if x := covered(op.Ports, op.NotPorts); x != "" {
			never(q, x)
		}
		if len(op.Ports) > 0 && !r.anyPort(o, a, op.Ports) {
			never(q+".ports", "no target has one of these ports (a service's port counts, not its targetPort)")
		}
		for _, path := range op.Paths {
			if path != "*" && !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "*") && !strings.HasPrefix(path, "{") {
				never(q+".paths", fmt.Sprintf("%q does not begin with /", path))
			}
			if strings.Contains(path, "?") {
				never(q+".paths", fmt.Sprintf("%q has a query, which is no part of the path", path))
			}
		}
	}
	for j, w := range rule.When {
		q := at(".when", j)
		if x := covered(w.Values, w.NotValues); x != "" {
			never(q, x)
		}
		if strings.HasPrefix(w.Key, "request.auth.") && len(w.Values) > 0 && !r.hasTokens(a, o) {
			never(q+".key", fmt.Sprintf("%s is of a token, and no RequestAuthentication of a target verifies tokens", w.Key))
		}
	}
	for j, f := range rule.From {
		s, q := f.Source, at(".from", j)+".source"
		for _, l := range [][2][]string{{s.Principals, s.NotPrincipals}, {s.Namespaces, s.NotNamespaces}, {s.RequestPrincipals, s.NotRequestPrincipals}, {s.IPBlocks, s.NotIPBlocks}} {
			if x := covered(l[0], l[1]); x != "" {
				never(q, x)
			}
		}
		for _, x := range s.Principals {
			if strings.HasPrefix(x, "spiffe://") {
				never(q+".principals", fmt.Sprintf("%q: principals are written without spiffe://", x))
			}
		}
		if len(s.RequestPrincipals) > 0 && !r.hasTokens(a, o) {
			never(q+".requestPrincipals", "no RequestAuthentication of a target verifies tokens")
		}
	}
}

// covered reports that each value is excluded again by its not-twin.
func covered(vs, nots []string) string {
	if len(vs) == 0 {
		return ""
	}
	for _, v := range vs {
		if !slices.Contains(nots, v) && !slices.Contains(nots, "*") {
			return ""
		}
	}
	return fmt.Sprintf("%q are excluded again", vs)
}

// targets returns the keys of a policy's targets.
func targets(o *Object, a *Attachment) (out []Key) {
	for _, t := range a.refs() {
		k := Key{strings.TrimPrefix(t.Group, "core"), t.Kind, o.Namespace, t.Name}
		if t.Kind == "GatewayClass" {
			k.Namespace = ""
		}
		out = append(out, k)
	}
	return out
}

// anyPort reports whether a target may have one of the ports.
func (r *build) anyPort(o *Object, a *AuthorizationPolicy, ports []string) bool {
	for _, k := range targets(o, &a.Attachment) {
		s := r.byName[k]
		if s == nil {
			return true // a Gateway, or nothing: others tell
		}
		for i := range s.ports {
			if slices.Contains(ports, fmt.Sprint(s.ports[i].number)) {
				return true
			}
		}
	}
	return false
}

// hasTokens reports whether tokens are verified at one of the policy's targets.
func (r *build) hasTokens(a *AuthorizationPolicy, o *Object) bool {
	for _, k := range targets(o, &a.Attachment) {
		if k.Kind == "Gateway" || k.Kind == "GatewayClass" {
			return len(r.jwt) > 0
		}
		var svc *Object
		if s := r.byName[k]; s != nil {
			svc = s.obj
		}
		if _, jwts := r.policiesOf(svc, o.Namespace); len(jwts) > 0 {
			return true
		}
	}
	return false
}

// warnBypass tells, of some services, of workloads of guarded services that anyone in
// the mesh can reach by their pod address, past the waypoint and its policies. One
// problem per service, with the policy that closes the way.
func (r *build) warnBypass(services []*service) {
	if r.gw == nil {
		return
	}
	closed, byLabel := r.closedWorkloads(), r.podsByLabel()
	for _, s := range services {
		s.open = nil
		if !s.selects() || !r.anyPolicy(s) {
			continue // nothing guards it that could be got around
		}
		r.into(&s.open, func() {
			var open []string
			for _, w := range byLabel(s.obj.Namespace, s.kube.Spec.Selector) {
				if subset(s.kube.Spec.Selector, w.Labels) && !closed(w) && !sameObject(r.waypointOf(w.obj, "workload"), r.gw) {
					open = append(open, w.Name)
				}
			}
			if len(open) > 0 {
				r.problem(config.Warning, s.obj, "", "Bypass", "its policies are not asked when a client calls a pod by its address (%s of them: %s). This lets in only the waypoint:\n%s",
					fmt.Sprint(len(open)), strings.Join(open[:min(3, len(open))], ", "), r.onlyWaypoint(s))
			}
		})
	}
}

// selects reports whether this waypoint serves the service and pods are behind it.
func (s *service) selects() bool { return s.served && s.kube != nil && len(s.kube.Spec.Selector) > 0 }

// anyPolicy reports whether policiesOf has any for a service.
func (r *build) anyPolicy(s *service) bool {
	for _, k := range r.policyPlaces(s.obj, s.obj.Namespace) {
		if len(r.attached[k])+len(r.jwt[k]) > 0 {
			return true
		}
	}
	return false
}

// podsByLabel returns what finds the pods of a namespace that a selector may choose:
// those with one of its labels. It reads all pods once for each label that is asked
// for, which is one or two in a cluster, and not once for each service.
func (r *build) podsByLabel() func(ns string, selector map[string]string) []*workload {
	return func(ns string, selector map[string]string) []*workload {
		label := slices.Min(slices.Collect(maps.Keys(selector)))
		m := r.labelled[label]
		if m == nil {
			m = map[labelPlace][]*workload{}
			for _, w := range r.list[:r.podCount] {
				if v, ok := w.Labels[label]; ok {
					m[labelPlace{w.Namespace, v}] = append(m[labelPlace{w.Namespace, v}], w)
				}
			}
			if r.labelled == nil {
				r.labelled = map[string]map[labelPlace][]*workload{}
			}
			r.labelled[label] = m
		}
		return m[labelPlace{ns, selector[label]}]
	}
}

// labelPlace is a value of a label in a namespace.
type labelPlace struct{ namespace, value string }

// closedWorkloads returns whether an ALLOW policy with a selector, which ztunnel
// enforces, restricts who may call a workload.
func (r *build) closedWorkloads() func(*workload) bool {
	var ps []*Object
	for _, o := range r.objs.All(groupSecurity, "AuthorizationPolicy") {
		if a := o.Body.(*AuthorizationPolicy); a.Action == "ALLOW" && len(a.refs()) == 0 {
			ps = append(ps, o)
		}
	}
	return func(w *workload) bool {
		for _, o := range ps {
			a := o.Body.(*AuthorizationPolicy)
			if o.Namespace != w.Namespace && o.Namespace != r.mesh.RootNamespace {
				continue
			}
			if a.Selector == nil || subset(a.Selector.MatchLabels, w.Labels) {
				return true
			}
		}
		return false
	}
}

// onlyWaypoint is the policy, enforced by ztunnel, that admits only this waypoint.
func (r *build) onlyWaypoint(s *service) string {
	labels := ""
	for _, k := range sortedKeys(s.kube.Spec.Selector) {
		labels += fmt.Sprintf("      %s: %q\n", k, s.kube.Spec.Selector[k])
	}
	return "  apiVersion: security.istio.io/v1\n  kind: AuthorizationPolicy\n  metadata:\n" +
		"    name: " + s.obj.Name + "-only-waypoint\n    namespace: " + s.obj.Namespace + "\n" +
		"  spec:\n    selector:\n      matchLabels:\n" + strings.ReplaceAll(labels, "      ", "        ") +
		"    rules:\n    - from:\n      - source:\n          principals: [" +
		fmt.Sprintf("%q", r.waypointPrincipal().Name()) + "]"
}

// waypointPrincipal is the identity of this waypoint as policies write it.
func (r *build) waypointPrincipal() attrs.Principal {
	if r.account == "" {
		r.account = r.gw.Name // istiod names the account of a waypoint after its Gateway
		for _, w := range r.list {
			if w.Namespace == r.gw.Namespace && w.Labels[labelGateway] == r.gw.Name {
				r.account = w.ServiceAccount
			}
		}
	}
	sa := r.account
	td, ns := r.mesh.TrustDomain, r.gw.Namespace
	return attrs.Principal{URI: "spiffe://" + td + "/ns/" + ns + "/sa/" + sa, TrustDomain: td, Namespace: ns, ServiceAccount: sa}
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
