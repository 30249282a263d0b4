package routing

import (
	"fmt"
	"strconv"
)

// Order says which of several matching candidates wins.
type Order uint8

const (
	// ByPrecedence orders all matches of all rules as [Sort] does (Gateway API).
	ByPrecedence Order = iota
	// AsListed takes rules, and the matches in each, first to last (istiod, VirtualService).
	AsListed
)

// Error is one thing [Compile] found wrong in a rule.
type Error struct {
	Rule    int    // index into the rules compiled
	Route   string // Rule.Route
	Name    string // Rule.Name, or its index in the route
	Field   string // "matches[0].path", "filters.rewrite.regex", ...
	Message string
	Broken  bool // the rule (or for a backend field, that backend's share) answers 500; else the part was left out
}

// Error says route, rule, field and message in one line.
func (e *Error) Error() string {
	route := e.Route
	if route == "" {
		route = "default route"
	}
	return fmt.Sprintf("%s rule %s: %s: %s", route, e.Name, e.Field, e.Message)
}

// Compiled is one rule ready to act. It is immutable and shared by requests.
type Compiled struct {
	Name    string      // as logs say it: "namespace/route/rule"
	Rule    *Rule       // as the source wrote it, with its timeouts, Retry, Fault, Session and Hash
	Broken  string      // when set the rule answers 500; says why
	Request *HeaderOps  // cleaned of repeats; nil: nothing
	Reply   *HeaderOps  // likewise, for the response
	Rewrite *Rewriter   // nil: path and host stay
	CORS    *CORSPolicy // nil: none
	Mirrors []Mirror    // usable ones only; of a forwarded request those of its backend count

	// Redirect and Direct are Rule's, nil in a broken rule.
	Redirect *Redirect
	Direct   *DirectResponse

	// Backends are those of Rule in its order. A backend whose filters are wrong is
	// Invalid here and keeps its share.
	Backends []CompiledBackend

	// BackendCORS is set when a backend has a CORS policy of its own: the backend has
	// to be picked before a preflight is answered.
	BackendCORS bool

	// bounds[i] is the sum of the weights of Backends[0..i].
	bounds []uint64
}

// Table is the compiled routes of one destination. The nil Table matches nothing.
type Table struct {
	order      Order
	rules      []*Compiled
	candidates []candidate // in order of precedence: of those that match the first wins
	index      index
}

// Compile builds the table of rules. It never fails as a whole: a rule with an error
// is Broken and answers 500 to whatever its matches may have meant, a condition that
// cannot be compiled counting as one that holds, so that its requests never fall
// through to a looser rule.
//
// The table refers to rules and what they point to; the caller must not change them.
func Compile(rules []Rule, o Order) (*Table, []*Error) {
	t := &Table{order: o, rules: make([]*Compiled, len(rules))}
	var errs []*Error
	for i := range rules {
		c := &compiler{rule: &rules[i], at: i}
		t.rules[i] = c.compile()
		errs = append(errs, c.errs...)
	}
	var order []Candidate
	if o == ByPrecedence {
		order = Sort(rules)
	} else {
		order = listed(rules)
	}
	t.candidates = make([]candidate, 0, len(order))
	for _, k := range order {
		c := &compiler{rule: &rules[k.Rule], at: k.Rule, unique: o == ByPrecedence}
		cand := c.candidate(k.Match)
		cand.rule = t.rules[k.Rule]
		errs = append(errs, c.errs...)
		if c.broken != "" && cand.rule.Broken == "" {
			cand.rule.fail(c.broken)
		}
		t.candidates = append(t.candidates, cand)
	}
	t.index = buildIndex(t.candidates)
	return t, errs
}

// Rules returns the compiled rules in the order they were given. Read only.
func (t *Table) Rules() []*Compiled {
	if t == nil {
		return nil
	}
	return t.rules
}

// Order returns how the table was ordered.
func (t *Table) Order() Order {
	if t == nil {
		return ByPrecedence
	}
	return t.order
}

// Label names the rule for people: its name, else its index in the route.
func (c *Compiled) Label() string { return c.Rule.label() }

func (r *Rule) label() string {
	if r.Name != "" {
		return r.Name
	}
	return strconv.Itoa(r.Index)
}

// fullName is the route's name, and the rule's within a Gateway API route: routes
// from elsewhere name each of their rules themselves.
func (r *Rule) fullName() string {
	if r.Kind == "HTTPRoute" || r.Kind == "GRPCRoute" {
		return r.Route + "/" + r.label()
	}
	return r.Route
}

// fail turns the rule into one that answers 500.
func (c *Compiled) fail(why string) { *c = Compiled{Rule: c.Rule, Name: c.Name, Broken: why} }

// compiler collects the errors of one rule.
type compiler struct {
	rule   *Rule
	at     int
	unique bool // of conditions of one name in a match the first counts (Gateway API)
	errs   []*Error

	backend *CompiledBackend // whose filters are being compiled, else nil
	broken  string           // the first error that breaks the rule
}

// errorf notes an error. One that breaks makes the backend being compiled invalid,
// else the rule broken.
func (c *compiler) errorf(breaks bool, field, format string, args ...any) {
	e := &Error{
		Rule: c.at, Route: c.rule.Route, Name: c.rule.label(),
		Field: field, Message: fmt.Sprintf(format, args...), Broken: breaks,
	}
	c.errs = append(c.errs, e)
	why := e.Field + ": " + e.Message
	switch {
	case !breaks:
	case c.backend == nil && c.broken == "":
		c.broken = why
	case c.backend != nil && c.backend.Invalid == "":
		c.backend.Invalid, c.backend.Status = why, 500 // Gateway API: an invalid backend keeps its share as 500
	}
}
