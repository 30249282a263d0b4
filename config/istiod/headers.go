package istiod

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"waypoint.dev/waypoint/routing"
)

// headerOps reads the header edits of a route, virtual host or weighted cluster, with
// the command operators that are allowed there. It returns nil when there are none.
func headerOps(add []*corev3.HeaderValueOption, remove, allowed []string) (*routing.HeaderOps, error) {
	if len(add) == 0 && len(remove) == 0 {
		return nil, nil
	}
	o := &routing.HeaderOps{}
	for _, n := range remove {
		o.Remove = append(o.Remove, strings.ToLower(n))
	}
	for _, h := range add {
		if err := addHeader(o, h, allowed); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// addHeader adds one edit. Of several overwrites of one name the last wins, as
// Envoy applies them in turn.
func addHeader(o *routing.HeaderOps, h *corev3.HeaderValueOption, allowed []string) error {
	name := strings.ToLower(h.GetHeader().GetKey())
	if name == "" {
		return fmt.Errorf("header without a name")
	}
	raw := h.GetHeader().GetValue()
	if raw == "" {
		raw = string(h.GetHeader().GetRawValue())
	}
	v, format, err := value(raw, allowed)
	if err != nil {
		return fmt.Errorf("header %s: %w", name, err)
	}
	if v == "" && format == "" && !h.GetKeepEmptyValue() {
		return nil // Envoy leaves a header that comes out empty alone
	}
	action := h.GetAppendAction()
	if a := h.GetAppend(); a != nil && !a.GetValue() {
		action = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
	}
	switch action {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		o.Add = addValue(o.Add, routing.HeaderValue{Name: name, Value: v, Format: format})
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		same := func(x routing.HeaderValue) bool { return x.Name == name }
		o.Add = slices.DeleteFunc(o.Add, same)
		o.Set = append(slices.DeleteFunc(o.Set, same), routing.HeaderValue{Name: name, Value: v, Format: format})
	default:
		return fmt.Errorf("header %s: append action %s is not supported", name, action)
	}
	return nil
}

// addValue adds a line. Lines of one name are one list (RFC 9110 section 5.3).
func addValue(to []routing.HeaderValue, v routing.HeaderValue) []routing.HeaderValue {
	i := slices.IndexFunc(to, func(x routing.HeaderValue) bool { return x.Name == v.Name })
	if i < 0 {
		return append(to, v)
	}
	if have := &to[i]; have.Format == "" && v.Format == "" {
		have.Value += "," + v.Value
	} else {
		have.Format, have.Value = asFormat(have)+","+asFormat(&v), ""
	}
	return to
}

func asFormat(v *routing.HeaderValue) string {
	if v.Format != "" {
		return v.Format
	}
	return strings.ReplaceAll(v.Value, "%", "%%")
}

// literal reads a value of Envoy's command operator language that has no
// operator: %% stands for a percent sign.
func literal(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '%' {
			b.WriteByte('%')
			i++
			continue
		}
		op := s[i:]
		if j := strings.IndexByte(op[1:], '%'); j >= 0 {
			op = op[:j+2]
		}
		return "", fmt.Errorf("command operator %s is not supported", op)
	}
	return b.String(), nil
}

// then makes the edits that first and second make one after the other. Either may
// be nil.
func then(first, second *routing.HeaderOps) *routing.HeaderOps {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	gone := func(name string) bool {
		return slices.Contains(second.Remove, name) ||
			slices.ContainsFunc(second.Set, func(h routing.HeaderValue) bool { return h.Name == name })
	}
	out := &routing.HeaderOps{}
	for _, n := range append(slices.Clone(first.Remove), second.Remove...) {
		if !slices.Contains(out.Remove, n) {
			out.Remove = append(out.Remove, n)
		}
	}
	for _, h := range first.Set {
		if !gone(h.Name) {
			out.Set = append(out.Set, h)
		}
	}
	out.Set = append(out.Set, second.Set...)
	for _, h := range first.Add {
		if !gone(h.Name) {
			out.Add = append(out.Add, h)
		}
	}
	for _, h := range second.Add {
		out.Add = addValue(out.Add, h)
	}
	return out
}
