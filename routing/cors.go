package routing

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// CORSPolicy is a compiled [CORS]. A nil policy makes every request CORSNone.
type CORSPolicy struct {
	origins                       []origin
	methods, headers, expose, age string // joined; empty: not written
	anyMethod, anyHeader          bool   // "*" with credentials: the asked-for is echoed
	credentials, forwardUnmatched bool
}

// origin is one allowed origin: a comparison, or scheme and host suffix of a wildcard.
type origin struct {
	text         text
	wildcard     bool
	before, rest string
}

// CORSKind is what a request is to a CORS policy.
type CORSKind uint8

const (
	CORSNone      CORSKind = iota // no origin, or not allowed: forwarded, response untouched
	CORSActual                    // allowed: forwarded, then ApplyResponse
	CORSPreflight                 // allowed preflight: answered 200 with AppendPreflight
	CORSRefused                   // preflight of another origin: answered 200 without CORS headers
)

// CORSStatus is the status of a preflight's answer (Envoy's).
const CORSStatus = 200

// defaultMaxAge is the Gateway API's default, and what browsers assume (Fetch standard).
const defaultMaxAge = 5 * time.Second

// NewCORSPolicy compiles a policy.
func NewCORSPolicy(c *CORS) (*CORSPolicy, error) {
	p := &CORSPolicy{credentials: c.AllowCredentials, forwardUnmatched: c.ForwardUnmatched}
	for i := range c.AllowOrigins {
		o, err := newOrigin(&c.AllowOrigins[i])
		if err != nil {
			return nil, fmt.Errorf("allowOrigins[%d]: %w", i, err)
		}
		p.origins = append(p.origins, o)
	}
	for _, list := range [][]string{c.AllowMethods, c.AllowHeaders, c.ExposeHeaders} {
		for _, s := range list {
			if !validToken(s) {
				return nil, fmt.Errorf("%q is no token", s)
			}
		}
	}
	p.methods, p.anyMethod = joinTokens(c.AllowMethods, c.AllowCredentials)
	p.headers, p.anyHeader = joinTokens(c.AllowHeaders, c.AllowCredentials)
	p.expose, _ = joinTokens(c.ExposeHeaders, false)
	age := c.MaxAge
	if age == 0 {
		age = defaultMaxAge
	}
	if age > 0 {
		p.age = strconv.FormatInt(int64(age/time.Second), 10)
	}
	return p, nil
}

// joinTokens joins a list; with credentials "*" is no wildcard to a browser (Fetch
// standard), so the answer has to name what was asked for.
func joinTokens(list []string, credentials bool) (joined string, echo bool) {
	for _, s := range list {
		if s == "*" && credentials {
			return "", true
		}
	}
	return strings.Join(list, ","), false
}

func newOrigin(m *ValueMatch) (origin, error) {
	if m.Invert {
		return origin{}, errors.New("an origin cannot be inverted")
	}
	if m.Kind == ValueExact && m.Value == "*" {
		return origin{}, nil
	}
	if m.Kind == ValueExact && strings.Contains(m.Value, "*") {
		scheme, rest, ok := strings.Cut(m.Value, "://*")
		if !ok || !validScheme(scheme) || strings.Contains(rest, "*") {
			return origin{}, fmt.Errorf("%q is neither an origin nor scheme://*.host", m.Value)
		}
		return origin{wildcard: true, before: scheme + "://", rest: rest}, nil
	}
	t, err := compileText(m)
	return origin{text: t}, err
}

func (o *origin) match(s string) bool {
	if !o.wildcard {
		return o.text.match(s)
	}
	if len(s) <= len(o.before)+len(o.rest) || !hasPrefix(s, o.before, true) || !hasSuffix(s, o.rest, true) {
		return false
	}
	// The star stands for host labels: never for a port, a path or user information.
	for _, c := range []byte(s[len(o.before) : len(s)-len(o.rest)]) {
		l := lower(c)
		if !('a' <= l && l <= 'z' || '0' <= l && l <= '9' || l == '-' || l == '.' || l == '_') {
			return false
		}
	}
	return true
}

// Check says what r is to the policy. It does not allocate.
func (p *CORSPolicy) Check(r *attrs.Request) CORSKind {
	if p == nil {
		return CORSNone
	}
	from, ok := r.Header("origin")
	if !ok || from == "" {
		return CORSNone
	}
	allowed := false
	for i := range p.origins {
		if p.origins[i].match(from) {
			allowed = true
			break
		}
	}
	preflight := false
	if r.Method == "OPTIONS" {
		asked, _ := r.Header("access-control-request-method")
		preflight = asked != ""
	}
	switch {
	case allowed && preflight:
		return CORSPreflight
	case allowed:
		return CORSActual
	case preflight && !p.forwardUnmatched:
		return CORSRefused
	}
	return CORSNone
}

// AppendPreflight appends the headers of the answer to a CORSPreflight. The origin is
// always echoed, never "*" (Envoy). Values may borrow from r.
func (p *CORSPolicy) AppendPreflight(h []attrs.Field, r *attrs.Request) []attrs.Field {
	from, _ := r.Header("origin")
	h = append(h, attrs.Field{Name: "access-control-allow-origin", Value: from})
	if p.credentials {
		h = append(h, attrs.Field{Name: "access-control-allow-credentials", Value: "true"})
	}
	methods, headers := p.methods, p.headers
	if p.anyMethod {
		methods, _ = r.Header("access-control-request-method")
	}
	if p.anyHeader {
		headers, _ = r.Header("access-control-request-headers")
	}
	if methods != "" {
		h = append(h, attrs.Field{Name: "access-control-allow-methods", Value: methods})
	}
	if headers != "" {
		h = append(h, attrs.Field{Name: "access-control-allow-headers", Value: headers})
	}
	if p.age != "" {
		h = append(h, attrs.Field{Name: "access-control-max-age", Value: p.age})
	}
	return h
}

// ApplyResponse writes the headers of the response to a CORSActual over whatever the
// backend sent. Values may borrow from r.
func (p *CORSPolicy) ApplyResponse(h []attrs.Field, r *attrs.Request) []attrs.Field {
	from, _ := r.Header("origin")
	h = setField(h, "access-control-allow-origin", from)
	// A backend's "true" beside our echoed origin would grant what the policy does not.
	if p.credentials {
		h = setField(h, "access-control-allow-credentials", "true")
	} else {
		h = removeField(h, "access-control-allow-credentials")
	}
	if p.expose != "" {
		h = setField(h, "access-control-expose-headers", p.expose)
	}
	return h
}
