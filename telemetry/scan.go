package telemetry

import (
	"fmt"
	"strings"
)

// scan cuts an expression into tokens.
func (p *parser) scan(s string) error {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '"' || c == '\'':
			text, n, err := unquote(s[i:])
			if err != nil {
				return err
			}
			p.tokens = append(p.tokens, token{kind: 's', str: text})
			i += n
		case isDigit(c):
			n := i
			for n < len(s) && (isDigit(s[n]) || isLetter(s[n])) {
				n++
			}
			p.tokens = append(p.tokens, token{kind: 'n', text: s[i:n]})
			i = n
		case isLetter(c):
			n := i
			for n < len(s) && (isDigit(s[n]) || isLetter(s[n])) {
				n++
			}
			p.tokens = append(p.tokens, token{kind: 'i', text: s[i:n]})
			i = n
		default:
			n := 1
			for _, op := range []string{"==", "!=", "<=", ">=", "&&", "||"} {
				if strings.HasPrefix(s[i:], op) {
					n = 2
				}
			}
			if n == 1 && !strings.ContainsRune("<>!?:.,()[]+-", rune(c)) {
				return fmt.Errorf("expression %q: %q is not supported", s, c)
			}
			p.tokens = append(p.tokens, token{kind: 'o', text: s[i : i+n]})
			i += n
		}
	}
	return nil
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// unquote reads a text in either quotes, and how long it is with them.
func unquote(s string) (text string, n int, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == s[0]:
			return b.String(), i + 1, nil
		case c == '\\' && i+1 < len(s):
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'r':
				b.WriteByte('\r')
			case '\\', '\'', '"', '`', '?':
				b.WriteByte(s[i])
			default:
				return "", 0, fmt.Errorf("the escape \\%c is not supported", s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, fmt.Errorf("a text does not end: %s", s)
}
