package routing

import (
	"fmt"
	"regexp/syntax"
	"strings"
	"sync"
	"unsafe"

	"waypoint.dev/waypoint/internal/attrs"
)

// part is which part of the head a header condition reads.
type part uint8

const (
	partHeader part = iota
	partAuthority
	partMethod
	partScheme
)

// value is a compiled ValueMatch.
type value struct {
	name    string
	part    part
	present bool // only presence counts
	invert  bool
	text    text
}

// holds applies the condition to a value that is there or not.
func (v *value) holds(s string, ok bool) bool {
	if v.present {
		return ok != v.invert
	}
	if !ok && !v.invert {
		return false
	}
	return v.text.match(s) != v.invert
}

// header evaluates the condition on the head of r.
func (v *value) header(r *attrs.Request) bool {
	switch v.part {
	case partAuthority:
		return v.holds(r.Authority, r.Authority != "")
	case partMethod:
		return v.holds(r.Method, true)
	case partScheme:
		return v.holds(r.Scheme, r.Scheme != "")
	}
	at, more := firstField(r.Headers, v.name)
	if at < 0 {
		return v.holds("", false)
	}
	if !more || v.present {
		return v.holds(r.Headers[at].Value, true)
	}
	j := joins.Get().(*joined)
	j.join(r.Headers[at:], v.name)
	ok := v.holds(j.view(), true)
	joins.Put(j)
	return ok
}

// query evaluates the condition on the raw query of r.
func (v *value) query(r *attrs.Request) bool {
	return v.holds(r.QueryParam(v.name))
}

// joined holds the lines of one header as one value.
type joined struct{ b []byte }

var joins = sync.Pool{New: func() any { return &joined{b: make([]byte, 0, 512)} }}

// view borrows the joined value: valid until the next join.
func (j *joined) view() string { return unsafe.String(unsafe.SliceData(j.b), len(j.b)) }

// join collects the values of name, separated by "," as Envoy does to match.
func (j *joined) join(h []attrs.Field, name string) {
	j.b = j.b[:0]
	first := true
	for i := range h {
		if h[i].Name != name {
			continue
		}
		if !first {
			j.b = append(j.b, ',')
		}
		first = false
		j.b = append(j.b, h[i].Value...)
	}
}

// value compiles a condition. A regular expression that is wrong is reported and
// counts as holding.
func (c *compiler) value(field string, m *ValueMatch, header bool) value {
	v := value{name: m.Name, invert: m.Invert}
	if header {
		v.name = lowerASCII(m.Name)
		switch v.name {
		case "host", ":authority":
			v.part = partAuthority
		case ":method":
			v.part = partMethod
		case ":scheme":
			v.part = partScheme
		default:
			if strings.HasPrefix(v.name, ":") {
				c.errorf(true, field, "cannot match %s", v.name)
				return value{name: v.name, part: partMethod}
			}
		}
	}
	t, err := compileText(m)
	switch {
	case err != nil:
		c.errorf(true, field, "%v", err)
		return value{name: v.name, part: partMethod}
	case m.Kind == ValuePresent:
		v.present = true
	}
	v.text = t
	return v
}

// compileText compiles what a condition asks of a value.
func compileText(m *ValueMatch) (text, error) {
	t := text{lit: m.Value, fold: m.IgnoreCase, source: m.Value}
	switch m.Kind {
	case ValueExact:
		t.op = opExact
	case ValuePrefix:
		t.op = opPrefix
	case ValueSuffix:
		t.op = opSuffix
	case ValueContains:
		t.op = opContains
	case ValuePresent:
		t = text{}
	case ValueRegex:
		expr := m.Value
		if m.IgnoreCase {
			expr = "(?i:" + expr + ")"
		}
		_, err := syntax.Parse(m.Value, syntax.Perl) // alone: the group must not make it valid
		if err != nil {
			return text{}, err
		}
		if t, _, err = fullRegex(expr); err != nil {
			return text{}, err
		}
	default:
		return text{}, fmt.Errorf("unknown kind of comparison %d", m.Kind)
	}
	return t, nil
}

// claim is a compiled ClaimMatch.
type claim struct {
	path  []string
	value value
}

// holds evaluates the condition on verified claims. A list matches if one of its
// strings does; a claim that is no string matches nothing.
func (cl *claim) holds(c *attrs.Claims) bool {
	var found any
	ok := c != nil && len(cl.path) > 0
	if ok {
		m := c.Raw
		for i, k := range cl.path {
			if found, ok = m[k]; !ok {
				break
			}
			if i < len(cl.path)-1 {
				if m, ok = found.(map[string]any); !ok {
					break
				}
			}
		}
	}
	if cl.value.present {
		return ok != cl.value.invert
	}
	return (ok && cl.any(found)) != cl.value.invert
}

func (cl *claim) any(v any) bool {
	switch v := v.(type) {
	case string:
		// Istio has these two split at spaces (RFC 8693 section 4.2).
		if len(cl.path) == 1 && (cl.path[0] == "scope" || cl.path[0] == "permission") {
			for v != "" {
				word, rest, _ := strings.Cut(v, " ")
				if word != "" && cl.value.text.match(word) {
					return true
				}
				v = rest
			}
			return false
		}
		return cl.value.text.match(v)
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok && cl.value.text.match(s) {
				return true
			}
		}
	case []string:
		for _, s := range v {
			if cl.value.text.match(s) {
				return true
			}
		}
	}
	return false
}
