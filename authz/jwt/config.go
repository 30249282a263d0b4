package jwt

import (
	"fmt"
	"strings"
	"time"
)

// Config is the JWT stage of one destination.
type Config struct {
	Providers []Provider
	// Require says what a request needs; nil: nothing, tokens are not even read.
	// RequestAuthentication uses [OptionalAny].
	Require *Requirement
	// BypassCORSPreflight lets preflights pass unread.
	BypassCORSPreflight bool
}

// Provider is one rule: an issuer, its keys and where its tokens are.
type Provider struct {
	Name      string   // unique in its Config
	Issuer    string   // exact iss; empty: any
	Audiences []string // one must be listed in aud; empty: any

	// JWKS holds the keys themselves; else JWKSURI names them; with neither they
	// are found by OpenID Connect discovery at the issuer.
	JWKS    string
	JWKSURI string
	Timeout time.Duration // of one fetch; 0: 5 s (Istio)
	Refresh time.Duration // between fetches; 0: 5 min (Envoy's cache_duration as Istio sets it)

	// Where tokens are. If all are empty: "Authorization: Bearer", then the query
	// parameter access_token.
	FromHeaders []HeaderLocation
	FromParams  []string
	FromCookies []string

	Forward       bool          // keep the token in the request
	PayloadHeader string        // set to the token's payload part, base64url
	ClaimHeaders  []ClaimHeader // set to single claims
	ClockSkew     time.Duration // 0: 60 s (Envoy); negative: none
}

// HeaderLocation is a header whose value holds a token behind Prefix.
type HeaderLocation struct{ Name, Prefix string }

// ClaimHeader copies a claim, a list or an object as base64 of its JSON; dots in
// Claim nest.
type ClaimHeader struct{ Header, Claim string }

// RequirementKind is a node of a Requirement.
type RequirementKind uint8

const (
	RequireProvider      RequirementKind = iota // a valid token for Provider
	RequireAny                                  // one of Of holds
	RequireAll                                  // each of Of holds
	AllowMissing                                // no token is fine, an invalid one is not
	AllowMissingOrFailed                        // tokens are read, and never refused
)

// Requirement is a tree, as Envoy's JwtRequirement.
type Requirement struct {
	Kind     RequirementKind
	Provider string   // RequireProvider
	Audience []string // RequireProvider: replaces the provider's audiences if set
	Of       []*Requirement
}

// OptionalAny is what Istio asks for with the providers of RequestAuthentication:
// a token must be valid for one of them, and may be missing from all.
func OptionalAny(providers ...string) *Requirement {
	missing := &Requirement{Kind: AllowMissing}
	either := &Requirement{Kind: RequireAny}
	all := &Requirement{Kind: RequireAll}
	for _, p := range providers {
		r := &Requirement{Kind: RequireProvider, Provider: p}
		either.Of = append(either.Of, r)
		all.Of = append(all.Of, &Requirement{Kind: RequireAny, Of: []*Requirement{r, missing}})
	}
	switch len(providers) {
	case 0:
		return nil
	case 1:
		return all.Of[0]
	}
	either.Of = append(either.Of, all)
	return either
}

const (
	defaultTimeout = 5 * time.Second
	defaultRefresh = 5 * time.Minute
	defaultSkew    = 60 * time.Second
)

// FieldError is a part of a Config that cannot be used.
type FieldError struct {
	Field string // "providers[0].jwks"
	Msg   string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Msg }

func (p *Provider) check(i int) error {
	bad := func(field, format string, args ...any) error {
		return &FieldError{fmt.Sprintf("providers[%d].%s", i, field), fmt.Sprintf(format, args...)}
	}
	switch {
	case p.Name == "":
		return bad("name", "must not be empty")
	case p.JWKS != "" && p.JWKSURI != "":
		return bad("jwks", "cannot be used together with jwksUri")
	case p.Issuer == "" && p.JWKSURI == "" && p.JWKS == "":
		return bad("issuer", "must not be empty without jwksUri")
	case p.JWKSURI != "" && !httpURL(p.JWKSURI):
		return bad("jwksUri", "%q is not an http or https URL", p.JWKSURI)
	case p.JWKS == "" && p.JWKSURI == "" && !httpURL(p.Issuer):
		return bad("issuer", "%q is not a URL, so its keys cannot be discovered; set jwks or jwksUri", p.Issuer)
	}
	for j, h := range p.FromHeaders {
		if !token(h.Name) {
			return bad(fmt.Sprintf("fromHeaders[%d].name", j), "%q is not a header name", h.Name)
		}
	}
	for j, n := range p.FromParams {
		if n == "" {
			return bad(fmt.Sprintf("fromParams[%d]", j), "must not be empty")
		}
	}
	for j, n := range p.FromCookies {
		if n == "" {
			return bad(fmt.Sprintf("fromCookies[%d]", j), "must not be empty")
		}
	}
	if p.PayloadHeader != "" && !token(p.PayloadHeader) {
		return bad("outputPayloadToHeader", "%q is not a header name", p.PayloadHeader)
	}
	for j, h := range p.ClaimHeaders {
		switch {
		case !token(h.Header):
			return bad(fmt.Sprintf("outputClaimToHeaders[%d].header", j), "%q is not a header name", h.Header)
		case h.Claim == "":
			return bad(fmt.Sprintf("outputClaimToHeaders[%d].claim", j), "must not be empty")
		}
	}
	return nil
}

func httpURL(s string) bool {
	for _, scheme := range []string{"https://", "http://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok && rest != "" && rest[0] != '/' {
			return true
		}
	}
	return false
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
