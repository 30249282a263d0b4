package http2

import (
	"strconv"
	"unsafe"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// maxFields is Envoy's max_headers_count, as HTTP/1 has it.
const maxFields = 100

// scratch is what a converted head needs beside the engine's.
type scratch struct {
	in       []attrs.Field // received, cleaned
	out      []attrs.Field // to send
	trailers []attrs.Field
	cookie   []byte // crumbs joined
	digits   [20]byte
}

func (s *scratch) reset() {
	clear(s.in)
	clear(s.out)
	clear(s.trailers)
	s.in, s.out, s.trailers = s.in[:0], s.out[:0], s.trailers[:0]
	s.cookie = s.cookie[:0]
}

// request converts a request head that the engine found well formed (RFC 9113
// sections 8.2 and 8.3), or returns the status to refuse it with.
func (s *scratch) request(in *h2.Head, h *codec.RequestHead) int {
	*h = codec.RequestHead{
		Method: in.Method, Scheme: in.Scheme, Authority: in.Authority, Target: in.Path,
		Length: codec.LengthUnknown, Version: codec.HTTP2,
	}
	if len(in.Fields) > maxFields {
		return 431
	}
	cookies := 0
	for i := range in.Fields {
		f := in.Fields[i]
		switch f.Name {
		case "host":
			// The engine refuses one that differs from :authority.
			if h.Authority == "" {
				h.Authority = f.Value
			} else if !equalFold(h.Authority, f.Value) {
				return 400
			}
			continue
		case "content-length":
			n, ok := parseLength(f.Value)
			if !ok {
				return 400
			}
			h.Length = n
			continue
		case "te":
			h.Trailers = true
			continue
		case "expect":
			if equalFold(f.Value, "100-continue") {
				h.Expect = true
				continue
			}
		case "cookie":
			if cookies++; cookies > 1 {
				continue // joined below, in the place of the first
			}
		}
		s.in = append(s.in, f)
	}
	if cookies > 1 {
		s.joinCookies(in.Fields)
	}
	h.Fields = s.in
	if in.End {
		if h.Length > 0 {
			return 400
		}
		h.Length = codec.LengthNone
	}
	if h.Length == 0 {
		h.Expect = false
	}
	if !codec.ValidAuthority(h.Authority) || codec.Misspelled(h.Method) {
		return 400
	}
	switch {
	case h.Method == "CONNECT":
		h.Target, h.Scheme = h.Authority, "http"
		return 0
	case h.Scheme != "http" && h.Scheme != "https":
		return 400
	case !codec.ValidTarget(h.Target):
		return 400
	case h.Target[0] != '/' && (h.Target != "*" || h.Method != "OPTIONS"):
		return 400
	}
	return 0
}

// joinCookies puts crumbs together (RFC 9113 section 8.2.3), so that policies and
// an HTTP/1 backend see one field.
func (s *scratch) joinCookies(fields []attrs.Field) {
	n := 0
	for i := range fields {
		if fields[i].Name == "cookie" {
			n += len(fields[i].Value) + 2
		}
	}
	if cap(s.cookie) < n {
		s.cookie = make([]byte, 0, n)
	}
	for i := range fields {
		if fields[i].Name == "cookie" {
			if len(s.cookie) > 0 {
				s.cookie = append(s.cookie, "; "...)
			}
			s.cookie = append(s.cookie, fields[i].Value...)
		}
	}
	for i := range s.in {
		if s.in[i].Name == "cookie" {
			s.in[i].Value = unsafe.String(unsafe.SliceData(s.cookie), len(s.cookie))
			return
		}
	}
}

// response converts a response head. ok is false if it contradicts itself.
func (s *scratch) response(in *h2.Head, head bool, h *codec.ResponseHead) (ok bool) {
	*h = codec.ResponseHead{Status: in.Status, Length: codec.LengthUnknown, Version: codec.HTTP2}
	bare := head || in.Status == 204 || in.Status == 304 || in.Status < 200
	keep := head || in.Status == 304
	s.in = s.in[:0]
	for i := range in.Fields {
		f := in.Fields[i]
		switch f.Name {
		case "content-length":
			n, ok := parseLength(f.Value)
			if !ok {
				return false
			}
			if !bare {
				h.Length = n
			}
			if !keep {
				continue
			}
		case "te":
			continue
		}
		s.in = append(s.in, f)
	}
	if bare || in.End {
		if h.Length > 0 {
			return false
		}
		h.Length = codec.LengthNone
	}
	h.Fields = s.in
	return len(s.in) <= maxFields
}

// outgoing copies the end-to-end fields of a head and checks them: what policy
// added has not been looked at by any parser.
func (s *scratch) outgoing(fields []attrs.Field, keepLength bool) bool {
	s.out = s.out[:0]
	for i := range fields {
		f := &fields[i]
		switch f.Name {
		case "content-length":
			if !keepLength {
				continue
			}
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "http2-settings", "host":
			continue // RFC 9113 section 8.2.2
		}
		if !validField(f) {
			return false
		}
		s.out = append(s.out, *f)
	}
	return true
}

func (s *scratch) length(n int64) {
	b := strconv.AppendInt(s.digits[:0], n, 10)
	s.out = append(s.out, attrs.Field{Name: "content-length", Value: unsafe.String(unsafe.SliceData(b), len(b))})
}

// outTrailers is outgoing for a trailer section.
func (s *scratch) outTrailers(fields []attrs.Field) bool {
	s.out = s.out[:0]
	for i := range fields {
		if codec.ForbiddenTrailer(fields[i].Name) {
			continue
		}
		if !validField(&fields[i]) {
			return false
		}
		s.out = append(s.out, fields[i])
	}
	return true
}

// inTrailers keeps what may stand in a received trailer section.
func (s *scratch) inTrailers(h *h2.Head) []attrs.Field {
	if h == nil || len(h.Fields) > maxFields {
		return nil
	}
	s.trailers = s.trailers[:0]
	for i := range h.Fields {
		if !codec.ForbiddenTrailer(h.Fields[i].Name) {
			s.trailers = append(s.trailers, h.Fields[i])
		}
	}
	return s.trailers
}

// validField: lower case, no white space at the ends (RFC 9113 section 8.2.1).
func validField(f *attrs.Field) bool {
	if f.Name == "" || !codec.ValidValue(f.Value) {
		return false
	}
	for i := range len(f.Name) {
		if c := f.Name[i]; codec.LowerName[c] != c || c == 0 {
			return false
		}
	}
	if v := f.Value; v != "" {
		first, last := v[0], v[len(v)-1]
		return first != ' ' && first != '\t' && last != ' ' && last != '\t'
	}
	return true
}

func parseLength(v string) (int64, bool) {
	if v == "" || len(v) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(v) {
		d := v[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + int64(d)
	}
	return n, true
}

// equalFold compares without regard to ASCII case.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x >= 'A' && x <= 'Z' {
			x += 'a' - 'A'
		}
		if y >= 'A' && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

// headSize counts a head for Sent, which tells "nothing" from "something".
func headSize(h *h2.Head) (n int64) {
	n = int64(len(h.Method) + len(h.Scheme) + len(h.Authority) + len(h.Path))
	for i := range h.Fields {
		n += int64(len(h.Fields[i].Name) + len(h.Fields[i].Value))
	}
	return n
}
