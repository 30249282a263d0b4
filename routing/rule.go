package routing

import "time"

// Rule is one rule of one route, as sources write it. The order of rules and of
// their matches is decided by the source: Sort for Gateway API precedence,
// untouched for routes that arrive already ordered (istiod).
type Rule struct {
	Route   string // "namespace/name" of the route object; empty for the default rule
	Kind    string // HTTPRoute, GRPCRoute, VirtualService
	Name    string // rule name, else empty
	Index   int    // position in its route
	Created int64  // route creation, Unix seconds (precedence)

	Matches []Match // ORed; empty matches everything
	Filters Filters

	// Exactly one of the following acts.
	Backends []Backend       // forward by weight
	Redirect *Redirect       // answer with Location
	Direct   *DirectResponse // answer with a fixed status and body

	Timeout     time.Duration // whole exchange; 0: none
	TryTimeout  time.Duration // one attempt; 0: none
	IdleTimeout time.Duration // 0: none
	MaxDuration time.Duration // whole exchange since its head arrived, uploads and upgrades included; 0: none

	// Retry is an index into the retry policies beside the table, -1 for the
	// default policy; routing itself does not read it.
	Retry int

	// Broken, when set, makes the rule answer 500 for its own matches and says why.
	Broken string

	// Fault and Session are likewise opaque indexes, -1 for none.
	Fault, Session, Hash int
}

// Backend is one weighted target of a rule.
type Backend struct {
	Ref      int // index into the backends beside the table; -1 when Invalid
	Weight   uint32
	Filters  Filters   // of its share alone; CompiledBackend says how they meet the rule's
	Redirect *Redirect // answers its share in the backend's place; nil: forwarded
	Invalid  string    // why it answers 500 (missing, bad kind, ...); empty when usable
	Status   int       // status of an invalid backend: 500, or 503 for Envoy's unknown cluster
}

// Match is one candidate: all set parts must hold.
type Match struct {
	Path              PathMatch
	Method            string // exact token; empty matches any
	Headers           []ValueMatch
	Query             []ValueMatch
	Claims            []ClaimMatch
	Authority, Scheme *ValueMatch
}

// PathKind says how a path is compared.
type PathKind uint8

const (
	PathAny       PathKind = iota // every path, "*" too
	PathExact                     // byte-exact
	PathPrefix                    // by whole segments (Gateway API)
	PathRawPrefix                 // plain string prefix (VirtualService)
	PathRegex                     // RE2, whole path
	PathTemplate                  // Envoy URI template, already in {*} {**} form
)

// PathMatch is a condition on the normalized path. IgnoreCase folds ASCII and has
// no effect on regular expressions and templates (Envoy case_sensitive).
type PathMatch struct {
	Kind       PathKind
	Value      string
	IgnoreCase bool
}

// ValueKind says how a header or query value is compared.
type ValueKind uint8

const (
	ValueExact ValueKind = iota
	ValuePrefix
	ValueSuffix
	ValueContains
	ValueRegex // whole value
	ValuePresent
)

// ValueMatch is a condition on a header (Name lower case) or query parameter.
//
// A header sent as several lines holds if one line does, inverted if none does
// (Envoy since 1.39; lines are not joined). The names "host", ":authority",
// ":method" and ":scheme" read those parts of the head. A query parameter is compared
// raw, by its first occurrence. A missing value fails a positive condition; under Invert it compares as empty, which is how istiod sends
// withoutHeaders (treat_missing_header_as_empty). Inverted ValuePresent holds if the
// value is missing.
type ValueMatch struct {
	Name, Value string
	Kind        ValueKind
	Invert      bool
	IgnoreCase  bool
}

// ClaimMatch is a condition on a verified token's claim.
type ClaimMatch struct {
	Path  []string
	Value ValueMatch
}
