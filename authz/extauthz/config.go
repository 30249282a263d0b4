package extauthz

import (
	"fmt"
	"strings"
	"time"
)

// Config is one extension provider. Exactly one of GRPC and HTTP is set.
type Config struct {
	Name string
	// Backend is the key of the backend that the provider is, for whoever makes the
	// Dial; empty where a source names it otherwise.
	Backend string
	GRPC    *GRPC
	HTTP    *HTTP

	Timeout       time.Duration // of one check; 0: 600 s (Istio)
	FailOpen      bool          // errors allow
	StatusOnError int           // of a denial for an error; 0: 403
	Body          *Body         // nil: the check has no body
	Breaker       BreakerMode
	// ClearRouteCache: routing happens after the edits of an allowed request.
	ClearRouteCache bool
}

// GRPC calls envoy.service.auth.v3.Authorization.
type GRPC struct {
	Authority string // of the call; empty: the provider's name
	// IncludeHeaders are the request headers in the check; none: all.
	IncludeHeaders []Pattern
	// ContextExtensions go into each check as they are.
	ContextExtensions map[string]string
	IncludeSNI        bool // tls_session
}

// HTTP sends the request's head to a server and reads its answer.
type HTTP struct {
	Authority  string // of the server, for TLS and absolute targets; the check's Host is the request's
	PathPrefix string // before the request's path

	IncludeHeaders    []Pattern // request headers in the check, besides authorization
	AdditionalHeaders []Header  // fixed headers in the check

	UpstreamOnAllow       []Pattern // response headers that replace request headers
	UpstreamAppendOnAllow []Pattern // response headers that join request headers
	DownstreamOnAllow     []Pattern // response headers for the client's response
	DownstreamOnDeny      []Pattern // response headers of a denial; none: all
}

// Body is what a check carries of the request body.
type Body struct {
	MaxBytes int  // a longer body is 413, or cut if AllowPartial
	Partial  bool // allow_partial_message
	AsBytes  bool // gRPC: raw_body instead of body
}

// Header is one header line; Name is lower case.
type Header struct{ Name, Value string }

// PatternKind is how a Pattern compares.
type PatternKind uint8

const (
	Exact PatternKind = iota
	Prefix
	Suffix
	Contains
)

// Pattern selects headers by name, without regard to case.
type Pattern struct {
	Kind  PatternKind
	Value string
}

// ParsePattern reads Istio's forms: name, prefix*, *suffix.
func ParsePattern(s string) Pattern {
	switch {
	case s == "*":
		return Pattern{Kind: Prefix}
	case strings.HasPrefix(s, "*"):
		return Pattern{Suffix, s[1:]}
	case strings.HasSuffix(s, "*"):
		return Pattern{Prefix, s[:len(s)-1]}
	}
	return Pattern{Exact, s}
}

// BreakerMode says whether a breaker stops calls to a server that cannot be
// reached.
type BreakerMode uint8

const (
	BreakerAuto BreakerMode = iota // on, but off with FailOpen: an open breaker would open the door
	BreakerOn
	BreakerOff
)

const defaultTimeout = 600 * time.Second

func (c *Config) check() error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("%s: %s: %s", c.Name, field, fmt.Sprintf(format, args...))
	}
	switch {
	case (c.GRPC == nil) == (c.HTTP == nil):
		return bad("provider", "needs either grpc or http")
	case c.StatusOnError != 0 && (c.StatusOnError < 200 || c.StatusOnError > 599):
		return bad("statusOnError", "%d is not an HTTP status from 200 to 599", c.StatusOnError)
	case c.Body != nil && c.Body.MaxBytes <= 0:
		return bad("includeRequestBodyInCheck.maxRequestBytes", "must be positive")
	case c.Timeout < 0:
		return bad("timeout", "must not be negative")
	case c.HTTP != nil && c.HTTP.PathPrefix != "" && c.HTTP.PathPrefix[0] != '/':
		return bad("pathPrefix", "%q must start with /", c.HTTP.PathPrefix)
	}
	if c.HTTP != nil {
		for _, h := range c.HTTP.AdditionalHeaders {
			if !validName(h.Name) || !validValue(h.Value) {
				return bad("includeAdditionalHeadersInCheck", "%q is not a header", h.Name)
			}
		}
	}
	return nil
}

func lowerPatterns(ps []Pattern) []Pattern {
	out := make([]Pattern, len(ps))
	for i, p := range ps {
		out[i] = Pattern{p.Kind, strings.ToLower(p.Value)}
	}
	return out
}

// matchAny reports whether a pattern, in lower case, selects the lower-case name.
func matchAny(ps []Pattern, name string) bool {
	for _, p := range ps {
		switch p.Kind {
		case Exact:
			if name == p.Value {
				return true
			}
		case Prefix:
			if strings.HasPrefix(name, p.Value) {
				return true
			}
		case Suffix:
			if strings.HasSuffix(name, p.Value) {
				return true
			}
		case Contains:
			if strings.Contains(name, p.Value) {
				return true
			}
		}
	}
	return false
}
