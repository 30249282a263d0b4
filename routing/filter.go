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

// HeaderOps edits headers: remove, then set, then add. Names are lower case; of
// one name twice in a list the first counts. Set of "host" or ":authority" in a
// request writes the authority.
type HeaderOps struct {
	Set, Add []HeaderValue
	Remove   []string
}

// HeaderValue is one header to write.
type HeaderValue struct {
	Name, Value string
	Format      string // Envoy's command operators, in place of Value: see [Values]
}

// String is for what people read: name and value.
func (v HeaderValue) String() string { return "{" + v.Name + " " + v.Value + v.Format + "}" }

// Values writes the values of formats.
type Values interface {
	// HeaderValue returns a value for the exchange at hand, which lives as long as
	// that. Without one the header stays as it is.
	HeaderValue(format string) (value string, ok bool)
}

// value is what v writes; formats need from.
func (v *HeaderValue) value(from Values) (string, bool) {
	switch {
	case v.Format == "":
		return v.Value, true
	case from == nil:
		return "", false
	}
	return from.HeaderValue(v.Format)
}

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
	Port          int    // 0: by the Gateway API rule, or the authority's own
	FullPath      *string
	PrefixReplace *string
	RawPrefix     bool // PrefixReplace replaces the plain string prefix (Envoy prefix_rewrite)
	Status        int  // 301, 302, 303, 307, 308; 0: 302

	// AuthorityPort selects Envoy's rule where Port is 0: a redirected Host stands
	// as it is, the request's authority keeps its own port unless the scheme changes
	// away from the one it is the default of. Port is then always written.
	AuthorityPort bool
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
	Denominator uint32 // 0: every request
	Invalid     string // why it copies nothing; empty when usable
}

// CORS answers preflights and writes response headers.
type CORS struct {
	AllowOrigins     []ValueMatch // Name unused; "*" is ValuePresent; exact "scheme://*.host" is a wildcard
	AllowMethods     []string
	AllowHeaders     []string
	ExposeHeaders    []string
	AllowCredentials bool
	MaxAge           time.Duration // 0: 5 s (Gateway API default); negative: no header; below 1 s: written as 0
	ForwardUnmatched bool          // a preflight of another origin goes to the backend
}
