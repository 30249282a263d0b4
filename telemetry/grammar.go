package telemetry

import (
	"fmt"
	"strings"
)

// parser reads tokens by recursive descent. Its methods are the grammar of CEL's
// specification, from what binds least to what binds most.
type parser struct {
	tokens   []token
	at       int
	response bool // headers of the response are read
}

type token struct {
	text string // of an identifier, a number or an operator
	str  string // of a string
	kind byte   // 'i', 'n', 's', 'o'
}

// maxDepth bounds nesting: an expression is a user's, the stack is ours.
const maxDepth = 64

func (p *parser) accept(op string) bool {
	if p.at < len(p.tokens) && p.tokens[p.at].kind == 'o' && p.tokens[p.at].text == op {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(op string) error {
	if !p.accept(op) {
		return fmt.Errorf("%q is missing", op)
	}
	return nil
}

func (p *parser) ternary(depth int) (node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nests deeper than %d", maxDepth)
	}
	cond, err := p.or(depth)
	if err != nil || !p.accept("?") {
		return cond, err
	}
	yes, err := p.ternary(depth + 1)
	if err != nil {
		return nil, err
	}
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	no, err := p.ternary(depth + 1)
	if err != nil {
		return nil, err
	}
	return func(r *Record) value {
		switch c := cond(r); {
		case c.is(true):
			return yes(r)
		case c.is(false):
			return no(r)
		}
		return value{}
	}, nil
}

// either joins nodes by || (want true) or && (want false): one that is want decides,
// whatever the other is, an error too.
func either(a, b node, want bool) node {
	return func(r *Record) value {
		x := a(r)
		if x.is(want) {
			return x
		}
		y := b(r)
		if y.is(want) || x.kind == kindBool {
			return y
		}
		return value{}
	}
}

func (p *parser) or(depth int) (node, error) {
	a, err := p.and(depth)
	for err == nil && p.accept("||") {
		var b node
		if b, err = p.and(depth); err == nil {
			a = either(a, b, true)
		}
	}
	return a, err
}

func (p *parser) and(depth int) (node, error) {
	a, err := p.relation(depth)
	for err == nil && p.accept("&&") {
		var b node
		if b, err = p.relation(depth); err == nil {
			a = either(a, b, false)
		}
	}
	return a, err
}

var relations = map[string]func(c int) bool{
	"==": func(c int) bool { return c == 0 }, "!=": func(c int) bool { return c != 0 },
	"<": func(c int) bool { return c < 0 }, "<=": func(c int) bool { return c <= 0 },
	">": func(c int) bool { return c > 0 }, ">=": func(c int) bool { return c >= 0 },
}

func (p *parser) relation(depth int) (node, error) {
	a, err := p.sum(depth)
	if err != nil || p.at >= len(p.tokens) {
		return a, err
	}
	t := p.tokens[p.at]
	if t.kind == 'i' && t.text == "in" {
		p.at++
		return p.in(a, depth)
	}
	holds := relations[t.text]
	if t.kind != 'o' || holds == nil {
		return a, nil
	}
	p.at++
	b, err := p.sum(depth)
	if err != nil {
		return nil, err
	}
	return func(r *Record) value {
		x, y := a(r), b(r)
		c, ok := compare(x, y)
		if !ok {
			return value{}
		}
		return boolean(holds(c))
	}, nil
}

// in looks for a value in a list, or for a name among headers.
func (p *parser) in(a node, depth int) (node, error) {
	if !p.accept("[") {
		m, err := p.member(depth)
		if err != nil {
			return nil, err
		}
		get := headersOf(m.path)
		if get == nil {
			return nil, fmt.Errorf("in wants a list, or headers")
		}
		return func(r *Record) value {
			k := a(r)
			if k.kind != kindString {
				return value{}
			}
			return boolean(get(r, strings.ToLower(k.s)) != "")
		}, nil
	}
	list, err := p.list("]", depth)
	if err != nil {
		return nil, err
	}
	return func(r *Record) value {
		x := a(r)
		if x.kind == kindError {
			return x
		}
		for _, e := range list {
			if c, ok := compare(x, e(r)); ok && c == 0 {
				return boolean(true)
			}
		}
		return boolean(false)
	}, nil
}

func (p *parser) list(end string, depth int) (out []node, err error) {
	for !p.accept(end) {
		if len(out) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		n, err := p.ternary(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// sum adds numbers and joins texts.
func (p *parser) sum(depth int) (node, error) {
	a, err := p.unary(depth)
	for err == nil && (p.accept("+") || p.accept("-")) {
		minus := p.tokens[p.at-1].text == "-"
		var b node
		if b, err = p.unary(depth); err != nil {
			return nil, err
		}
		left := a
		a = func(r *Record) value {
			x, y := left(r), b(r)
			switch {
			case x.kind == kindString && y.kind == kindString && !minus:
				return value{kind: kindString, s: x.s + y.s}
			case x.kind != y.kind || x.kind != kindInt && x.kind != kindDuration:
				return value{}
			case minus:
				return value{kind: x.kind, n: x.n - y.n}
			}
			return value{kind: x.kind, n: x.n + y.n}
		}
	}
	return a, err
}

func (p *parser) unary(depth int) (node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nests deeper than %d", maxDepth)
	}
	switch {
	case p.accept("!"):
		a, err := p.unary(depth + 1)
		if err != nil {
			return nil, err
		}
		return func(r *Record) value {
			v := a(r)
			if v.kind != kindBool {
				return value{}
			}
			return boolean(v.n == 0)
		}, nil
	case p.accept("-"):
		a, err := p.unary(depth + 1)
		if err != nil {
			return nil, err
		}
		return func(r *Record) value {
			v := a(r)
			if v.kind != kindInt {
				return value{}
			}
			v.n = -v.n
			return v
		}, nil
	}
	m, err := p.member(depth)
	if err != nil {
		return nil, err
	}
	return m.done()
}
