package proxy

import (
	"context"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// Verdict is what a stage outside of this package decides. The zero value
// denies with 403: a forgotten path stays closed. Its slices and strings are
// borrowed until Hold is released.
type Verdict struct {
	Allow bool

	// When it denies. Fields are response headers; Details and Flags go into the
	// record.
	Status  int // 0: 403
	Body    string
	Fields  []attrs.Field
	Flags   telemetry.Flags
	Details string
	Policy  string // "namespace/name" that decided, if known
	Reason  string

	// When it allows: edits of the request that later stages and the backend see,
	// made in this order.
	Remove       []string      // headers of which all lines go
	Set          []attrs.Field // headers whose lines these replace
	Add          []attrs.Field // further lines
	Query        string        // the raw query, if QueryChanged
	HasQuery     bool          // there is a query, if QueryChanged
	QueryChanged bool

	Claims     *attrs.Claims // of the verified token; nil: none
	ClearRoute bool          // the route is chosen anew behind the edits
	Response   []Edit        // of the response that the client gets

	// Hold, if not nil, is released when the exchange has ended.
	Hold Releaser
}

// Releaser takes back what a Verdict borrows from.
type Releaser interface{ Release() }

// EditOp is what an [Edit] does to the lines of its name.
type EditOp uint8

const (
	EditSet         EditOp = iota // replace all lines by this one
	EditAdd                       // one more line
	EditAddIfAbsent               // only if there is none
	EditSetIfExists               // replace, only if there is one
)

// Edit changes a response header; Name is lower case.
type Edit struct {
	Op          EditOp
	Name, Value string
}

// applyEdits makes the edits on fs.
func applyEdits(fs []attrs.Field, edits []Edit) []attrs.Field {
	for i := range edits {
		e := &edits[i]
		_, has := findField(fs, e.Name)
		switch {
		case e.Op == EditAddIfAbsent && has, e.Op == EditSetIfExists && !has:
		case e.Op == EditSet, e.Op == EditSetIfExists:
			fs = setField(fs, e.Name, e.Value)
		default:
			fs = append(fs, attrs.Field{Name: e.Name, Value: e.Value})
		}
	}
	return fs
}

// Check is what an external authorizer is told. Everything is borrowed until
// Authorize returns.
type Check struct {
	Provider  string
	Request   *attrs.Request // nil: a connection without HTTP
	Conn      *attrs.Conn
	RequestID string
	Protocol  string // "HTTP/1.1", "HTTP/2"; empty for a connection
	Time      time.Time
	Size      int64  // of the request body, -1 if unknown
	Body      []byte // what NeedsBody asked for
	Partial   bool   // there is more of the body
}

// ExtAuthorizer asks an external authorization service; it is what a
// config.StageCustom runs.
type ExtAuthorizer interface {
	// Knows reports whether the provider can be asked. Nobody passes for one that
	// is unknown.
	Knows(provider string) bool
	// NeedsBody returns how many bytes of the request body a check wants, 0 for
	// none, and whether a longer one is cut rather than answered 413.
	NeedsBody(provider string) (limit int, partial bool)
	// Authorize asks. ctx ends when the client leaves.
	Authorize(ctx context.Context, c *Check) Verdict
}

// TokenVerifier verifies the tokens of a request; it is what a config.StageJWT
// runs, CORS preflights included. It must not do I/O on the request's account
// for longer than its own timeout. The edits of a request that passes hold even
// when it has no token: clients must not write the headers that claims go into.
type TokenVerifier interface {
	Verify(ctx context.Context, r *attrs.Request) Verdict
}

// RateLimiter takes a token for a request; it is what a config.StageRateLimit
// runs. rule is the one that matched.
type RateLimiter interface {
	Limit(ctx context.Context, r *attrs.Request, rule *routing.Rule) Verdict
}
