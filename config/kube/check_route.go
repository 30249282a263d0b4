package kube

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Limits of the Gateway API's schema.
const (
	maxParents  = 32
	maxRules    = 16
	maxMatches  = 64
	maxAllMatch = 128
	maxFilters  = 16
	maxBackends = 16
	maxHeaders  = 16
	maxWeight   = 1000000
)

func set[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func (p *ParentRef) fill() {
	set(&p.Group, groupGateway)
	set(&p.Kind, "Gateway")
}

func (b *BackendObject) fill() {
	set(&b.Group, "")
	set(&b.Kind, "Service")
}

func fillBackends(bs []BackendRef) {
	for i := range bs {
		bs[i].fill()
		set(&bs[i].Weight, 1)
		fillFilters(bs[i].Filters)
	}
}

func fillFilters(fs []Filter) {
	for i := range fs {
		f := &fs[i]
		if m := f.RequestMirror; m != nil {
			m.BackendRef.fill()
			if m.Fraction != nil {
				set(&m.Fraction.Denominator, 100)
			}
		}
		if f.RequestRedirect != nil {
			set(&f.RequestRedirect.StatusCode, 302)
		}
		if f.CORS != nil {
			set(&f.CORS.MaxAge, 5)
		}
	}
}

func fillValues(vs []ValueMatch) {
	for i := range vs {
		set(&vs[i].Type, "Exact")
	}
}

func (h *HTTPRoute) fill() {
	for i := range h.ParentRefs {
		h.ParentRefs[i].fill()
	}
	if h.Rules == nil {
		h.Rules = []HTTPRule{{}}
	}
	for i := range h.Rules {
		r := &h.Rules[i]
		if r.Matches == nil {
			r.Matches = []HTTPMatch{{}}
		}
		for j := range r.Matches {
			m := &r.Matches[j]
			set(&m.Path, PathMatch{})
			set(&m.Path.Type, "PathPrefix")
			set(&m.Path.Value, "/")
			fillValues(m.Headers)
			fillValues(m.QueryParams)
		}
		fillFilters(r.Filters)
		fillBackends(r.BackendRefs)
	}
}

func (h *HTTPRoute) check(r *report) {
	checkParents(r, h.ParentRefs)
	checkHostnames(r, h.Hostnames)
	if n := len(h.Rules); n > maxRules {
		r.addf("spec.rules", "has %d rules, at most %d are allowed", n, maxRules)
	}
	all := 0
	for i := range h.Rules {
		h.Rules[i].check(r, at("spec.rules", i))
		all += len(h.Rules[i].Matches)
	}
	if all > maxAllMatch {
		r.addf("spec.rules", "have %d matches together, at most %d are allowed", all, maxAllMatch)
	}
}

func (h *HTTPRule) check(r *report, p string) {
	checkName(r, p+".name", h.Name)
	if len(h.Matches) > maxMatches {
		r.addf(p+".matches", "has %d entries, at most %d are allowed", len(h.Matches), maxMatches)
	}
	prefixOnly := true
	for i := range h.Matches {
		m := &h.Matches[i]
		m.check(r, at(p+".matches", i))
		prefixOnly = prefixOnly && *m.Path.Type == "PathPrefix"
	}
	prefixOnly = prefixOnly && len(h.Matches) == 1 // CEL: a prefix is replaced only below exactly one PathPrefix match
	checkFilters(r, p+".filters", h.Filters, httpFilters, prefixOnly)
	redirect := false
	for i := range h.Filters {
		redirect = redirect || h.Filters[i].RequestRedirect != nil
	}
	if redirect && len(h.BackendRefs) > 0 {
		r.addf(p+".backendRefs", "RequestRedirect filter must not be used together with backendRefs")
	}
	checkBackends(r, p+".backendRefs", h.BackendRefs, httpFilters, prefixOnly)
	if t := h.Timeouts; t != nil {
		req, ok := checkDuration(r, p+".timeouts.request", t.Request)
		be, ok2 := checkDuration(r, p+".timeouts.backendRequest", t.BackendRequest)
		if ok && ok2 && t.Request != nil && req > 0 && be > req {
			r.addf(p+".timeouts", "backendRequest timeout cannot be longer than request timeout")
		}
	}
	if t := h.Retry; t != nil {
		checkDuration(r, p+".retry.backoff", t.Backoff)
		for i, c := range t.Codes {
			if c < 400 || c > 599 {
				r.addf(at(p+".retry.codes", i), "%d is not between 400 and 599", c)
			}
		}
		if t.Attempts != nil && *t.Attempts < 0 {
			r.addf(p+".retry.attempts", "is negative")
		}
	}
	h.SessionPersistence.check(r, p+".sessionPersistence")
}

func (s *SessionPersistence) check(r *report, p string) {
	if s == nil {
		return
	}
	checkDuration(r, p+".absoluteTimeout", s.AbsoluteTimeout)
	checkDuration(r, p+".idleTimeout", s.IdleTimeout)
	if s.Type != nil {
		oneOf(r, p+".type", *s.Type, "Cookie", "Header")
	}
	if n := nameOf(s.SessionName); n != "" && (len(n) > 128 || !headerName.MatchString(n)) {
		r.addf(p+".sessionName", "%q is no name of a header or cookie of at most 128 bytes", n)
	}
	if c := s.CookieConfig; c != nil && c.LifetimeType != nil {
		oneOf(r, p+".cookieConfig.lifetimeType", *c.LifetimeType, "Permanent", "Session")
		if *c.LifetimeType == "Permanent" && s.AbsoluteTimeout == nil {
			r.addf(p, "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent")
		}
	}
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func (m *HTTPMatch) check(r *report, p string) {
	oneOf(r, p+".path.type", *m.Path.Type, "Exact", "PathPrefix", "RegularExpression")
	v := *m.Path.Value
	if len(v) > 1024 {
		r.addf(p+".path.value", "is longer than 1024 bytes")
	}
	if *m.Path.Type != "RegularExpression" {
		if !strings.HasPrefix(v, "/") {
			r.addf(p+".path.value", "%q must start with '/'", v)
		}
		for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F", "#"} {
			if strings.Contains(v, bad) {
				r.addf(p+".path.value", "%q must not contain %q", v, bad)
			}
		}
		if strings.HasSuffix(v, "/..") || strings.HasSuffix(v, "/.") {
			r.addf(p+".path.value", "%q must not end with '/..' or '/.'", v)
		}
		if !pathChars.MatchString(v) {
			r.addf(p+".path.value", "%q has characters that a path cannot have", v)
		}
	} else {
		checkRegex(r, p+".path.value", v)
	}
	checkValues(r, p+".headers", m.Headers)
	checkValues(r, p+".queryParams", m.QueryParams)
	if m.Method != nil {
		oneOf(r, p+".method", *m.Method, methods...)
	}
}

var (
	pathChars  = regexp.MustCompile(`^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$`)
	headerName = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$`)
	hostname   = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	grpcName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./]*$`)
	duration   = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`) // GEP-2257
)

func checkRegex(r *report, p, v string) {
	if _, err := regexp.Compile(v); err != nil {
		r.addf(p, "%v", err)
	}
}

func checkValues(r *report, p string, vs []ValueMatch) {
	if len(vs) > maxHeaders {
		r.addf(p, "has %d entries, at most %d are allowed", len(vs), maxHeaders)
	}
	seen := map[string]bool{}
	for i := range vs {
		v := &vs[i]
		q := at(p, i)
		oneOf(r, q+".type", *v.Type, "Exact", "RegularExpression")
		if !headerName.MatchString(v.Name) {
			r.addf(q+".name", "%q is no valid name", v.Name)
		}
		if seen[v.Name] {
			r.addf(q+".name", "%q is listed twice", v.Name) // list map key
		}
		seen[v.Name] = true
		if len(v.Value) == 0 || len(v.Value) > 4096 {
			r.addf(q+".value", "must have 1 to 4096 bytes")
		}
		if *v.Type == "RegularExpression" {
			checkRegex(r, q+".value", v.Value)
		}
	}
}

func oneOf(r *report, p, v string, allowed ...string) {
	for _, a := range allowed {
		if v == a {
			return
		}
	}
	r.addf(p, "%q is none of %s", v, strings.Join(allowed, ", "))
}

func checkName(r *report, p string, name *string) {
	if name != nil && (!objectName.MatchString(*name) || len(*name) > 253) {
		r.addf(p, "%q is no valid name", *name)
	}
}

func checkHostnames(r *report, hs []string) {
	if len(hs) > 16 {
		r.addf("spec.hostnames", "has %d entries, at most 16 are allowed", len(hs))
	}
	for i, h := range hs {
		if !hostname.MatchString(h) || len(h) > 253 {
			r.addf(at("spec.hostnames", i), "%q is no valid hostname", h)
		}
	}
}

func checkParents(r *report, ps []ParentRef) {
	if len(ps) > maxParents {
		r.addf("spec.parentRefs", "has %d entries, at most %d are allowed", len(ps), maxParents)
	}
	seen := map[string]bool{}
	for i := range ps {
		p, q := &ps[i], at("spec.parentRefs", i)
		if p.Name == "" {
			r.addf(q+".name", "required")
		}
		checkPort(r, q+".port", p.Port)
		ns, section, port := "", "", ""
		if p.Namespace != nil {
			ns = *p.Namespace
		}
		if p.SectionName != nil {
			section = *p.SectionName
		}
		if p.Port != nil {
			port = strconv.Itoa(int(*p.Port))
		}
		k := strings.Join([]string{*p.Group, *p.Kind, ns, p.Name, section, port}, "|")
		if seen[k] {
			r.addf(q, "is listed twice")
		}
		seen[k] = true
	}
}

func checkPort(r *report, p string, port *int32) {
	if port != nil && (*port < 1 || *port > 65535) {
		r.addf(p, "%d is not between 1 and 65535", *port)
	}
}

func checkBackends(r *report, p string, bs []BackendRef, allowed []string, prefixOnly bool) {
	if len(bs) > maxBackends {
		r.addf(p, "has %d entries, at most %d are allowed", len(bs), maxBackends)
	}
	for i := range bs {
		b, q := &bs[i], at(p, i)
		b.BackendObject.check(r, q)
		if *b.Weight < 0 || *b.Weight > maxWeight {
			r.addf(q+".weight", "%d is not between 0 and %d", *b.Weight, maxWeight)
		}
		checkFilters(r, q+".filters", b.Filters, allowed, prefixOnly)
	}
}

func (b *BackendObject) check(r *report, p string) {
	if b.Name == "" {
		r.addf(p+".name", "required")
	}
	checkPort(r, p+".port", b.Port)
	if *b.Group == "" && *b.Kind == "Service" && b.Port == nil {
		r.addf(p+".port", "Must have port for Service reference")
	}
}

// checkDuration returns the duration; ok is false when it is wrong.
func checkDuration(r *report, p string, v *string) (d time.Duration, ok bool) {
	if v == nil {
		return 0, true
	}
	if !duration.MatchString(*v) {
		r.addf(p, "%q is no duration such as 500ms or 1h30m, of whole numbers", *v)
		return 0, false
	}
	d, err := time.ParseDuration(*v)
	if err != nil {
		r.addf(p, "%v", err)
	}
	return d, err == nil
}
