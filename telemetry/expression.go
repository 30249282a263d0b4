package telemetry

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Expression is a compiled expression of the Common Expression Language, as far as
// Istio's Telemetry uses it: attributes of a request, comparisons, &&, ||, !, ?:, in,
// +, has(), string(), int(), duration(), startsWith, endsWith, contains, matches,
// size and lists. It is immutable and safe for concurrent use.
type Expression struct {
	node     node
	response bool // it reads headers of the response
}

// CompileExpression compiles text.
func CompileExpression(text string) (*Expression, error) {
	p := &parser{}
	if err := p.scan(text); err != nil {
		return nil, err
	}
	n, err := p.ternary(0)
	if err == nil && p.at < len(p.tokens) {
		err = fmt.Errorf("%q is not expected", p.tokens[p.at].text)
	}
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", text, err)
	}
	return &Expression{n, p.response}, nil
}

// ReadsResponse reports whether it reads headers of the response.
func (e *Expression) ReadsResponse() bool { return e.response }

// Holds evaluates a condition. One that cannot be evaluated, since an attribute is
// not there, does not hold (Envoy: CELAccessLogExtensionFilter).
func (e *Expression) Holds(r *Record) bool {
	v := e.node(r)
	return v.kind == kindBool && v.n != 0
}

// append is an operator: it appends the value as text.
func (e *Expression) append(b []byte, r *Record) ([]byte, bool) {
	switch v := e.node(r); v.kind {
	case kindString:
		return append(b, v.s...), true
	case kindInt:
		return strconv.AppendInt(b, v.n, 10), true
	case kindBool:
		return strconv.AppendBool(b, v.n != 0), true
	case kindDuration:
		return append(b, time.Duration(v.n).String()...), true
	}
	return b, false
}

// node evaluates a part of an expression.
type node func(r *Record) value

// value is what a part comes to. The zero value is an error: an attribute that is
// not there, or kinds that do not fit.
type value struct {
	kind kind
	n    int64 // kindInt, kindBool, kindDuration (nanoseconds)
	s    string
}

type kind uint8

const (
	kindError kind = iota
	kindBool
	kindInt
	kindString
	kindDuration
)

func boolean(b bool) value {
	if b {
		return value{kind: kindBool, n: 1}
	}
	return value{kind: kindBool}
}

func (v value) is(want bool) bool { return v.kind == kindBool && (v.n != 0) == want }

// compare orders values of one kind; ok is false for others.
func compare(a, b value) (c int, ok bool) {
	if a.kind != b.kind || a.kind == kindError {
		return 0, false
	}
	if a.kind == kindString {
		return strings.Compare(a.s, b.s), true
	}
	switch {
	case a.n < b.n:
		return -1, true
	case a.n > b.n:
		return 1, true
	}
	return 0, true
}

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

// operand is a value, or the path of an attribute that goes on.
type operand struct {
	node node
	path []string
}

// done resolves the path.
func (m operand) done() (node, error) {
	if m.node != nil {
		return m.node, nil
	}
	n := attribute(m.path)
	if n == nil {
		return nil, fmt.Errorf("the attribute %s is not known", strings.Join(m.path, "."))
	}
	return n, nil
}

func (p *parser) member(depth int) (operand, error) {
	m, err := p.primary(depth)
	for err == nil {
		switch {
		case p.accept("."):
			if p.at >= len(p.tokens) || p.tokens[p.at].kind != 'i' {
				return m, fmt.Errorf("a name is missing behind a point")
			}
			name := p.tokens[p.at].text
			p.at++
			if !p.accept("(") {
				if m.path == nil {
					return m, fmt.Errorf("%s of a value is not known", name)
				}
				m.path = append(m.path, name)
				continue
			}
			m, err = p.method(m, name, depth)
		case p.accept("["):
			if p.at >= len(p.tokens) || p.tokens[p.at].kind != 's' || m.path == nil {
				return m, fmt.Errorf("an index other than a text is not supported")
			}
			m.path = append(m.path, p.tokens[p.at].str)
			p.at++
			err = p.expect("]")
		default:
			p.response = p.response || len(m.path) > 1 && m.path[0] == "response" && m.path[1] == "headers"
			return m, nil
		}
	}
	return m, err
}

// tests are the methods of texts.
var tests = map[string]func(s, arg string) bool{
	"startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix, "contains": strings.Contains,
}

func (p *parser) method(m operand, name string, depth int) (operand, error) {
	args, err := p.list(")", depth)
	if err != nil {
		return m, err
	}
	of, err := m.done()
	if err != nil {
		return m, err
	}
	if name == "size" && len(args) == 0 {
		return operand{node: size(of)}, nil
	}
	if len(args) != 1 {
		return m, fmt.Errorf("%s() wants one argument", name)
	}
	arg := args[0]
	if test := tests[name]; test != nil {
		return operand{node: func(r *Record) value {
			x, y := of(r), arg(r)
			if x.kind != kindString || y.kind != kindString {
				return value{}
			}
			return boolean(test(x.s, y.s))
		}}, nil
	}
	if name == "matches" {
		return matches(of, arg)
	}
	return m, fmt.Errorf("%s() is not known", name)
}

// matches searches for a regular expression, which is compiled once.
func matches(of, arg node) (operand, error) {
	pattern := arg(&Record{})
	if pattern.kind != kindString {
		return operand{}, fmt.Errorf("matches() wants a text that is known beforehand")
	}
	re, err := regexp.Compile(pattern.s)
	if err != nil {
		return operand{}, err
	}
	return operand{node: func(r *Record) value {
		if x := of(r); x.kind == kindString {
			return boolean(re.MatchString(x.s))
		}
		return value{}
	}}, nil
}

func size(of node) node {
	return func(r *Record) value {
		if x := of(r); x.kind == kindString {
			return value{kind: kindInt, n: int64(len(x.s))}
		}
		return value{}
	}
}

func (p *parser) primary(depth int) (operand, error) {
	if p.accept("(") {
		n, err := p.ternary(depth + 1)
		if err == nil {
			err = p.expect(")")
		}
		return operand{node: n}, err
	}
	if p.at >= len(p.tokens) {
		return operand{}, fmt.Errorf("ends too early")
	}
	t := p.tokens[p.at]
	p.at++
	constant := func(v value) operand { return operand{node: func(*Record) value { return v }} }
	switch t.kind {
	case 's':
		return constant(value{kind: kindString, s: t.str}), nil
	case 'n':
		n, err := strconv.ParseInt(t.text, 0, 64)
		return constant(value{kind: kindInt, n: n}), err
	case 'i':
		switch {
		case t.text == "true" || t.text == "false":
			return constant(boolean(t.text == "true")), nil
		case p.accept("("):
			n, err := p.call(t.text, depth)
			return operand{node: n}, err
		}
		return operand{path: []string{t.text}}, nil
	}
	return operand{}, fmt.Errorf("%q is not expected", t.text)
}

// call reads a function.
func (p *parser) call(name string, depth int) (node, error) {
	if name == "has" {
		m, err := p.member(depth)
		if err != nil {
			return nil, err
		}
		of, err := m.done()
		if err != nil {
			return nil, err
		}
		return func(r *Record) value {
			v := of(r)
			return boolean(v.kind != kindError && !(v.kind == kindString && v.s == ""))
		}, p.expect(")")
	}
	args, err := p.list(")", depth)
	if err != nil {
		return nil, err
	}
	if len(args) != 1 {
		return nil, fmt.Errorf("%s() wants one argument", name)
	}
	arg := args[0]
	switch name {
	case "string":
		e := Expression{node: arg}
		return func(r *Record) value {
			if v := arg(r); v.kind == kindString {
				return v
			}
			b, ok := e.append(nil, r)
			if !ok {
				return value{}
			}
			return value{kind: kindString, s: string(b)}
		}, nil
	case "int":
		return func(r *Record) value {
			switch v := arg(r); v.kind {
			case kindInt:
				return v
			case kindString:
				if n, err := strconv.ParseInt(v.s, 10, 64); err == nil {
					return value{kind: kindInt, n: n}
				}
			}
			return value{}
		}, nil
	case "duration":
		v := arg(&Record{})
		d, err := time.ParseDuration(v.s)
		if v.kind != kindString || err != nil {
			return nil, fmt.Errorf("duration() wants a text such as \"1.5s\"")
		}
		return func(*Record) value { return value{kind: kindDuration, n: int64(d)} }, nil
	case "size":
		return size(arg), nil
	}
	return nil, fmt.Errorf("%s() is not known", name)
}
