package routing

import (
	"fmt"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// candidate is one compiled match of one rule.
type candidate struct {
	rule    *Compiled
	match   int    // index into the rule's Matches, -1 for a rule without
	spec    *Match // nil for a rule without matches
	path    path
	method  string
	headers []value
	query   []value
	claims  []claim
	author  *value
	scheme  *value
}

// pathOp is how a path is compared after reduction.
type pathOp uint8

const (
	pathAny pathOp = iota
	pathExact
	pathSegments // value without trailing slash, then the end or '/'
	pathText     // raw prefix, or anything a text compares
)

// path is a compiled PathMatch.
type path struct {
	op    pathOp
	fold  bool
	whole bool   // the whole path counts as matched (regular expressions, templates: Envoy)
	key   string // text every match starts with; all of it for pathExact
	text  text   // pathText
}

// match returns the length of the matched prefix.
func (p *path) match(s string) (n int, ok bool) {
	switch p.op {
	case pathAny:
		return 0, true
	case pathExact:
		return len(s), equal(s, p.key, p.fold)
	case pathSegments:
		n = len(p.key)
		return n, hasPrefix(s, p.key, p.fold) && (len(s) == n || s[n] == '/')
	}
	if !p.text.match(s) {
		return 0, false
	}
	if p.whole {
		return len(s), true
	}
	return len(p.key), true
}

// candidate compiles one match. What is wrong is reported and counts as holding.
func (c *compiler) candidate(i int) candidate {
	out := candidate{match: i}
	if i < 0 {
		return out
	}
	m := &c.rule.Matches[i]
	field := fmt.Sprintf("matches[%d]", i)
	out.spec = m
	out.method = m.Method
	out.path = c.path(field+".path", m.Path)
	for j := range m.Headers {
		if c.unique && repeated(m.Headers, j, true) {
			continue
		}
		out.headers = append(out.headers, c.value(fmt.Sprintf("%s.headers[%d]", field, j), &m.Headers[j], true))
	}
	for j := range m.Query {
		if c.unique && repeated(m.Query, j, false) {
			continue
		}
		before := len(c.errs)
		v := c.value(fmt.Sprintf("%s.query[%d]", field, j), &m.Query[j], false)
		if len(c.errs) == before {
			out.query = append(out.query, v)
		}
	}
	for j := range m.Claims {
		before := len(c.errs)
		v := c.value(fmt.Sprintf("%s.claims[%d]", field, j), &m.Claims[j].Value, false)
		if len(m.Claims[j].Path) == 0 {
			c.errorf(true, fmt.Sprintf("%s.claims[%d]", field, j), "claim without a path")
		}
		if len(c.errs) == before {
			out.claims = append(out.claims, claim{path: m.Claims[j].Path, value: v})
		}
	}
	out.author = c.special(field+".authority", m.Authority, partAuthority)
	out.scheme = c.special(field+".scheme", m.Scheme, partScheme)
	return out
}

func (c *compiler) special(field string, m *ValueMatch, p part) *value {
	if m == nil {
		return nil
	}
	named := *m
	named.Name = "host" // any name of a part: what is compared follows from p
	before := len(c.errs)
	v := c.value(field, &named, true)
	if len(c.errs) > before {
		return nil
	}
	v.part = p
	return &v
}

func (c *compiler) path(field string, m PathMatch) path {
	switch m.Kind {
	case PathAny:
		return path{}
	case PathExact:
		return path{op: pathExact, key: m.Value, fold: m.IgnoreCase}
	case PathPrefix:
		return path{op: pathSegments, key: strings.TrimSuffix(m.Value, "/"), fold: m.IgnoreCase}
	case PathRawPrefix:
		return path{op: pathText, key: m.Value, fold: m.IgnoreCase,
			text: text{op: opPrefix, lit: m.Value, fold: m.IgnoreCase, source: m.Value}}
	case PathRegex:
		t, prefix, err := fullRegex(m.Value)
		if err != nil {
			c.errorf(true, field, "%v", err)
			return path{}
		}
		if t.op == opExact {
			return path{op: pathExact, key: t.lit}
		}
		return path{op: pathText, whole: true, key: prefix, text: t}
	case PathTemplate:
		t, err := parseTemplate(m.Value)
		if err != nil {
			c.errorf(true, field, "%v", err)
			return path{}
		}
		if len(t.parts) == 1 && !t.deep {
			return path{op: pathExact, key: t.parts[0]}
		}
		return path{op: pathText, whole: true, key: t.parts[0], text: text{op: opRegex, regex: t, source: m.Value}}
	}
	c.errorf(true, field, "unknown kind of path %d", m.Kind)
	return path{}
}

// matches evaluates everything, cheapest first.
func (k *candidate) matches(r *attrs.Request) (n int, ok bool) {
	if k.method != "" && k.method != r.Method {
		return 0, false
	}
	if n, ok = k.path.match(r.Path); !ok {
		return 0, false
	}
	for i := range k.headers {
		if !k.headers[i].header(r) {
			return 0, false
		}
	}
	for i := range k.query {
		if !k.query[i].query(r) {
			return 0, false
		}
	}
	if k.author != nil && !k.author.header(r) || k.scheme != nil && !k.scheme.header(r) {
		return 0, false
	}
	for i := range k.claims {
		if !k.claims[i].holds(r.Claims) {
			return 0, false
		}
	}
	return n, true
}
