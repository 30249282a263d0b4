package authz

import (
	"fmt"
	"regexp"
	"strings"
)

// MatchKind is one way to compare a string.
type MatchKind uint8

const (
	MatchExact MatchKind = iota
	MatchPrefix
	MatchSuffix
	MatchContains
	MatchRegex    // RE2, the whole value
	MatchNonEmpty // at least one character, what Istio writes as the regular expression .+
)

// StringMatch compares one string, as Envoy's StringMatcher does. IgnoreCase
// folds ASCII only and does not apply to MatchRegex.
type StringMatch struct {
	Kind       MatchKind
	Value      string
	IgnoreCase bool
}

// Wildcard reads the forms of AuthorizationPolicy: "*" is any non-empty value,
// "*s" a suffix, "p*" a prefix, anything else is exact. The checks stand in this
// order, so "*a*" is the suffix "a*" and a star elsewhere is literal.
func Wildcard(v string) StringMatch {
	switch {
	case v == "*":
		return StringMatch{Kind: MatchNonEmpty}
	case strings.HasPrefix(v, "*"):
		return StringMatch{Kind: MatchSuffix, Value: v[1:]}
	case strings.HasSuffix(v, "*"):
		return StringMatch{Kind: MatchPrefix, Value: v[:len(v)-1]}
	}
	return StringMatch{Kind: MatchExact, Value: v}
}

// matcher is a compiled StringMatch.
type matcher struct {
	kind  MatchKind
	fold  bool
	glob  bool // MatchRegex that is only literals, .* and .+
	value string
	re    *regexp.Regexp
	parts globParts
}

func (m StringMatch) compile() (*matcher, error) {
	c := &matcher{kind: m.Kind, value: m.Value, fold: m.IgnoreCase}
	switch m.Kind {
	case MatchExact, MatchPrefix, MatchSuffix, MatchContains, MatchNonEmpty:
		if m.IgnoreCase {
			c.value = strings.Map(lowerASCII, m.Value)
		}
	case MatchRegex:
		if g, ok := parseGlobRegex(m.Value); ok {
			c.glob, c.parts = true, g
			return c, nil
		}
		// Anchored by ourselves: Envoy matches the whole value.
		re, err := regexp.Compile(`^(?:` + m.Value + `)$`)
		if err != nil {
			return nil, fmt.Errorf("regular expression %q: %w", m.Value, err)
		}
		c.re = re
	default:
		return nil, fmt.Errorf("unknown string match kind %d", m.Kind)
	}
	return c, nil
}

// match reports whether s is a match. It does not allocate.
func (m *matcher) match(s string) bool {
	switch m.kind {
	case MatchExact:
		if m.fold {
			return len(s) == len(m.value) && equalFold(s, m.value)
		}
		return s == m.value
	case MatchPrefix:
		if m.fold {
			return len(s) >= len(m.value) && equalFold(s[:len(m.value)], m.value)
		}
		return strings.HasPrefix(s, m.value)
	case MatchSuffix:
		if m.fold {
			return len(s) >= len(m.value) && equalFold(s[len(s)-len(m.value):], m.value)
		}
		return strings.HasSuffix(s, m.value)
	case MatchContains:
		if m.fold {
			return containsFold(s, m.value)
		}
		return strings.Contains(s, m.value)
	case MatchNonEmpty:
		return s != "" && strings.IndexByte(s, '\n') < 0 // "." is no newline
	case MatchRegex:
		if m.glob {
			return m.parts.match(s)
		}
		return m.re.MatchString(s)
	}
	return false
}

func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// equalFold compares s with lower, which is in lower case and of the same length.
func equalFold(s, lower string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func containsFold(s, lower string) bool {
	for i := 0; i+len(lower) <= len(s); i++ {
		if equalFold(s[i:i+len(lower)], lower) {
			return true
		}
	}
	return false
}

// globParts is a pattern of literals with gaps between them. A gap takes any
// characters but a newline, at least min of them; a negative min is no gap.
type globParts struct {
	lits []string // between the gaps; gaps[i] stands before lits[i]
	gaps []int8   // len(lits)+1
}

const noGap int8 = -1

// match tests the whole of s. The leftmost place of each literal is the right
// one: a later place only makes the gap before it longer.
func (g *globParts) match(s string) bool {
	n := len(g.lits)
	for i, lit := range g.lits {
		last := i == n-1 && g.gaps[n] == noGap
		switch gap := g.gaps[i]; {
		case gap == noGap:
			if !strings.HasPrefix(s, lit) {
				return false
			}
			s = s[len(lit):]
			if last {
				return s == ""
			}
		case last:
			at := len(s) - len(lit)
			return at >= int(gap) && s[at:] == lit && strings.IndexByte(s[:at], '\n') < 0
		default:
			if len(s) < int(gap) {
				return false
			}
			at := strings.Index(s[gap:], lit)
			if at < 0 || strings.IndexByte(s[:at+int(gap)], '\n') >= 0 {
				return false
			}
			s = s[at+int(gap)+len(lit):]
		}
	}
	gap := g.gaps[n]
	if gap == noGap {
		return s == ""
	}
	return len(s) >= int(gap) && strings.IndexByte(s, '\n') < 0
}

// parseGlobRegex reads a regular expression made only of literal characters,
// escaped punctuation, .* and .+; anything else is left to package regexp.
func parseGlobRegex(re string) (globParts, bool) {
	var g globParts
	var lit []byte
	gap := noGap
	flush := func() {
		if len(lit) > 0 {
			g.lits = append(g.lits, string(lit))
			g.gaps = append(g.gaps, gap)
			lit, gap = nil, noGap
		}
	}
	for i := 0; i < len(re); i++ {
		c := re[i]
		switch {
		case c == '.':
			if i+1 >= len(re) || (re[i+1] != '*' && re[i+1] != '+') {
				return g, false
			}
			flush()
			if gap < 0 {
				gap = 0
			}
			if re[i+1] == '+' {
				if gap++; gap > 100 {
					return g, false
				}
			}
			i++
		case c == '\\':
			if i+1 >= len(re) || !isPunct(re[i+1]) {
				return g, false
			}
			lit = append(lit, re[i+1])
			i++
		case strings.IndexByte("+*?()|[]{}^$\n", c) >= 0 || c >= 0x80:
			return g, false // also what repeats the literal or the gap before it
		default:
			lit = append(lit, c)
		}
	}
	flush()
	g.gaps = append(g.gaps, gap)
	return g, true
}

func isPunct(c byte) bool {
	return c > ' ' && c < 0x7f && !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z')
}
