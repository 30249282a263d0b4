package kube

import (
	"fmt"
	"strings"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// filterSet is what a list of filters comes to.
type filterSet struct {
	routing.Filters
	redirect *routing.Redirect
	broken   string // why the list cannot be applied; empty when it can
}

// filters translates the filters of the rule or backend at path. One that cannot be
// applied breaks the list: a request must not pass a filter that its author put there.
func (t *translator) filters(x *route, path string, fs []Filter) (out filterSet) {
	for i := range fs {
		f, at := &fs[i], fmt.Sprintf("%s.filters[%d]", path, i)
		if field, why := f.hostEdit(); field != "" {
			t.problem(config.Error, x.obj, at+field, "UnsupportedValue", "%s; what it filters answers 500", why)
			if out.broken == "" {
				out.broken = fmt.Sprintf("filters[%d]%s: %s", i, field, why)
			}
			continue
		}
		switch {
		case f.Type == "RequestHeaderModifier" && f.RequestHeaderModifier != nil:
			out.Request = merge(out.Request, headerOps(f.RequestHeaderModifier))
		case f.Type == "ResponseHeaderModifier" && f.ResponseHeaderModifier != nil:
			out.Response = merge(out.Response, headerOps(f.ResponseHeaderModifier))
		case f.Type == "RequestMirror" && f.RequestMirror != nil:
			out.Mirrors = append(out.Mirrors, t.mirror(x, at, f.RequestMirror))
		case f.Type == "RequestRedirect" && f.RequestRedirect != nil:
			out.redirect = redirect(f.RequestRedirect)
		case f.Type == "URLRewrite" && f.URLRewrite != nil:
			w := &routing.Rewrite{Host: nameOf(f.URLRewrite.Hostname)}
			if p := f.URLRewrite.Path; p != nil {
				w.FullPath, w.PrefixReplace = p.ReplaceFullPath, p.ReplacePrefixMatch
			}
			out.Rewrite = w
		case f.Type == "CORS" && f.CORS != nil:
			out.CORS = cors(f.CORS)
		default:
			if !x.faulty(at) {
				t.problem(config.Error, x.obj, at, "UnsupportedValue", "filter type %q is not supported; what it filters answers 500", f.Type)
			}
			if out.broken == "" {
				out.broken = fmt.Sprintf("filters[%d]: filter type %q is not supported", i, f.Type)
			}
		}
	}
	return out
}

// hostEdit finds an edit of the Host, which every request has once and no response:
// it can be set in requests, and that is all (Envoy refuses the others).
func (f *Filter) hostEdit() (field, why string) {
	why = "Host can only be set, and only in requests"
	isHost := func(name string) bool { return strings.EqualFold(name, "host") || name == ":authority" }
	find := func(member string, h *HeaderFilter, set bool) {
		if h == nil {
			return
		}
		for i := range h.Set {
			if isHost(h.Set[i].Name) && !set {
				field = fmt.Sprintf(".%s.set[%d]", member, i)
			}
		}
		for i := range h.Add {
			if isHost(h.Add[i].Name) {
				field = fmt.Sprintf(".%s.add[%d]", member, i)
			}
		}
		for i := range h.Remove {
			if isHost(h.Remove[i]) {
				field = fmt.Sprintf(".%s.remove[%d]", member, i)
			}
		}
	}
	find("requestHeaderModifier", f.RequestHeaderModifier, true)
	find("responseHeaderModifier", f.ResponseHeaderModifier, false)
	return field, why
}

func headerOps(h *HeaderFilter) *routing.HeaderOps {
	o := &routing.HeaderOps{}
	for _, v := range h.Set {
		o.Set = append(o.Set, routing.HeaderValue{Name: strings.ToLower(v.Name), Value: v.Value})
	}
	for _, v := range h.Add {
		o.Add = append(o.Add, routing.HeaderValue{Name: strings.ToLower(v.Name), Value: v.Value})
	}
	for _, n := range h.Remove {
		o.Remove = append(o.Remove, strings.ToLower(n))
	}
	return o
}

// merge joins repeated modifiers, which validation refuses but a broken object may have.
func merge(a, b *routing.HeaderOps) *routing.HeaderOps {
	if a == nil {
		return b
	}
	a.Set, a.Add, a.Remove = append(a.Set, b.Set...), append(a.Add, b.Add...), append(a.Remove, b.Remove...)
	return a
}

func (t *translator) mirror(x *route, path string, m *MirrorFilter) routing.Mirror {
	b := t.target(x, &m.BackendRef, path+".requestMirror.backendRef")
	out := routing.Mirror{Ref: b.Ref, Invalid: b.Invalid, Numerator: 100, Denominator: 100}
	switch {
	case m.Percent != nil:
		out.Numerator = uint32(max(0, *m.Percent))
	case m.Fraction != nil:
		out.Numerator, out.Denominator = uint32(max(0, m.Fraction.Numerator)), uint32(max(1, *m.Fraction.Denominator))
	}
	return out
}

func redirect(f *RedirectFilter) *routing.Redirect {
	out := &routing.Redirect{Scheme: nameOf(f.Scheme), Host: nameOf(f.Hostname), Status: int(*f.StatusCode)}
	if f.Port != nil {
		out.Port = int(*f.Port)
	}
	if f.Path != nil {
		out.FullPath, out.PrefixReplace = f.Path.ReplaceFullPath, f.Path.ReplacePrefixMatch
	}
	return out
}

func cors(c *CORSFilter) *routing.CORS {
	out := &routing.CORS{
		AllowMethods: c.AllowMethods, AllowHeaders: c.AllowHeaders, ExposeHeaders: c.ExposeHeaders,
		MaxAge: time.Duration(*c.MaxAge) * time.Second,
	}
	if c.AllowCredentials != nil {
		out.AllowCredentials = *c.AllowCredentials
	}
	for _, o := range c.AllowOrigins {
		m := routing.ValueMatch{Value: o}
		if o == "*" {
			m = routing.ValueMatch{Kind: routing.ValuePresent}
		}
		out.AllowOrigins = append(out.AllowOrigins, m)
	}
	return out
}
