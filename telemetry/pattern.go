package telemetry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pattern is a compiled format of Envoy's command operators: text with values in
// it, or a JSON object of such texts. It is immutable and safe for concurrent use;
// writing allocates nothing but what the buffer grows by.
type Pattern struct {
	parts []part
}

// part is literal text, or a value where op is set.
type part struct {
	text string
	known
	limit int  // of the value's bytes; 0: none
	typed bool // a JSON value of its own: null where there is none, a number where it is one
}

// operator appends a value as it is, or reports that there is none.
type operator func(b []byte, r *Record) (out []byte, ok bool)

// CompileText compiles a text format. Operators that are not known write "-" and
// are returned by name.
func CompileText(format string) (p *Pattern, unknown []string) {
	p = &Pattern{}
	p.parts, unknown = compileText(format)
	return p, unknown
}

// compileText splits a format at its operators: %NAME%, %NAME(argument)%,
// %NAME(argument):limit%, and %% for a percent sign.
func compileText(s string) (out []part, unknown []string) {
	lit := strings.Builder{}
	flush := func() {
		if lit.Len() > 0 {
			out = append(out, part{text: lit.String()})
			lit.Reset()
		}
	}
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			lit.WriteString(s)
			break
		}
		lit.WriteString(s[:i])
		s = s[i+1:]
		if strings.HasPrefix(s, "%") {
			lit.WriteByte('%')
			s = s[1:]
			continue
		}
		name, arg, limit, rest, ok := cutOperator(s)
		if !ok {
			unknown = append(unknown, "%"+s)
			lit.WriteString("%" + s)
			break
		}
		flush()
		op := findOperator(name, arg)
		if op.op == nil {
			unknown = append(unknown, "%"+s[:len(s)-len(rest)])
			op.op = nothing
		}
		out = append(out, part{known: op, limit: limit})
		s = rest
	}
	flush()
	return out, unknown
}

// cutOperator reads NAME, NAME(argument) or NAME(argument):limit up to the closing
// percent sign. The argument ends at the last parenthesis before that, since
// expressions and times hold percent signs and parentheses themselves.
func cutOperator(s string) (name, arg string, limit int, rest string, ok bool) {
	n := 0
	for n < len(s) && (s[n] == '_' || 'A' <= s[n] && s[n] <= 'Z' || '0' <= s[n] && s[n] <= '9') {
		n++
	}
	name, rest = s[:n], s[n:]
	if strings.HasPrefix(rest, "(") {
		depth, i := 0, 0
		for ; i < len(rest); i++ {
			if rest[i] == '(' {
				depth++
			} else if rest[i] == ')' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if i == len(rest) {
			return "", "", 0, "", false
		}
		arg, rest = rest[1:i], rest[i+1:]
	}
	if after, has := strings.CutPrefix(rest, ":"); has {
		i := strings.IndexByte(after, '%')
		if i < 0 {
			return "", "", 0, "", false
		}
		v, err := strconv.Atoi(after[:i])
		if err != nil || v < 0 {
			return "", "", 0, "", false
		}
		limit, rest = v, after[i:]
	}
	rest, ok = strings.CutPrefix(rest, "%")
	return name, arg, limit, rest, ok && name != ""
}

// CompileJSON compiles a JSON object whose strings are formats, in the order of its
// keys. A string that is one operator becomes its value: a number where it is one,
// null where there is none. Every line ends with a line end.
func CompileJSON(object string) (p *Pattern, unknown []string, err error) {
	var v map[string]any
	if err := json.Unmarshal([]byte(object), &v); err != nil {
		return nil, nil, fmt.Errorf("JSON format: %w", err)
	}
	c := jsonCompiler{}
	c.value(v)
	c.lit.WriteByte('\n')
	c.flush()
	return &Pattern{c.out}, c.unknown, nil
}

type jsonCompiler struct {
	out     []part
	lit     strings.Builder
	unknown []string
}

func (c *jsonCompiler) flush() {
	if c.lit.Len() > 0 {
		c.out = append(c.out, part{text: c.lit.String()})
		c.lit.Reset()
	}
}

func (c *jsonCompiler) value(v any) {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		c.lit.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				c.lit.WriteByte(',')
			}
			b, _ := json.Marshal(k)
			c.lit.Write(append(b, ':'))
			c.value(v[k])
		}
		c.lit.WriteByte('}')
	case []any:
		c.lit.WriteByte('[')
		for i := range v {
			if i > 0 {
				c.lit.WriteByte(',')
			}
			c.value(v[i])
		}
		c.lit.WriteByte(']')
	case string:
		c.text(v)
	default:
		b, _ := json.Marshal(v)
		c.lit.Write(b)
	}
}

// text writes a string with operators in it, or the value of the only one.
func (c *jsonCompiler) text(s string) {
	parts, unknown := compileText(s)
	c.unknown = append(c.unknown, unknown...)
	if len(parts) == 1 && parts[0].op != nil {
		c.flush()
		parts[0].typed = true
		c.out = append(c.out, parts[0])
		return
	}
	c.lit.WriteByte('"')
	for _, p := range parts {
		if p.op == nil {
			b, _ := json.Marshal(p.text)
			c.lit.Write(b[1 : len(b)-1])
			continue
		}
		c.flush()
		c.out = append(c.out, p)
	}
	c.lit.WriteByte('"')
}

// ReadsResponse reports whether values are headers of the response.
func (p *Pattern) ReadsResponse() bool {
	return slices.ContainsFunc(p.parts, func(x part) bool { return x.response })
}

// Append writes a line of a log: values are escaped, so that a client cannot forge a
// line or a field, and "-" stands for what is not there.
func (p *Pattern) Append(b []byte, r *Record) []byte {
	for i := range p.parts {
		x := &p.parts[i]
		if x.op == nil {
			b = append(b, x.text...)
			continue
		}
		if x.typed && !x.plain {
			b = append(b, '"')
		}
		from := len(b)
		v, ok := x.op(b, r)
		switch b = v; {
		case ok:
			b = escapeFrom(cut(b, from, x.limit), from)
		case x.typed && !x.plain:
			b = append(b[:from-1], "null"...)
			continue
		case x.typed:
			b = append(b[:from], "null"...)
		default:
			b = append(b[:from], '-')
		}
		if x.typed && !x.plain {
			b = append(b, '"')
		}
	}
	return b
}

// AppendRaw writes the values as they are. ok is false where all that there is to
// say is not there.
func (p *Pattern) AppendRaw(b []byte, r *Record) (out []byte, ok bool) { return p.raw(b, r, "-") }

// AppendPresent is AppendRaw with nothing in the place of what is not there, as in
// headers (Envoy: omit_empty_values).
func (p *Pattern) AppendPresent(b []byte, r *Record) (out []byte, ok bool) { return p.raw(b, r, "") }

func (p *Pattern) raw(b []byte, r *Record, none string) (out []byte, ok bool) {
	for i := range p.parts {
		x := &p.parts[i]
		if x.op == nil {
			b, ok = append(b, x.text...), true
			continue
		}
		from := len(b)
		v, there := x.op(b, r)
		if !there {
			b = append(v[:from], none...)
			continue
		}
		b, ok = cut(v, from, x.limit), true
	}
	return b, ok
}

func cut(b []byte, from, limit int) []byte {
	if limit > 0 && len(b)-from > limit {
		return b[:from+limit]
	}
	return b
}

// escapeFrom escapes what stands in b behind from.
func escapeFrom(b []byte, from int) []byte {
	for _, c := range b[from:] {
		if c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			raw := string(b[from:])
			return appendEscaped(b[:from], raw)
		}
	}
	return b
}
