package kube

import (
	"net/url"
	"strings"
)

var (
	httpFilters = []string{"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "ExtensionRef", "CORS", "ExternalAuth"}
	grpcFilters = []string{"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"}
)

func checkFilters(r *report, p string, fs []Filter, allowed []string, prefixOnly bool) {
	if len(fs) > maxFilters {
		r.addf(p, "has %d entries, at most %d are allowed", len(fs), maxFilters)
	}
	count := map[string]int{}
	for i := range fs {
		f, q := &fs[i], at(p, i)
		oneOf(r, q+".type", f.Type, allowed...)
		count[f.Type]++
		f.checkUnion(r, q)
		f.RequestHeaderModifier.check(r, q+".requestHeaderModifier")
		f.ResponseHeaderModifier.check(r, q+".responseHeaderModifier")
		if m := f.RequestMirror; m != nil {
			m.check(r, q+".requestMirror")
		}
		if d := f.RequestRedirect; d != nil {
			d.check(r, q+".requestRedirect", prefixOnly)
		}
		if w := f.URLRewrite; w != nil {
			if w.Hostname != nil && (!hostname.MatchString(*w.Hostname) || strings.HasPrefix(*w.Hostname, "*")) {
				r.addf(q+".urlRewrite.hostname", "%q is no valid hostname", *w.Hostname)
			}
			w.Path.check(r, q+".urlRewrite.path", prefixOnly)
		}
		if c := f.CORS; c != nil {
			c.check(r, q+".cors")
		}
	}
	for _, once := range []string{"RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "CORS"} {
		if count[once] > 1 {
			r.addf(p, "%s filter cannot be repeated", once)
		}
	}
	if count["RequestRedirect"] > 0 && count["URLRewrite"] > 0 {
		r.addf(p, "may specify either RequestRedirect or URLRewrite, but not both")
	}
}

// checkUnion holds the filter to its one member.
func (f *Filter) checkUnion(r *report, p string) {
	for _, m := range []struct {
		typ, field string
		set        bool
	}{
		{"RequestHeaderModifier", "requestHeaderModifier", f.RequestHeaderModifier != nil},
		{"ResponseHeaderModifier", "responseHeaderModifier", f.ResponseHeaderModifier != nil},
		{"RequestMirror", "requestMirror", f.RequestMirror != nil},
		{"RequestRedirect", "requestRedirect", f.RequestRedirect != nil},
		{"URLRewrite", "urlRewrite", f.URLRewrite != nil},
		{"CORS", "cors", f.CORS != nil},
		{"ExternalAuth", "externalAuth", f.ExternalAuth != nil},
		{"ExtensionRef", "extensionRef", f.ExtensionRef != nil},
	} {
		switch {
		case m.typ == f.Type && !m.set:
			r.addf(p+"."+m.field, "must be specified for %s filter.type", m.typ)
		case m.typ != f.Type && m.set:
			r.addf(p+"."+m.field, "must be nil if the filter.type is not %s", m.typ)
		}
	}
}

func (h *HeaderFilter) check(r *report, p string) {
	if h == nil {
		return
	}
	for _, l := range []struct {
		name string
		vs   []HeaderValue
	}{{"set", h.Set}, {"add", h.Add}} {
		seen := map[string]bool{}
		if len(l.vs) > maxHeaders {
			r.addf(p+"."+l.name, "has %d entries, at most %d are allowed", len(l.vs), maxHeaders)
		}
		for i, v := range l.vs {
			q := at(p+"."+l.name, i)
			if !headerName.MatchString(v.Name) {
				r.addf(q+".name", "%q is no valid header name", v.Name)
			}
			if seen[v.Name] {
				r.addf(q+".name", "%q is listed twice", v.Name)
			}
			seen[v.Name] = true
			if len(v.Value) == 0 || len(v.Value) > 4096 {
				r.addf(q+".value", "must have 1 to 4096 bytes")
			}
			if strings.ContainsAny(v.Value, "\r\n\x00") {
				r.addf(q+".value", "has characters that a header value cannot have")
			}
		}
	}
	if len(h.Remove) > maxHeaders {
		r.addf(p+".remove", "has %d entries, at most %d are allowed", len(h.Remove), maxHeaders)
	}
	for i, n := range h.Remove {
		if !headerName.MatchString(n) {
			r.addf(at(p+".remove", i), "%q is no valid header name", n)
		}
	}
}

func (m *MirrorFilter) check(r *report, p string) {
	m.BackendRef.check(r, p+".backendRef")
	if m.Percent != nil && m.Fraction != nil {
		r.addf(p, "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter")
	}
	if m.Percent != nil && (*m.Percent < 0 || *m.Percent > 100) {
		r.addf(p+".percent", "%d is not between 0 and 100", *m.Percent)
	}
	if f := m.Fraction; f != nil && (f.Numerator < 0 || *f.Denominator < 1 || f.Numerator > *f.Denominator) {
		r.addf(p+".fraction", "%d/%d is not between 0 and 1", f.Numerator, *f.Denominator)
	}
}

func (d *RedirectFilter) check(r *report, p string, prefixOnly bool) {
	if d.Scheme != nil {
		oneOf(r, p+".scheme", *d.Scheme, "http", "https")
	}
	if d.Hostname != nil && (!hostname.MatchString(*d.Hostname) || strings.HasPrefix(*d.Hostname, "*")) {
		r.addf(p+".hostname", "%q is no valid hostname", *d.Hostname)
	}
	checkPort(r, p+".port", d.Port)
	switch *d.StatusCode {
	case 301, 302, 303, 307, 308:
	default:
		r.addf(p+".statusCode", "%d is none of 301, 302, 303, 307, 308", *d.StatusCode)
	}
	d.Path.check(r, p+".path", prefixOnly)
}

func (m *PathModifier) check(r *report, p string, prefixOnly bool) {
	if m == nil {
		return
	}
	oneOf(r, p+".type", m.Type, "ReplaceFullPath", "ReplacePrefixMatch")
	if (m.Type == "ReplaceFullPath") != (m.ReplaceFullPath != nil) {
		r.addf(p+".replaceFullPath", "must be set if and only if type is ReplaceFullPath")
	}
	if (m.Type == "ReplacePrefixMatch") != (m.ReplacePrefixMatch != nil) {
		r.addf(p+".replacePrefixMatch", "must be set if and only if type is ReplacePrefixMatch")
	}
	if m.Type == "ReplacePrefixMatch" && !prefixOnly {
		r.addf(p, "using replacePrefixMatch requires exactly one match, of type PathPrefix")
	}
	for _, v := range []*string{m.ReplaceFullPath, m.ReplacePrefixMatch} {
		if v != nil && (len(*v) > 1024 || strings.ContainsAny(*v, "\r\n\x00 ")) {
			r.addf(p, "the replacement is no path of at most 1024 bytes")
		}
	}
}

func (c *CORSFilter) check(r *report, p string) {
	if len(c.AllowOrigins) > 64 || len(c.AllowHeaders) > 64 || len(c.ExposeHeaders) > 64 || len(c.AllowMethods) > 9 {
		r.addf(p, "at most 64 origins and headers and 9 methods are allowed")
	}
	for i, o := range c.AllowOrigins {
		if o == "*" {
			if len(c.AllowOrigins) > 1 {
				r.addf(p+".allowOrigins", "AllowOrigins cannot contain '*' alongside other origins")
			}
			continue
		}
		u, err := url.Parse(strings.Replace(o, "//*.", "//", 1))
		if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" {
			r.addf(at(p+".allowOrigins", i), "%q is no origin such as https://example.com", o)
		}
	}
	for i, m := range c.AllowMethods {
		oneOf(r, at(p+".allowMethods", i), m, append([]string{"*"}, methods...)...)
		if m == "*" && len(c.AllowMethods) > 1 {
			r.addf(p+".allowMethods", "AllowMethods cannot contain '*' alongside other methods")
		}
	}
	for _, l := range []struct {
		name string
		vs   []string
	}{{"allowHeaders", c.AllowHeaders}, {"exposeHeaders", c.ExposeHeaders}} {
		for i, h := range l.vs {
			if !headerName.MatchString(h) {
				r.addf(at(p+"."+l.name, i), "%q is no valid header name", h)
			}
		}
	}
	if *c.MaxAge < 1 {
		r.addf(p+".maxAge", "must be at least 1")
	}
}
