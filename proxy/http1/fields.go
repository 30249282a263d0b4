package http1

import (
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// framing is what the fields of a head say about the message and its connection
// rather than about the resource.
type framing struct {
	length    int64 // of content-length, or -1
	lengthRaw string
	chunked   bool
	host      string
	hosts     int
	close     bool
	keepAlive bool
	upgrade   bool // Connection: upgrade
	websocket bool // Upgrade: websocket
	trailers  bool // TE: trailers
	expect    bool
	needed    bool   // Connection names a field that is for all on the way
	params    string // of keep-alive
}

// parseFields parses the field lines of b, which ends with the empty line, and
// appends the end-to-end ones to s.fields.
func (f *framing) parseFields(b []byte, s *scratch) *ProtocolError {
	*f = framing{length: -1}
	s.conns = s.conns[:0]
	fields := s.fields[:0]
	var te string
	var tes int
	for i := 0; len(b)-i > 2; {
		name, value, n, err := fieldLine(b[i:])
		if err != nil {
			return err
		}
		i += n
		// The length sorts out nearly every ordinary name.
		switch len(name) {
		case 2:
			if name == "te" {
				f.trailers = f.trailers || hasToken(value, "trailers")
				continue
			}
		case 4:
			if name == "host" {
				f.host = value
				f.hosts++
				continue
			}
		case 6:
			if name == "expect" && equalFold(value, "100-continue") {
				f.expect = true
				continue
			}
		case 7:
			if name == "upgrade" {
				f.websocket = f.websocket || hasToken(value, "websocket")
				continue
			}
		case 10:
			if name == "connection" {
				s.conns = append(s.conns, value)
				continue
			}
			if name == "keep-alive" {
				f.params = value
				continue
			}
		case 14:
			if name == "content-length" {
				if f.length >= 0 {
					return errLengthTwice
				}
				if f.length, err = parseLength(value); err != nil {
					return err
				}
				f.lengthRaw = value
				continue
			}
			if name == "http2-settings" {
				continue
			}
		case 16:
			if name == "proxy-connection" {
				continue
			}
		case 17:
			if name == "transfer-encoding" {
				te = value
				tes++
				continue
			}
		}
		fields = append(fields, attrs.Field{Name: name, Value: value})
	}
	s.fields = fields
	if tes > 0 {
		if tes > 1 {
			return errTE
		}
		if err := transferEncoding(te); err != nil {
			return err
		}
		if f.length >= 0 {
			return errBoth
		}
		f.chunked = true
	}
	return f.connection(s)
}

// fieldLine parses one line and lower-cases its name in place. b must end with
// CRLF behind at least one line.
func fieldLine(b []byte) (name, value string, n int, err *ProtocolError) {
	i := 0
	for {
		c := codec.LowerName[b[i]]
		if c == 0 {
			break
		}
		b[i] = c
		i++
	}
	// Also what refuses obs-fold and white space before the colon.
	if i == 0 || b[i] != ':' {
		return "", "", 0, errName
	}
	name = view(b[:i])
	i++
	v := i
	i += codec.ValueLen(b[i:])
	if b[i] != '\r' || b[i+1] != '\n' {
		return "", "", 0, errValue
	}
	return name, trimOWS(view(b[v:i])), i + 2, nil
}

// connection applies the Connection lines: options become flags, and fields they
// name are removed.
func (f *framing) connection(s *scratch) *ProtocolError {
	for _, list := range s.conns {
		for list != "" {
			var t string
			t, list = nextToken(list)
			switch {
			case t == "":
			case equalFold(t, "close"):
				f.close = true
			case equalFold(t, "keep-alive"):
				f.keepAlive = true
			case equalFold(t, "upgrade"):
				f.upgrade = true
			case !codec.ValidToken(t):
				return errConnection
			default:
				s.remove(t)
				switch {
				case equalFold(t, "expect"):
					f.expect = false
				case equalFold(t, "host"), equalFold(t, "x-forwarded-for"), equalFold(t, "x-forwarded-host"), equalFold(t, "x-forwarded-proto"):
					f.needed = true
				}
			}
		}
	}
	return nil
}

func (s *scratch) remove(name string) {
	keep := s.fields[:0]
	for _, f := range s.fields {
		if !equalFold(name, f.Name) {
			keep = append(keep, f)
		}
	}
	s.fields = keep
}

func hasToken(list, token string) bool {
	for list != "" {
		var t string
		if t, list = nextToken(list); equalFold(t, token) {
			return true
		}
	}
	return false
}

// transferEncoding accepts "chunked" alone. A list that ends in chunked is well
// formed but not ours (501); anything else has no reliable end (RFC 9112
// section 6.3) or is nonsense (400).
func transferEncoding(v string) *ProtocolError {
	if equalFold(v, "chunked") {
		return nil
	}
	var t string
	n, chunked := 0, 0
	for v != "" {
		t, v = nextToken(v)
		if i := indexByte(t, ';'); i >= 0 { // parameters of a coding
			if t = trimOWS(t[:i]); equalFold(t, "chunked") { // it has none
				return errTE
			}
		}
		if !codec.ValidToken(t) {
			return errTE
		}
		n++
		if equalFold(t, "chunked") {
			chunked++
		}
	}
	if n == 0 || chunked > 1 || chunked == 1 && !equalFold(t, "chunked") {
		return errTE
	}
	return errCoding
}

func indexByte(s string, c byte) int {
	for i := range len(s) {
		if s[i] == c {
			return i
		}
	}
	return -1
}

// parseLength accepts digits only, up to 2^63-1. A list of equal numbers, which
// RFC 9110 section 8.6 lets a recipient accept, is refused.
func parseLength(v string) (int64, *ProtocolError) {
	if v == "" || len(v) > 19 {
		return -1, errLength
	}
	var n uint64
	for i := range len(v) {
		d := v[i] - '0'
		if d > 9 {
			return -1, errLength
		}
		n = n*10 + uint64(d)
	}
	if n > 1<<63-1 {
		return -1, errLength
	}
	return int64(n), nil
}

// parseTrailers parses a trailer section and appends what may stand there.
func (s *scratch) parseTrailers(b []byte) *ProtocolError {
	out := s.trailers[:0]
	for i := 0; len(b)-i > 2; {
		name, value, n, err := fieldLine(b[i:])
		if err != nil {
			return err
		}
		i += n
		if !codec.ForbiddenTrailer(name) {
			out = append(out, attrs.Field{Name: name, Value: value})
		}
	}
	s.trailers = out
	return nil
}
