package routing

import (
	"fmt"
	"slices"

	"waypoint.dev/waypoint/internal/attrs"
)

// Apply edits the fields of a response (or trailers): remove, then set, then add. It
// works in place and grows the slice only for new lines. The values written are the
// configuration's own and outlive the exchange, but for those of formats, which are
// from's. A nil HeaderOps does nothing.
//
// Only ops out of a Compiled rule are clean of repeats and of names no filter may touch.
func (o *HeaderOps) Apply(h []attrs.Field, from Values) []attrs.Field {
	if o == nil {
		return h
	}
	for _, name := range o.Remove {
		h = removeField(h, name)
	}
	for i := range o.Set {
		if v, ok := o.Set[i].value(from); ok {
			h = setField(h, o.Set[i].Name, v)
		}
	}
	return o.add(h, from)
}

func (o *HeaderOps) add(h []attrs.Field, from Values) []attrs.Field {
	for i := range o.Add {
		if v, ok := o.Add[i].value(from); ok {
			h = append(h, attrs.Field{Name: o.Add[i].Name, Value: v})
		}
	}
	return h
}

// ApplyRequest is Apply for a request: setting host or :authority changes the authority.
func (o *HeaderOps) ApplyRequest(h []attrs.Field, authority string, from Values) ([]attrs.Field, string) {
	if o == nil {
		return h, authority
	}
	for _, name := range o.Remove {
		h = removeField(h, name)
	}
	for i := range o.Set {
		if isHost(o.Set[i].Name) {
			authority = o.Set[i].Value
			continue
		}
		if v, ok := o.Set[i].value(from); ok {
			h = setField(h, o.Set[i].Name, v)
		}
	}
	return o.add(h, from), authority
}

// RequestHeaders applies the header filters of the chosen backend (nil: none), then
// the rule's: the less specific last, which is Envoy's order.
func (c *Compiled) RequestHeaders(b *CompiledBackend, h []attrs.Field, authority string, from Values) ([]attrs.Field, string) {
	if b != nil {
		h, authority = b.Request.ApplyRequest(h, authority, from)
	}
	return c.Request.ApplyRequest(h, authority, from)
}

// ReplyHeaders does the same to a response.
func (c *Compiled) ReplyHeaders(b *CompiledBackend, h []attrs.Field, from Values) []attrs.Field {
	if b != nil {
		h = b.Reply.Apply(h, from)
	}
	return c.Reply.Apply(h, from)
}

// setField leaves exactly one line of name, in the place of the first.
func setField(h []attrs.Field, name, value string) []attrs.Field {
	at, more := firstField(h, name)
	if at < 0 {
		return append(h, attrs.Field{Name: name, Value: value})
	}
	h[at].Value = value
	if !more {
		return h
	}
	return h[:at+1+len(removeField(h[at+1:], name))]
}

func removeField(h []attrs.Field, name string) []attrs.Field {
	out := h[:0]
	for i := range h {
		if h[i].Name != name {
			out = append(out, h[i])
		}
	}
	return out
}

func isHost(name string) bool { return name == "host" || name == ":authority" }

// framing are fields that the codec owns: a filter that wrote them would make the two
// sides of the waypoint disagree on where a message ends (RFC 9112 section 6, RFC
// 9113 section 8.2.2).
var framing = []string{"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

// headerOps checks ops and drops repeats: of one name in a list the first counts.
func (c *compiler) headerOps(field string, o *HeaderOps, request bool) *HeaderOps {
	if o == nil {
		return nil
	}
	out := &HeaderOps{
		Set: c.headerValues(field+".set", o.Set, request),
		Add: c.headerValues(field+".add", o.Add, false),
	}
	for i, name := range o.Remove {
		at := fmt.Sprintf("%s.remove[%d]", field, i)
		name = lowerASCII(name)
		if c.headerName(at, name, false) && !slices.Contains(out.Remove, name) {
			out.Remove = append(out.Remove, name)
		}
	}
	if len(out.Set)+len(out.Add)+len(out.Remove) == 0 {
		return nil
	}
	return out
}

func (c *compiler) headerValues(field string, in []HeaderValue, host bool) []HeaderValue {
	var out []HeaderValue
	for i, v := range in {
		at := fmt.Sprintf("%s[%d]", field, i)
		v.Name = lowerASCII(v.Name)
		if !c.headerName(at, v.Name, host) {
			continue
		}
		if v.Format != "" && isHost(v.Name) {
			c.errorf(true, at, "the host cannot be a format")
			continue
		}
		if !validValue(v.Value) || isHost(v.Name) && !validHost(v.Value) {
			c.errorf(true, at, "invalid value %q of %s", v.Value, v.Name)
			continue
		}
		if !slices.ContainsFunc(out, func(o HeaderValue) bool {
			return o.Name == v.Name || isHost(o.Name) && isHost(v.Name)
		}) {
			out = append(out, v)
		}
	}
	return out
}

// headerName reports whether a filter may touch name.
func (c *compiler) headerName(field, name string, host bool) bool {
	switch {
	case isHost(name):
		if !host {
			c.errorf(true, field, "%s can only be set, and only in requests", name)
		}
		return host
	case !validToken(name):
		c.errorf(true, field, "invalid header name %q", name)
		return false
	case slices.Contains(framing, name):
		c.errorf(false, field, "%s belongs to the connection and is left alone", name)
		return false
	}
	return true
}

// validToken follows RFC 9110 section 5.6.2.
func validToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '!' || c == '#' || c == '$' || c == '%' || c == '&' || c == '\'' || c == '*' || c == '+' ||
			c == '-' || c == '.' || c == '^' || c == '_' || c == '`' || c == '|' || c == '~':
		default:
			return false
		}
	}
	return s != ""
}

// ValidName reports whether configuration may write the header: the name is in lower
// case, and neither framing nor the host.
func ValidName(s string) bool {
	return validToken(s) && lowerASCII(s) == s && !isHost(s) && !slices.Contains(framing, s)
}

// ValidValue reports whether s can be the value of a header.
func ValidValue(s string) bool { return validValue(s) }

// validValue follows RFC 9110 section 5.5: no controls but tab, no outer whitespace.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	n := len(s)
	return n == 0 || s[0] != ' ' && s[0] != '\t' && s[n-1] != ' ' && s[n-1] != '\t'
}

// validHost refuses what would end or split an authority.
func validHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '/' || c == '\\' || c == '?' || c == '#' || c == '@' || c == '"' || c == '<' || c == '>' {
			return false
		}
	}
	return s != ""
}
