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
	Mirrors []Mirror    // usable ones only

	// Redirect and Direct are Rule's, nil in a broken rule.
	Redirect *Redirect
	Direct   *DirectResponse

	// Backends are those of Rule in its order, with filters cleaned. A backend whose
	// filters are wrong is Invalid here and keeps its share.
	Backends []Backend

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
		for _, e := range c.errs {
			errs = append(errs, e)
		}
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

	backend *Backend // whose filters are being compiled, else nil
	broken  string   // the first error that breaks the rule
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
		c.backend.Invalid, c.backend.Status = why, 500
	}
}

// compile builds everything of a rule but its matches.
func (c *compiler) compile() *Compiled {
	r := c.rule
	out := &Compiled{Rule: r, Name: r.fullName()}
	out.Request = c.headerOps("filters.request", r.Filters.Request, true)
	out.Reply = c.headerOps("filters.response", r.Filters.Response, false)
	if r.Filters.Rewrite != nil {
		w, err := NewRewriter(r.Filters.Rewrite)
		if err != nil {
			c.errorf(true, "filters.rewrite", "%v", err)
		}
		out.Rewrite = w
	}
	if r.Filters.CORS != nil {
		p, err := NewCORSPolicy(r.Filters.CORS)
		if err != nil {
			c.errorf(true, "filters.cors", "%v", err)
		}
		out.CORS = p
	}
	for i := range r.Filters.Mirrors {
		m := r.Filters.Mirrors[i]
		if m.Denominator != 0 && m.Numerator > m.Denominator {
			c.errorf(false, fmt.Sprintf("filters.mirrors[%d]", i), "share %d/%d is above one, mirrors every request", m.Numerator, m.Denominator)
			m.Numerator = m.Denominator
		}
		if m.Invalid == "" {
			out.Mirrors = append(out.Mirrors, m)
		}
	}
	c.action(out)
	if r.Broken != "" {
		c.broken = r.Broken
	}
	if c.broken != "" {
		out.fail(c.broken)
	}
	return out
}

// action checks and builds the one thing the rule does.
func (c *compiler) action(out *Compiled) {
	r := c.rule
	if n := b2i(r.Redirect != nil) + b2i(r.Direct != nil) + b2i(len(r.Backends) > 0); n > 1 {
		c.errorf(true, "backends", "more than one of backends, redirect and direct response")
		return
	}
	if r.Redirect != nil {
		if err := r.Redirect.check(); err != nil {
			c.errorf(true, "redirect", "%v", err)
		}
		out.Redirect = r.Redirect
	}
	if r.Direct != nil {
		if r.Direct.Status < 200 || r.Direct.Status > 599 {
			c.errorf(true, "direct.status", "%d is not a final status", r.Direct.Status)
		}
		out.Direct = r.Direct
	}
	out.Backends = append([]Backend(nil), r.Backends...)
	out.bounds = make([]uint64, len(out.Backends))
	var sum uint64
	for i := range out.Backends {
		b := &out.Backends[i]
		c.backendFilters(i, b)
		sum += uint64(b.Weight)
		out.bounds[i] = sum
	}
}

// backendFilters cleans the filters of one backend; what a backend cannot do makes it
// invalid, and its share answers 500.
func (c *compiler) backendFilters(i int, b *Backend) {
	field := fmt.Sprintf("backends[%d].filters", i)
	f := b.Filters
	c.backend = b
	b.Filters = Filters{
		Request:  c.headerOps(field+".request", f.Request, true),
		Response: c.headerOps(field+".response", f.Response, false),
	}
	if f.Rewrite != nil || f.CORS != nil || len(f.Mirrors) > 0 {
		c.errorf(true, field, "a backend has only header filters")
	}
	c.backend = nil
	if b.Invalid != "" && b.Status == 0 {
		b.Status = 500 // Gateway API: an invalid backend's share answers 500
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
