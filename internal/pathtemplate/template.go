package pathtemplate

import (
	"fmt"
	"strings"
)

// Template is a parsed path template. It is immutable and safe for concurrent use.
type Template struct {
	// The pattern before {**}, or all of it: literal, {*}, literal, {*}, ...
	// Each {*} stands between two neighbours; the last may be empty.
	lits  []string
	multi bool   // {**} follows
	tail  string // literal behind {**}
}

// The operators of AuthorizationPolicy.
const one, multi = "{*}", "{**}"

// Parse reads a template in AuthorizationPolicy's form: {*} and {**}.
//
// It refuses what Istio's admission refuses and also what admission lets through
// but Envoy cannot load: a pattern that does not start with one slash or that
// has two slashes in a row. The error says what is wrong.
func Parse(pattern string) (*Template, error) {
	if !strings.HasPrefix(pattern, "/") {
		return nil, fmt.Errorf("path template %q must start with /", pattern)
	}
	if i := strings.Index(pattern, "//"); i >= 0 {
		return nil, fmt.Errorf("path template %q has an empty segment at byte %d", pattern, i+1)
	}
	t := &Template{}
	var lit strings.Builder
	segs := strings.Split(pattern[1:], "/")
	for i, seg := range segs {
		lit.WriteByte('/')
		switch seg {
		case one, multi:
			if t.multi {
				return nil, fmt.Errorf("path template %q: operator %s follows %s; only literals may", pattern, seg, multi)
			}
			t.lits = append(t.lits, lit.String())
			lit.Reset()
			t.multi = seg == multi
		case "": // only the last segment: a trailing slash
			if i != len(segs)-1 {
				return nil, fmt.Errorf("path template %q has an empty segment", pattern)
			}
		default:
			for j := 0; j < len(seg); j++ {
				if class[seg[j]] != literal {
					return nil, badSegment(pattern, seg, seg[j])
				}
			}
			lit.WriteString(seg)
		}
	}
	if t.multi {
		t.tail = lit.String()
	} else {
		t.lits = append(t.lits, lit.String())
	}
	return t, nil
}

func badSegment(pattern, seg string, c byte) error {
	switch c {
	case '{', '}':
		return fmt.Errorf("path template %q: segment %q: braces may only form %s or %s, alone in their segment", pattern, seg, one, multi)
	case '*':
		return fmt.Errorf("path template %q: segment %q: * cannot stand in a template; use %s or %s alone in a segment", pattern, seg, one, multi)
	}
	return fmt.Errorf("path template %q: segment %q: character %q is not allowed", pattern, seg, c)
}

// Match reports whether the whole of path matches. Path is normalized and has no
// query. It takes one pass and does not allocate.
func (t *Template) Match(path string) bool {
	last := len(t.lits) - 1
	for i, lit := range t.lits {
		if !strings.HasPrefix(path, lit) {
			return false
		}
		path = path[len(lit):]
		if i == last {
			break
		}
		n := 0
		for n < len(path) && class[path[n]] >= star {
			n++
		}
		if n == 0 {
			return false
		}
		path = path[n:]
	}
	if !t.multi {
		return path == ""
	}
	if !strings.HasSuffix(path, t.tail) {
		return false
	}
	for _, c := range []byte(path[:len(path)-len(t.tail)]) {
		if class[c] == none {
			return false
		}
	}
	return true
}

// Prefix is the literal text that every matching path starts with.
func (t *Template) Prefix() string { return t.lits[0] }

const (
	none    uint8 = iota // never matched by an operator
	slash                // by {**} only
	star                 // by both, no literal
	literal              // by both, and allowed in literals
)

// class is Envoy's URI template alphabet (uri_template_lib): pchar of RFC 3986
// with % as a plain character, and = and * as later releases allow.
var class = func() (c [256]uint8) {
	for b := '0'; b <= '9'; b++ {
		c[b] = literal
	}
	for b := 'a'; b <= 'z'; b++ {
		c[b], c[b-'a'+'A'] = literal, literal
	}
	for _, b := range []byte("-._~%!$&'()+,;:@=") {
		c[b] = literal
	}
	c['*'], c['/'] = star, slash
	return c
}()
