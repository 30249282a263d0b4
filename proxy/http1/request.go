package http1

import (
	"strings"

	"waypoint.dev/waypoint/proxy/codec"
)

// parseRequestLine parses line, without CRLF. Its result borrows line.
func parseRequestLine(line []byte, h *codec.RequestHead, allow10 bool) *ProtocolError {
	s := view(line)
	sp := strings.IndexByte(s, ' ')
	last := strings.LastIndexByte(s, ' ')
	if sp <= 0 || sp == last {
		return errRequestLine // HTTP/0.9 too
	}
	h.Method, h.Target = s[:sp], s[sp+1:last]
	if !codec.ValidToken(h.Method) || codec.Misspelled(h.Method) {
		return errMethod
	}
	switch v := s[last+1:]; {
	case v == "HTTP/1.1":
		h.Version = codec.HTTP11
	case v == "HTTP/1.0":
		h.Version = codec.HTTP10
	case wellFormedVersion(v):
		return errVersion
	default:
		return errRequestLine
	}
	if !codec.ValidTarget(h.Target) {
		return errTarget
	}
	if h.Version == codec.HTTP10 && !allow10 {
		return errOldVersion
	}
	return nil
}

// wellFormedVersion accepts HTTP/d.d but for HTTP/0.9, which had no version.
func wellFormedVersion(v string) bool {
	return len(v) == 8 && v[:5] == "HTTP/" && v[5] >= '1' && v[5] <= '9' && v[6] == '.' && v[7] >= '0' && v[7] <= '9'
}

// parseRequest parses a whole head, of whose start line first octets are before
// its CRLF. The fields of h and s borrow b, which it may change in place.
func parseRequest(b []byte, first int, h *codec.RequestHead, f *framing, s *scratch, allow10 bool) *ProtocolError {
	*h = codec.RequestHead{Scheme: "http"}
	if err := parseRequestLine(b[:first], h, allow10); err != nil {
		return err
	}
	if err := f.parseFields(b[first+2:], s); err != nil {
		return err
	}
	switch {
	case f.hosts > 1:
		return errHostTwice
	case f.hosts == 0:
		return errHostMissing
	case !codec.ValidAuthority(f.host):
		return errHost
	case f.needed:
		return errNeeded
	}
	h.Authority = f.host
	if err := parseTarget(b, h); err != nil {
		return err
	}
	h.Length = max(f.length, 0)
	if f.chunked {
		if h.Version == codec.HTTP10 {
			return errTE10
		}
		h.Length = codec.LengthUnknown
	}
	h.Fields = s.fields
	h.Trailers = f.trailers
	h.Close = f.close || h.Version == codec.HTTP10 && !f.keepAlive
	// A client that waits for 100 has a body to send (RFC 9110 section 10.1.1).
	h.Expect = f.expect && h.Version == codec.HTTP11 && h.Length != 0
	// RFC 6455 section 4.1: GET, HTTP/1.1. With content the switch could not be
	// told from the content's end.
	if f.upgrade && f.websocket && h.Method == "GET" && h.Version == codec.HTTP11 && h.Length == 0 {
		h.Upgrade = "websocket"
	}
	return nil
}

// parseTarget takes the four forms of RFC 9112 section 3.2 apart.
func parseTarget(b []byte, h *codec.RequestHead) *ProtocolError {
	t := h.Target
	switch {
	case h.Method == "CONNECT":
		// authority-form has a port (RFC 9112 section 3.2.3).
		if i := strings.LastIndexByte(t, ':'); i < 0 || t[len(t)-1] == ']' || !codec.ValidAuthority(t) {
			return errTarget
		}
		h.Authority = t
		return nil
	case t[0] == '/':
		return nil
	case t == "*":
		if h.Method != "OPTIONS" {
			return errTarget
		}
		return nil
	}
	// absolute-form: its authority replaces that of Host.
	n := strings.Index(t, "://")
	switch {
	case n < 0:
		return errTarget
	case equalFold(t[:n], "http"):
		h.Scheme = "http"
	case equalFold(t[:n], "https"):
		h.Scheme = "https"
	default:
		return errTarget
	}
	t = t[n+3:]
	end := strings.IndexAny(t, "/?#")
	if end < 0 {
		end = len(t)
	}
	h.Authority = t[:end]
	if !codec.ValidAuthority(h.Authority) {
		return errTarget
	}
	switch {
	case end == len(t):
		h.Target = "/"
		if h.Method == "OPTIONS" {
			h.Target = "*" // RFC 9112 section 3.2.4
		}
	case t[end] == '/':
		h.Target = t[end:]
	default:
		// "http://h?q" lacks its slash. The authority moves one octet left, over
		// the last slash of "://", and the slash takes the place this leaves.
		at := len(h.Method) + 1 + n + 3
		copy(b[at-1:], b[at:at+end])
		b[at+end-1] = '/'
		h.Authority = view(b[at-1 : at-1+end])
		h.Target = view(b[at+end-1 : at+len(t)])
	}
	return nil
}
