package routing

import (
	"fmt"
	"regexp/syntax"
	"strings"

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
	// Each line of a repeated header is compared by itself: one that holds is enough,
	// and an inverted condition wants none (Envoy since 1.39).
	at, more := firstField(r.Headers, v.name)
	if at < 0 {
		return v.holds("", false)
	}
	ok := v.holds(r.Headers[at].Value, true)
	if !more || v.present || ok != v.invert {
		return ok
	}
	for i := at + 1; i < len(r.Headers); i++ {
		if r.Headers[i].Name == v.name && v.text.match(r.Headers[i].Value) {
			return !v.invert
		}
	}
	return v.invert
}

// query evaluates the condition on the raw query of r.
func (v *value) query(r *attrs.Request) bool {
	return v.holds(r.QueryParam(v.name))
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
