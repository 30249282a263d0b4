package routing

import (
	"errors"
	"fmt"
	"strings"
)

// template is a compiled URI template: literals and {*} up to an optional {**},
// then a literal end. It compares without backtracking.
type template struct {
	parts []string // literals around each {*}: parts[0] {*} parts[1] {*} ...
	deep  bool     // {**} follows the last part
	end   string   // behind {**}
}

// glob holds the bytes {*} may stand for: Envoy's URI template literals and '*'.
var glob = func() (t [256]bool) {
	for c := range t {
		b := byte(c)
		t[c] = 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' ||
			strings.IndexByte("-._~%!$&'()+,;:@=*", b) >= 0
	}
	return t
}()

// parseTemplate reads a template in {*} {**} form.
func parseTemplate(s string) (*template, error) {
	if s == "" || s[0] != '/' {
		return nil, errors.New("template must start with /")
	}
	t := &template{}
	var lit strings.Builder
	segments := strings.Split(s[1:], "/")
	for i, seg := range segments {
		lit.WriteByte('/')
		switch {
		case t.deep && (seg == "{*}" || seg == "{**}"):
			return nil, errors.New("no operator may follow {**}")
		case seg == "{*}":
			t.parts = append(t.parts, lit.String())
			lit.Reset()
		case seg == "{**}":
			t.parts = append(t.parts, lit.String())
			lit.Reset()
			t.deep = true
		case seg == "" && i < len(segments)-1:
			return nil, errors.New("template has an empty segment")
		default:
			for j := range len(seg) {
				if seg[j] == '*' || !glob[seg[j]] {
					return nil, fmt.Errorf("template has %q in a literal", seg[j])
				}
			}
			lit.WriteString(seg)
		}
	}
	if t.deep {
		t.end = lit.String()
	} else {
		t.parts = append(t.parts, lit.String())
	}
	return t, nil
}

// MatchString reports whether the template matches the whole of path.
func (t *template) MatchString(path string) bool {
	for i, lit := range t.parts {
		if i > 0 {
			n := 0
			for n < len(path) && glob[path[n]] {
				n++
			}
			if n == 0 {
				return false
			}
			path = path[n:]
		}
		// What stands behind {*} is empty or starts with '/', which {*} cannot hold,
		// so the longest run above is the only one that can match.
		if !strings.HasPrefix(path, lit) {
			return false
		}
		path = path[len(lit):]
	}
	if !t.deep {
		return path == ""
	}
	if !strings.HasSuffix(path, t.end) {
		return false
	}
	for i := range len(path) - len(t.end) {
		if path[i] != '/' && !glob[path[i]] {
			return false
		}
	}
	return true
}
