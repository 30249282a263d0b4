package routing

import (
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// textOp is a comparison after reduction.
type textOp uint8

const (
	opAny textOp = iota
	opExact
	opPrefix
	opSuffix
	opContains
	opRegex
)

// text is a compiled comparison of one string. The zero value matches everything.
type text struct {
	op     textOp
	fold   bool // ASCII case is ignored
	line   bool // reduced from '.': the string must hold no line feed
	min    int  // least length, for ".+"
	lit    string
	regex  matcher
	source string // as written, for people
}

// matcher is what a compiled regular expression does here.
type matcher interface{ MatchString(string) bool }

func (t *text) match(s string) bool {
	if len(s) < t.min || t.line && strings.IndexByte(s, '\n') >= 0 {
		return false
	}
	switch t.op {
	case opExact:
		return equal(s, t.lit, t.fold)
	case opPrefix:
		return hasPrefix(s, t.lit, t.fold)
	case opSuffix:
		return hasSuffix(s, t.lit, t.fold)
	case opContains:
		return contains(s, t.lit, t.fold)
	case opRegex:
		return t.regex.MatchString(s)
	}
	return true
}

// lower folds ASCII only: Envoy's ignore_case and header names know no other case.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

func equal(a, b string, fold bool) bool {
	if !fold || len(a) != len(b) {
		return a == b
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func hasPrefix(s, p string, fold bool) bool {
	return len(s) >= len(p) && equal(s[:len(p)], p, fold)
}

func hasSuffix(s, p string, fold bool) bool {
	return len(s) >= len(p) && equal(s[len(s)-len(p):], p, fold)
}

func contains(s, p string, fold bool) bool {
	if !fold {
		return strings.Contains(s, p)
	}
	for i := 0; i+len(p) <= len(s); i++ {
		if equal(s[i:i+len(p)], p, true) {
			return true
		}
	}
	return false
}

// lowerASCII returns s with ASCII upper case folded.
func lowerASCII(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = lower(b[i])
	}
	return string(b)
}

// firstField returns the index of the first line named name, or -1, and whether there are more.
func firstField(h []attrs.Field, name string) (at int, more bool) {
	at = -1
	for i := range h {
		if h[i].Name == name {
			if at >= 0 {
				return at, true
			}
			at = i
		}
	}
	return at, false
}
