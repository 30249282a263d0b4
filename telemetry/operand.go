package telemetry

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

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
