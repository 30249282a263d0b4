package telemetry

import (
	"fmt"
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
