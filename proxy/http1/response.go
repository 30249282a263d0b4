package http1

import (
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// parseStatusLine parses line, without CRLF. The reason phrase is dropped; a
// missing space before an empty one is let pass, since it is common and no
// framing hangs on it.
func parseStatusLine(line []byte, h *codec.ResponseHead) *ProtocolError {
	s := view(line)
	if len(s) < len("HTTP/1.1 200") || s[:7] != "HTTP/1." || s[8] != ' ' {
		return errStatusLine
	}
	switch s[7] {
	case '1':
		h.Version = codec.HTTP11
	case '0':
		h.Version = codec.HTTP10
	default:
		return errStatusLine
	}
	for _, c := range []byte(s[9:12]) {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		h.Status = h.Status*10 + int(c-'0')
	}
	if h.Status < 100 || len(s) > 12 && s[12] != ' ' || !codec.ValidValue(s) {
		return errStatusLine
	}
	return nil
}

// parseResponse parses a whole head as the answer to method. It returns how the
// body is framed (RFC 9112 section 6.3).
func parseResponse(b []byte, first int, method string, h *codec.ResponseHead, f *framing, s *scratch) (bodyKind, *ProtocolError) {
	*h = codec.ResponseHead{}
	if err := parseStatusLine(b[:first], h); err != nil {
		return bodyNone, err
	}
	if err := f.parseFields(b[first+2:], s); err != nil {
		return bodyNone, err
	}
	if f.chunked && h.Version == codec.HTTP10 {
		return bodyNone, errTE10
	}
	if f.hosts > 0 { // only a request has one, but here it is an ordinary field
		s.fields = append(s.fields, attrs.Field{Name: "host", Value: f.host})
	}
	h.Close = f.close || h.Version == codec.HTTP10 && !f.keepAlive
	if h.Status == 101 && f.upgrade && f.websocket {
		h.Upgrade = "websocket"
	}
	kind := bodyNone
	switch {
	case h.Status < 200 || h.Status == 204:
	case method == "HEAD" || h.Status == 304:
		if f.length >= 0 {
			s.fields = append(s.fields, attrs.Field{Name: "content-length", Value: f.lengthRaw})
		}
	case f.chunked:
		kind, h.Length = bodyChunked, codec.LengthUnknown
	case f.length >= 0:
		h.Length = f.length
		if f.length > 0 {
			kind = bodyLength
		}
	default:
		kind, h.Length, h.Close = bodyUntilClose, codec.LengthUnknown, true
	}
	h.Fields = s.fields
	return kind, nil
}
