package kube

import (
	"slices"
	"strings"
)

// route files a route under its parents. Attached, it wants its backends; its other
// parents it wants so that their status can be told.
func (l *linker) route() {
	l.tag(l.itself(ByExists))
	attached := ways(ByParent)
	var parents []ParentRef
	switch b := l.o.Body.(type) {
	case *HTTPRoute:
		parents = b.ParentRefs
		for i := range b.Rules {
			l.filters(b.Rules[i].Filters)
			l.backends(b.Rules[i].BackendRefs)
		}
	case *GRPCRoute:
		parents = b.ParentRefs
		for i := range b.Rules {
			l.filters(b.Rules[i].Filters)
			l.backends(b.Rules[i].BackendRefs)
		}
	case *TCPRoute:
		parents = b.ParentRefs
		l.l4(b.Rules)
	case *TLSRoute:
		parents = b.ParentRefs
		l.l4(b.Rules)
	}
	for i := range parents {
		ns := l.o.Namespace
		if p := parents[i].Namespace; p != nil {
			ns = *p
		}
		k := parentKey(&parents[i], ns)
		l.tag(Topic{ByParent, k.Kind, k.Namespace, k.Name})
		if k.Kind == "Service" || k.Kind == "ServiceEntry" {
			l.want(attached|ways(ByExists), Topic{ByExists, k.Kind, k.Namespace, k.Name})
		}
	}
	l.want(attached, l.itself(ByTraffic))
}

func (l *linker) backends(bs []BackendRef) {
	for i := range bs {
		l.target(&bs[i].BackendObject)
		l.filters(bs[i].Filters)
	}
}

func (l *linker) filters(fs []Filter) {
	for i := range fs {
		if m := fs[i].RequestMirror; m != nil {
			l.target(&m.BackendRef)
		}
	}
}

func (l *linker) l4(rules []L4Rule) {
	for i := range rules {
		for j := range rules[i].BackendRefs {
			l.target(&rules[i].BackendRefs[j].BackendObject)
		}
	}
}

func (l *linker) target(b *BackendObject) {
	ns, kind := l.o.Namespace, "Service"
	if b.Namespace != nil {
		ns = *b.Namespace
	}
	if b.Kind != nil {
		kind = *b.Kind
	}
	if kind == "Hostname" {
		l.want(ways(ByParent), Topic{By: ByHost, Name: strings.ToLower(strings.TrimSuffix(b.Name, "."))})
		return
	}
	l.want(ways(ByParent), Topic{ByBackend, kind, ns, b.Name})
}

// targets files a policy under its targets, by a way, and wants those, which tell
// whether it is attached.
func (l *linker) targets(b By, refs []TargetRef) {
	for _, t := range refs {
		k := Topic{b, t.Kind, l.o.Namespace, t.Name}
		if t.Kind == "GatewayClass" {
			if k.Namespace = ""; l.o.Namespace != l.RootNamespace {
				l.tag(Topic{By: ByUntargeted, Namespace: l.o.Namespace}) // which a message is about
				continue
			}
		}
		l.tag(k)
		if k.By = ByExists; t.Kind != "GatewayClass" { // classes are everyone's
			l.want(ways(BySecurity, ByTraffic, ByUntargeted), k)
		}
	}
}

func (l *linker) security() {
	a := &Attachment{}
	switch b := l.o.Body.(type) {
	case *AuthorizationPolicy:
		a = &b.Attachment
	case *RequestAuthentication:
		a = &b.Attachment
	}
	l.targets(BySecurity, a.refs())
	if len(a.refs()) == 0 || l.o.Err != nil && unreadableTargets(a, l.o.Err) {
		l.tag(Topic{By: ByUntargeted, Namespace: l.o.Namespace})
	}
}

func (l *linker) traffic() {
	switch b := l.o.Body.(type) {
	case *WaypointPolicy:
		l.targets(ByTraffic, b.TargetRefs)
	case *XBackendTrafficPolicy:
		refs := slices.Clone(b.TargetRefs)
		for i := range refs {
			refs[i].Kind = "Service"
		}
		l.targets(ByTraffic, refs)
	}
}

func (l *linker) rule() {
	d, ok := l.o.Body.(*DestinationRule)
	if !ok {
		return
	}
	h := ruleHost(d.Host, l.o.Namespace, l.Domain)
	if strings.HasPrefix(h, "*") {
		l.tag(Topic{By: ByWildRule, Namespace: l.o.Namespace})
	} else {
		l.tag(Topic{ByRule, "", l.o.Namespace, h})
	}
	if d.passes() {
		l.want(ways(ByRule, ByWildRule), Topic{By: ByAnyWorkload})
	}
}

// passes reports whether a rule sends to the address that a client chose.
func (d *DestinationRule) passes() bool {
	through := func(t *TrafficPolicy) bool {
		if t == nil {
			return false
		}
		if t.LoadBalancer != nil && t.LoadBalancer.Simple == "PASSTHROUGH" {
			return true
		}
		for i := range t.PortLevelSettings {
			if lb := t.PortLevelSettings[i].LoadBalancer; lb != nil && lb.Simple == "PASSTHROUGH" {
				return true
			}
		}
		return false
	}
	return through(d.TrafficPolicy) || slices.ContainsFunc(d.Subsets, func(s Subset) bool { return through(s.TrafficPolicy) })
}
