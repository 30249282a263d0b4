package routing

import "time"

// Filters act on a request that matched. Zero value: nothing.
type Filters struct {
	Request  *HeaderOps
	Response *HeaderOps
	Rewrite  *Rewrite
	Mirrors  []Mirror
	CORS     *CORS
}

// HeaderOps edits headers: remove, then set, then add. Names are lower case.
type HeaderOps struct {
	Set, Add []HeaderValue
	Remove   []string
}

// HeaderValue is one header to write.
type HeaderValue struct{ Name, Value string }

// Rewrite changes host and path before forwarding.
type Rewrite struct {
	Host          string  // empty: unchanged
	FullPath      *string // keeps the query
	PrefixReplace *string // Gateway API ReplacePrefixMatch: needs the matched prefix
	RawPrefix     bool    // PrefixReplace replaces the plain string prefix (VirtualService)
	Regex         string  // RE2 substitution with \1 groups
	RegexReplace  string
}

// Redirect answers with a Location.
type Redirect struct {
	Scheme, Host  string // empty: the request's
	Port          int    // 0: by the Gateway API rule
	FullPath      *string
	PrefixReplace *string
	RawPrefix     bool
	Status        int // 301, 302, 303, 307, 308
}

// DirectResponse answers without a backend.
type DirectResponse struct {
	Status int
	Body   string
}

// Mirror copies requests to another backend.
type Mirror struct {
	Ref         int    // index into the backends beside the table
	Numerator   uint32 // share Numerator/Denominator of requests
	Denominator uint32
	Invalid     string
}

// CORS answers preflights and writes response headers.
type CORS struct {
	AllowOrigins     []ValueMatch // Name unused; "*" is ValuePresent
	AllowMethods     []string
	AllowHeaders     []string
	ExposeHeaders    []string
	AllowCredentials bool
	MaxAge           time.Duration
	ForwardUnmatched bool // a preflight of another origin goes to the backend
}
