package kube

import (
	"fmt"
	"slices"
	"strings"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
)

// collectPolicies compiles the security policies and files them by target.
func (r *build) collectPolicies() {
	for _, o := range r.objs.All(groupSecurity, "AuthorizationPolicy") {
		r.attach(o, &o.Body.(*AuthorizationPolicy).Attachment, r.compilePolicy(o))
	}
	for _, o := range r.objs.All(groupSecurity, "RequestAuthentication") {
		r.attach(o, &o.Body.(*RequestAuthentication).Attachment, nil)
		r.warnKeys(o)
	}
	for _, e := range r.objs.bad() {
		if e.good != nil {
			continue
		}
		var a *Attachment
		switch b := e.current.Body.(type) {
		case *AuthorizationPolicy:
			a = &b.Attachment
		case *RequestAuthentication:
			a = &b.Attachment
		default:
			if e.current.Group != groupSecurity || e.current.Kind == "PeerAuthentication" {
				continue
			}
			a = &Attachment{} // not even its version could be read
		}
		o := e.current
		deny := &policy{obj: o, Policy: authz.Policy{
			Namespace: o.Namespace, Name: o.Name, Action: authz.Deny,
			Invalid: o.Kind + ": " + o.Err.Error(),
		}}
		r.attach(o, a, deny)
		if unreadableTargets(a, o.Err) {
			// Whom it guards cannot be told: its whole namespace stays closed.
			r.attached[Key{Namespace: o.Namespace}] = append(r.attached[Key{Namespace: o.Namespace}], deny)
			r.unreadable[o.Key] = true
		}
	}
}

// aimless reports whether a policy that is refused has targets, none of which is of a
// kind that can be one: the API server would not have taken it, and it guards nothing.
func aimless(o *Object) bool {
	var refs []TargetRef
	switch b := o.Body.(type) {
	case *AuthorizationPolicy:
		refs = b.refs()
	case *RequestAuthentication:
		refs = b.refs()
	}
	return len(refs) > 0 && !slices.ContainsFunc(refs, func(t TargetRef) bool { return isTarget(&t) })
}

// unreadableTargets reports whether an error hides what a policy acts on.
func unreadableTargets(a *Attachment, err error) bool {
	if len(a.refs()) > 0 || a.Selector != nil {
		return false
	}
	fields, ok := err.(Fields)
	if !ok {
		return true
	}
	for _, f := range fields {
		if p := strings.ToLower(f.Path); p == "" || p == "spec" || p == "apiversion" || strings.HasPrefix(p, "spec.target") {
			return true
		}
	}
	return false
}

// attach files a policy under each of its targets. A nil p stands for a
// RequestAuthentication.
func (r *build) attach(o *Object, a *Attachment, p *policy) {
	r.targetsOf[o.Key] = targets(o, a)
	for i, t := range a.refs() {
		group := strings.TrimPrefix(t.Group, "core")
		k := Key{group, t.Kind, o.Namespace, t.Name}
		if t.Kind == "GatewayClass" {
			k.Namespace = ""
			if o.Namespace != r.mesh.RootNamespace {
				r.problem(config.Warning, o, at("spec.targetRefs", i), "NotAttached",
					"a GatewayClass is a target only in the root namespace %s", r.mesh.RootNamespace)
				r.policyTarget(o, t, "NotAttached", "a GatewayClass is a target only in the root namespace", false)
				continue
			}
		}
		if o.Err == nil && !r.exists(k) {
			r.targetMissing(o, i, &t)
		} else if o.Err == nil {
			if p != nil && p.Invalid != "" {
				r.policyTarget(o, t, "Invalid", p.Invalid, false)
			} else {
				r.policyTarget(o, t, "Accepted", "the policy is attached", true)
			}
		}
		if p != nil {
			r.attached[k] = append(r.attached[k], p)
		} else {
			r.jwt[k] = append(r.jwt[k], o)
		}
	}
}

func (r *build) exists(k Key) bool {
	if k.Kind == "GatewayClass" && (k.Name == "istio-waypoint" || k.Name == r.mesh.Waypoint.Class) {
		return true
	}
	return r.objs.Get(k) != nil
}

// compilePolicy returns the compiled form of an AuthorizationPolicy, or of its last
// version that compiled; without one it denies.
func (r *build) compilePolicy(o *Object) *policy {
	p := r.Builder.policies[o]
	if p == nil {
		p = r.newPolicy(o, nil)
		r.Builder.policies[o] = p
	}
	p.used = true
	for _, w := range p.warnings {
		r.problem(config.Warning, o, w[0].Path, "Spelling", "%s", w[0].Message)
	}
	if p.err == nil {
		r.good[o.Key] = p
		return p
	}
	what := "its targets deny every request"
	last := r.good[o.Key]
	if last != nil {
		what = "its last good version serves"
	}
	field, why, ok := strings.Cut(p.err.Error(), ": ")
	if !ok || !strings.HasPrefix(field, "spec.rules[") {
		field, why = "spec.rules", p.err.Error()
	}
	r.problem(config.Error, o, field, "Invalid", "%s; %s", why, what)
	if last != nil {
		return last
	}
	return p
}

var actions = map[string]authz.Action{"ALLOW": authz.Allow, "DENY": authz.Deny, "AUDIT": authz.Audit, "CUSTOM": authz.Custom}

func (r *build) newPolicy(o *Object, claims []string) *policy {
	spec := o.Body.(*AuthorizationPolicy)
	p := &policy{obj: o, Policy: authz.Policy{
		Namespace: o.Namespace, Name: o.Name, Action: actions[spec.Action],
		DryRun: o.Meta.Annotations["istio.io/dry-run"] == "true",
	}}
	if spec.Provider != nil {
		p.Provider = spec.Provider.Name
	}
	scope := authz.Scope{Namespace: o.Namespace, TrustDomain: r.mesh.TrustDomain, TrustAliases: r.mesh.TrustAliases, SpaceDelimited: claims}
	for i := range spec.Rules {
		rs := p.ruleSpec(&spec.Rules[i], at("spec.rules", i))
		rule, err := authz.NewRule(o.Namespace, o.Name, i, p.Action, rs, scope)
		if err != nil {
			p.err = err
			p.Invalid, p.Rules = p.err.Error(), nil
			return p
		}
		p.Rules = append(p.Rules, rule)
	}
	return p
}

// ruleSpec copies a rule into the form that package authz reads.
func (p *policy) ruleSpec(a *AuthzRule, path string) *authz.RuleSpec {
	rs := &authz.RuleSpec{}
	for _, f := range a.From {
		rs.From = append(rs.From, authz.Source{
			Principals: f.Source.Principals, NotPrincipals: f.Source.NotPrincipals,
			RequestPrincipals: f.Source.RequestPrincipals, NotRequestPrincipals: f.Source.NotRequestPrincipals,
			Namespaces: f.Source.Namespaces, NotNamespaces: f.Source.NotNamespaces,
			ServiceAccounts: f.Source.ServiceAccounts, NotServiceAccounts: f.Source.NotServiceAccounts,
			TrustDomains: f.Source.TrustDomains, NotTrustDomains: f.Source.NotTrustDomains,
			IPBlocks: f.Source.IPBlocks, NotIPBlocks: f.Source.NotIPBlocks,
			RemoteIPBlocks: f.Source.RemoteIPBlocks, NotRemoteIPBlocks: f.Source.NotRemoteIPBlocks,
		})
	}
	for i, t := range a.To {
		op := t.Operation
		q := at(path+".to", i) + ".operation."
		rs.To = append(rs.To, authz.Operation{
			Hosts: op.Hosts, NotHosts: op.NotHosts, Ports: op.Ports, NotPorts: op.NotPorts,
			Methods: op.Methods, NotMethods: op.NotMethods,
			Paths: p.templates(op.Paths, q+"paths"), NotPaths: p.templates(op.NotPaths, q+"notPaths"),
		})
	}
	for _, w := range a.When {
		rs.When = append(rs.When, authz.Condition{Key: w.Key, Values: w.Values, NotValues: w.NotValues})
	}
	return rs
}

// templates reads <*> and <**>, which documents often show, as {*} and {**}.
func (p *policy) templates(paths []string, field string) []string {
	var out []string
	for i, s := range paths {
		t, angle := authz.BraceTemplate(s)
		if angle {
			p.warnings = append(p.warnings, Fields{{at(field, i), fmt.Sprintf("%q is read as %q; write it so, since istiod takes <*> literally", s, t)}})
		}
		out = append(out, t)
	}
	return out
}

// policiesOf returns the policies of a service or workload destination: its own,
// those of this waypoint's Gateway and of its class.
func (r *build) policiesOf(svc *Object, ns string) (ps []*policy, jwts []*Object) {
	seen := map[*policy]bool{}
	for _, k := range r.policyPlaces(svc, ns) {
		for _, p := range r.attached[k] {
			if !seen[p] {
				seen[p] = true
				ps = append(ps, p)
			}
		}
		for _, o := range r.jwt[k] {
			dup := false
			for _, x := range jwts {
				dup = dup || x == o
			}
			if !dup {
				jwts = append(jwts, o)
			}
		}
	}
	return ps, jwts
}

// policyPlaces are the targets whose policies act on a service or workload.
func (r *build) policyPlaces(svc *Object, ns string) []Key {
	w := r.mesh.Waypoint
	keys := append(make([]Key, 0, 5), Key{groupGateway, "GatewayClass", "", w.Class}, Key{groupGateway, "Gateway", w.Namespace, w.Name}, Key{Namespace: ns})
	if w.Class != "istio-waypoint" {
		// The class that Istio's documentation names means the waypoints of the mesh.
		keys = append(keys, Key{groupGateway, "GatewayClass", "", "istio-waypoint"})
	}
	if svc != nil {
		keys = append(keys, svc.Key)
	}
	return keys
}

// guard puts the policies into a destination.
func (r *build) guard(d *config.Destination, svc *Object, ns string) {
	ps, jwts := r.policiesOf(svc, ns)
	var custom, audit, deny, allow []authz.Policy
	var providers []*extauthz.Config
	claims := spaceClaims(jwts)
	for _, p := range ps {
		if _, ok := p.obj.Body.(*AuthorizationPolicy); ok && len(claims) > 0 && p.Invalid == "" {
			p = r.newPolicy(p.obj, claims) // what a claim means depends on the destination's tokens
		}
		switch {
		case p.Invalid != "":
			deny = append(deny, p.Policy)
		case p.Action == authz.Custom:
			c, err := r.provider(p.Provider)
			if err != nil {
				r.problem(config.Error, p.obj, "spec.provider.name", "ProviderNotFound", "%v; the requests it matches are denied", err)
				x := p.Policy
				x.Action, x.Provider = authz.Deny, ""
				deny = append(deny, x)
				break
			}
			custom = append(custom, p.Policy)
			if !slices.ContainsFunc(providers, func(x *extauthz.Config) bool { return x.Name == c.Name }) {
				providers = append(providers, c)
			}
		case p.Action == authz.Audit:
			audit = append(audit, p.Policy)
		case p.Action == authz.Deny:
			deny = append(deny, p.Policy)
		default:
			allow = append(allow, p.Policy)
		}
		if d.Protocol == config.ProtocolTCP && p.Invalid == "" && p.obj != nil {
			r.warnTCP(p.obj, d)
		}
	}
	rest := append(append(audit, deny...), allow...)
	if len(custom) > 0 {
		d.Stages = append(d.Stages, config.Stage{Kind: config.StageCustom, Policies: custom, Spec: providers})
	}
	addTokens(d, jwts)
	if len(rest) > 0 {
		d.Stages = append(d.Stages, config.Stage{Kind: config.StageAuthz, Policies: rest})
	}
	if d.Protocol == config.ProtocolGRPCWeb {
		// Behind the policies, as istiod orders its filters: they see the request as sent.
		d.Stages = append(d.Stages, config.Stage{Kind: config.StageGRPCWeb})
	}
	switch d.Protocol {
	case config.ProtocolTCP, config.ProtocolTLS, config.ProtocolAuto:
		d.Conn = append(append([]authz.Policy(nil), custom...), rest...)
	}
}

// http reports whether a rule asks for what only HTTP tells.
func (a *AuthzRule) http() bool {
	for _, t := range a.To {
		op := t.Operation
		if len(op.Hosts)+len(op.NotHosts)+len(op.Methods)+len(op.NotMethods)+len(op.Paths)+len(op.NotPaths) > 0 {
			return true
		}
	}
	for _, w := range a.When {
		if strings.HasPrefix(w.Key, "request.") {
			return true
		}
	}
	for _, f := range a.From {
		if len(f.Source.RequestPrincipals)+len(f.Source.NotRequestPrincipals) > 0 {
			return true
		}
	}
	return false
}

// warnTCP tells of HTTP fields in a policy of a TCP port.
func (r *build) warnTCP(o *Object, d *config.Destination) {
	spec, ok := o.Body.(*AuthorizationPolicy)
	if !ok {
		return
	}
	for i := range spec.Rules {
		if !spec.Rules[i].http() {
			continue
		}
		effect := "the rule never matches there"
		if spec.Action != "ALLOW" {
			effect = "they are left out there and the rule matches more"
		}
		r.problem(config.Warning, o, at("spec.rules", i), "HTTPOnTCP", "has HTTP conditions, which the TCP port %s cannot have: %s", d.Key, effect)
	}
}
