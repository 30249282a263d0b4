package routing

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// fullRegex compiles expr to match a whole string, reduced to a compare where that is
// the same: a literal, or one with ".*" or ".+" at an end. prefix is text every match
// starts with.
//
// Go's syntax is RE2's but for \C, which is refused.
func fullRegex(expr string) (t text, prefix string, err error) {
	// Compiled alone first: "a)|(b" must not become valid by the wrapping below.
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return text{}, "", err
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return text{}, "", err
	}
	if r, ok := reduce(parsed); ok {
		r.source = expr
		if r.op == opExact || r.op == opPrefix {
			prefix = r.lit
		}
		return r, prefix, nil
	}
	prefix = literalHead(flatten(parsed))
	return text{op: opRegex, regex: re, source: expr}, prefix, nil
}

// flatten returns the parts of a concatenation, groups opened and the anchors at the
// ends, which a whole match implies, left out.
func flatten(re *syntax.Regexp) []*syntax.Regexp {
	var parts []*syntax.Regexp
	var walk func(*syntax.Regexp)
	walk = func(re *syntax.Regexp) {
		switch re.Op {
		case syntax.OpConcat:
			for _, s := range re.Sub {
				walk(s)
			}
		case syntax.OpCapture:
			walk(re.Sub[0])
		case syntax.OpEmptyMatch:
		default:
			parts = append(parts, re)
		}
	}
	walk(re)
	for len(parts) > 0 && parts[0].Op == syntax.OpBeginText {
		parts = parts[1:]
	}
	for len(parts) > 0 && parts[len(parts)-1].Op == syntax.OpEndText {
		parts = parts[:len(parts)-1]
	}
	return parts
}

// literalHead returns the literal text all matches of parts start with.
func literalHead(parts []*syntax.Regexp) string {
	var b strings.Builder
	for _, p := range parts {
		if p.Op != syntax.OpLiteral || p.Flags&syntax.FoldCase != 0 {
			break
		}
		b.WriteString(string(p.Rune))
	}
	return b.String()
}

// reduce turns [wild] literal [wild] into a compare.
func reduce(re *syntax.Regexp) (text, bool) {
	parts := flatten(re)
	var t text
	var head, tail bool
	extra := 0
	if len(parts) > 0 && wild(parts[0], &t, &extra) {
		head, parts = true, parts[1:]
	}
	if n := len(parts); n > 0 && wild(parts[n-1], &t, &extra) {
		tail, parts = true, parts[:n-1]
	}
	for _, p := range parts {
		if p.Op != syntax.OpLiteral || p.Flags&syntax.FoldCase != 0 {
			return text{}, false
		}
	}
	t.lit = literalHead(parts)
	if t.line && strings.Contains(t.lit, "\n") {
		return text{}, false
	}
	switch {
	case extra == 0:
	case head && tail && (t.lit != "" || extra > 1):
		// ".+x.*" is a search from the second rune on, ".+.+" counts runes, not bytes.
		return text{}, false
	default:
		t.min = len(t.lit) + extra
	}
	switch {
	case head && tail && t.lit != "":
		t.op = opContains
	case t.lit == "" && (head || tail):
		t.op = opAny
	case head:
		t.op = opSuffix
	case tail:
		t.op = opPrefix
	default:
		t.op = opExact
	}
	return t, true
}

// wild reports whether p is ".*" or ".+", and notes what that asks of the string.
func wild(p *syntax.Regexp, t *text, extra *int) bool {
	if p.Op != syntax.OpStar && p.Op != syntax.OpPlus {
		return false
	}
	sub := p.Sub[0]
	for sub.Op == syntax.OpCapture {
		sub = sub.Sub[0]
	}
	switch sub.Op {
	case syntax.OpAnyCharNotNL:
		t.line = true
	case syntax.OpAnyChar:
	default:
		return false
	}
	if p.Op == syntax.OpPlus {
		*extra++
	}
	return true
}
