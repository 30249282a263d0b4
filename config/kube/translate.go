package kube

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

// translator turns the routes of one destination into rules.
type translator struct {
	*build
	d     *config.Destination
	index map[string]int // of a backend key in d.Refs
}

func (t *translator) ref(key string) int {
	i, ok := t.index[key]
	if !ok {
		i = len(t.d.Refs)
		t.d.Refs = append(t.d.Refs, key)
		t.index[key] = i
	}
	return i
}

// rules translates an HTTPRoute or GRPCRoute.
func (t *translator) rules(x *route) []routing.Rule {
	var out []routing.Rule
	switch b := x.obj.Body.(type) {
	case *HTTPRoute:
		for i := range b.Rules {
			h := &b.Rules[i]
			rule := t.rule(x, i, h.Name)
			for j := range h.Matches {
				rule.Matches = append(rule.Matches, httpMatch(&h.Matches[j]))
			}
			t.filtered(x, &rule, h.Filters)
			rule.Backends = t.backends(x, i, h.BackendRefs, rule.Redirect != nil)
			t.timing(&rule, h)
			t.session(x, &rule, h.SessionPersistence)
			out = append(out, t.finish(x, rule))
		}
	case *GRPCRoute:
		for i := range b.Rules {
			g := &b.Rules[i]
			rule := t.rule(x, i, g.Name)
			for j := range g.Matches {
				rule.Matches = append(rule.Matches, grpcMatch(&g.Matches[j]))
			}
			t.filtered(x, &rule, g.Filters)
			rule.Backends = t.backends(x, i, g.BackendRefs, false)
			t.session(x, &rule, g.SessionPersistence)
			out = append(out, t.finish(x, rule))
		}
	}
	return out
}

func (t *translator) rule(x *route, i int, name *string) routing.Rule {
	r := routing.Rule{
		Route: x.obj.Namespace + "/" + x.obj.Name, Kind: x.obj.Kind, Index: i, Created: x.obj.created,
		Retry: -1, Fault: -1, Session: -1, Hash: -1,
	}
	if name != nil && !x.named(i, *name) {
		r.Name = *name
	}
	if x.broken != nil {
		r.Broken = x.broken(i)
	}
	return r
}

// filtered puts the filters of a rule into it.
func (t *translator) filtered(x *route, r *routing.Rule, fs []Filter) {
	f := t.filters(x, at("spec.rules", r.Index), fs)
	r.Filters, r.Redirect = f.Filters, f.redirect
	if r.Broken == "" {
		r.Broken = f.broken
	}
}

// finish leaves nothing but the matches in a broken rule.
func (t *translator) finish(x *route, r routing.Rule) routing.Rule {
	if r.Broken != "" {
		r.Filters, r.Backends, r.Redirect, r.Direct = routing.Filters{}, nil, nil, nil
		t.tell(x, func() { x.brokenRule(r.Index, r.Broken) })
	}
	return r
}

func httpMatch(m *HTTPMatch) routing.Match {
	out := routing.Match{Headers: values(m.Headers, true), Query: values(m.QueryParams, false)}
	if m.Method != nil {
		out.Method = strings.ToUpper(*m.Method) // as below
	}
	out.Path.Value = *m.Path.Value
	if *m.Path.Type != "RegularExpression" && !strings.HasPrefix(out.Path.Value, "/") {
		// Only of a broken rule, which answers 500 for the paths that were meant.
		out.Path.Value = "/" + out.Path.Value
	}
	switch *m.Path.Type {
	case "Exact":
		out.Path.Kind = routing.PathExact
	case "RegularExpression":
		out.Path.Kind = routing.PathRegex
	default:
		out.Path.Kind = routing.PathPrefix
	}
	return out
}

func grpcMatch(m *GRPCMatch) routing.Match {
	out := routing.Match{Headers: values(m.Headers, true)}
	if x := m.Method; x != nil {
		out.Path = routing.GRPCPath(nameOf(x.Service), nameOf(x.Method), *x.Type == "RegularExpression")
	}
	return out
}

func values(vs []ValueMatch, header bool) []routing.ValueMatch {
	var out []routing.ValueMatch
	for _, v := range vs {
		m := routing.ValueMatch{Name: v.Name, Value: v.Value}
		if header {
			m.Name = strings.ToLower(v.Name)
		}
		switch *v.Type {
		case "RegularExpression":
			m.Kind = routing.ValueRegex
		case "Exact":
		default:
			continue // of a broken rule: what it asks for is not known, so it holds
		}
		if !headerName.MatchString(v.Name) {
			continue // as well
		}
		out = append(out, m)
	}
	return out
}

// backends translates the weighted backends of a rule. Without any that has a
// weight, every request is answered 500.
func (t *translator) backends(x *route, rule int, bs []BackendRef, redirect bool) []routing.Backend {
	if redirect {
		return nil
	}
	var out []routing.Backend
	for i := range bs {
		b, path := &bs[i], at(at("spec.rules", rule)+".backendRefs", i)
		o := t.target(x, &b.BackendObject, path)
		o.Weight = uint32(max(0, *b.Weight))
		f := t.filters(x, path, b.Filters)
		if f.broken != "" {
			t.tell(x, func() { x.brokenShare(path + "." + f.broken) })
			if o.Invalid == "" {
				o.Ref, o.Invalid, o.Status = -1, f.broken, 500
			}
		}
		switch {
		case o.Invalid == "":
			o.Filters, o.Redirect = f.Filters, f.redirect
		case f.broken == "": // its answer is edited as the backend's would be
			o.Filters.Response = f.Response
		}
		out = append(out, o)
	}
	if len(out) == 0 {
		out = []routing.Backend{{Ref: -1, Weight: 1, Invalid: "the rule has no backendRefs", Status: 500}}
	}
	return out
}

// target resolves a backend reference. The result has Invalid set when it cannot.
func (t *translator) target(x *route, b *BackendObject, path string) routing.Backend {
	effect := "its share answers 500"
	if strings.Contains(path, "requestMirror") {
		effect = "nothing is copied to it"
	}
	invalid := func(reason, format string, args ...any) routing.Backend {
		msg := fmt.Sprintf(format, args...)
		if x.faulty(path) { // said with the object
			return routing.Backend{Ref: -1, Invalid: msg, Status: 500}
		}
		t.tell(x, func() { x.addRef(reason, path+": "+msg) })
		t.problem(config.Error, x.obj, path, reason, "%s; %s", msg, effect)
		return routing.Backend{Ref: -1, Invalid: msg, Status: 500} // Gateway API: an invalid backend keeps its share as 500
	}
	ns := x.obj.Namespace
	if b.Namespace != nil {
		ns = *b.Namespace
	}
	var s *service
	switch g := *b.Group; {
	case (g == "" || g == "core") && *b.Kind == "Service":
		s = t.named(Key{"", "Service", ns, b.Name})
	case g == groupNet && *b.Kind == "ServiceEntry":
		s = t.named(Key{groupNet, "ServiceEntry", ns, b.Name})
	case g == groupNet && *b.Kind == "Hostname":
		if b.Namespace != nil {
			return invalid("RefNotPermitted", "a Hostname has no namespace")
		}
		s = t.findHost(b.Name, x.obj.Namespace)
	default:
		return invalid("InvalidKind", "%s cannot be a backend, only a Service, or a ServiceEntry or Hostname of group "+groupNet, groupKind{g, *b.Kind})
	}
	if s == nil {
		return invalid("BackendNotFound", "%s %s/%s does not exist", *b.Kind, ns, b.Name)
	}
	if s.kube != nil && s.kube.Spec.Type == "ExternalName" {
		return invalid("InvalidKind", "Service %s/%s is an ExternalName", ns, b.Name)
	}
	if b.Port == nil {
		if len(s.ports) != 1 {
			return invalid("BackendNotFound", "port is required")
		}
		return routing.Backend{Ref: t.ref(t.backend(s, &s.ports[0]))}
	}
	p := s.port(*b.Port)
	if p == nil {
		return invalid("BackendNotFound", "%s %s/%s has no TCP port %d", *b.Kind, ns, b.Name, *b.Port)
	}
	return routing.Backend{Ref: t.ref(t.backend(s, p))}
}

// timing applies timeouts and retry. A backendRequest timeout is that of a try
// where there are retries, else, as in Istio, that of the exchange.
func (t *translator) timing(rule *routing.Rule, h *HTTPRule) {
	if x := h.Timeouts; x != nil {
		rule.Timeout = gatewayDuration(x.Request)
		if d := gatewayDuration(x.BackendRequest); x.BackendRequest != nil {
			if h.Retry != nil {
				rule.TryTimeout = d
			} else {
				rule.Timeout = d
			}
		}
	}
	r := h.Retry
	if r == nil {
		return
	}
	p := &resilience.Retry{
		Attempts: 2, // Istio's default
		On:       resilience.OnConnectFailure | resilience.OnRefusedStream | resilience.OnUnavailable | resilience.OnCancelled,
		Backoff:  gatewayDuration(r.Backoff), TryTimeout: rule.TryTimeout, AvoidPrevious: true,
	}
	if r.Attempts != nil {
		p.Attempts = int(*r.Attempts)
	}
	for _, c := range r.Codes {
		p.Codes = append(p.Codes, int(c))
		p.On |= resilience.OnStatusCodes
	}
	rule.Retry = len(t.d.Retries)
	t.d.Retries = append(t.d.Retries, p)
}

func gatewayDuration(s *string) time.Duration {
	if s == nil {
		return 0
	}
	d, _ := time.ParseDuration(*s) // checked when it was decoded
	return d
}

// l4 translates the rules of a TCPRoute or TLSRoute.
func (t *translator) l4(x *route) (out []config.TCPRoute) {
	var rules []L4Rule
	var sni []string
	switch b := x.obj.Body.(type) {
	case *TCPRoute:
		rules = b.Rules
	case *TLSRoute:
		rules, sni = b.Rules, b.Hostnames
	}
	for i := range rules {
		tr := config.TCPRoute{Route: x.obj.Namespace + "/" + x.obj.Name, Rule: strconv.Itoa(i), SNI: sni}
		if n := nameOf(rules[i].Name); n != "" {
			tr.Rule = n
		}
		why := ""
		if x.broken != nil {
			why = x.broken(i)
		}
		for j := range rules[i].BackendRefs {
			b := &rules[i].BackendRefs[j]
			o := t.target(x, &b.BackendObject, fmt.Sprintf("spec.rules[%d].backendRefs[%d]", i, j))
			o.Weight = uint32(max(0, *b.Weight))
			tr.Backends = append(tr.Backends, o)
		}
		if why != "" || len(tr.Backends) == 0 {
			if why == "" {
				why = "the rule has no backendRefs"
			}
			t.tell(x, func() { x.brokenRule(i, why) })
			tr.Backends = []routing.Backend{{Ref: -1, Weight: 1, Invalid: why, Status: 500}}
		}
		out = append(out, tr)
	}
	return out
}
