package h2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"waypoint.dev/waypoint/internal/attrs"
)

// Which pseudo headers a head had.
const (
	hasMethod = 1 << iota
	hasScheme
	hasAuthority
	hasPath
	hasProtocol
	hasStatus
)

// A headAssembler collects one head from its HEADERS and CONTINUATION frames.
// Owned by the reader.
type headAssembler struct {
	id        uint32
	end       bool // END_STREAM
	selfDep   bool // its priority depends on itself
	frames    int
	bytes     int // of the encoded block
	size      uint32
	tooLarge  bool
	seen      int // pseudo headers
	regular   bool
	malformed string // why; empty: fine so far
	length    int64  // content-length; -1: none
	host      string
	hasHost   bool
	head      Head
}

// beginHead resets the assembler for a head of stream id.
func (c *Conn) beginHead(id uint32, end bool) {
	c.asm = headAssembler{id: id, end: end, length: -1}
	clear(c.fields)
	c.fields = c.fields[:0]
	c.dec.SetEmitEnabled(true)
}

// onField takes one decoded field. It goes on after an error, since the
// compression state must follow the whole block.
func (c *Conn) onField(f hpack.HeaderField) {
	a := &c.asm
	a.size += f.Size()
	if a.size > c.cfg.MaxHeaderListSize || a.size < f.Size() {
		a.tooLarge = true
		c.dec.SetEmitEnabled(false)
		return
	}
	if a.malformed != "" {
		return
	}
	if len(f.Name) > 0 && f.Name[0] == ':' {
		a.malformed = a.pseudo(f.Name, f.Value)
		return
	}
	a.regular = true
	if a.malformed = a.field(f.Name, f.Value); a.malformed == "" {
		c.fields = append(c.fields, attrs.Field{Name: f.Name, Value: f.Value})
	}
}

// pseudo takes a pseudo header field (RFC 9113 section 8.3) and returns what is
// wrong with it.
func (a *headAssembler) pseudo(name, value string) string {
	if a.regular {
		return "pseudo header after a field"
	}
	var bit int
	var dst *string
	switch name {
	case ":method":
		bit, dst = hasMethod, &a.head.Method
	case ":scheme":
		bit, dst = hasScheme, &a.head.Scheme
	case ":authority":
		bit, dst = hasAuthority, &a.head.Authority
	case ":path":
		bit, dst = hasPath, &a.head.Path
	case ":protocol":
		bit, dst = hasProtocol, &a.head.Protocol
	case ":status":
		bit = hasStatus
		if len(value) != 3 || value[0] < '1' || value[0] > '9' || !digits(value) {
			return "bad :status"
		}
		a.head.Status = int(value[0]-'0')*100 + int(value[1]-'0')*10 + int(value[2]-'0')
	default:
		return "unknown pseudo header"
	}
	if a.seen&bit != 0 {
		return "pseudo header twice"
	}
	a.seen |= bit
	if dst != nil {
		*dst = value
	}
	return ""
}

// field checks an ordinary field (RFC 9113 sections 8.2.1 and 8.2.2).
func (a *headAssembler) field(name, value string) string {
	if name == "" {
		return "empty field name"
	}
	for i := 0; i < len(name); i++ {
		if !nameByte[name[i]] {
			return "bad field name"
		}
	}
	if !validValue(value) {
		return "bad value of field " + name
	}
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return "connection-specific field " + name
	case "te":
		if !strings.EqualFold(value, "trailers") {
			return "te other than trailers"
		}
	case "host":
		if a.hasHost && a.host != value {
			return "two hosts"
		}
		a.host, a.hasHost = value, true
	case "content-length":
		n, ok := parseLength(value)
		if !ok || a.length >= 0 && a.length != n {
			return "bad content-length"
		}
		a.length = n
	}
	return ""
}

// nameByte marks what a field name may hold: the tchar of RFC 9110 section
// 5.6.2 without upper case.
var nameByte = func() (t [256]bool) {
	for _, b := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[b] = true
	}
	return t
}()

// methodByte is tchar, upper case included.
func methodByte(b byte) bool { return nameByte[b] || b >= 'A' && b <= 'Z' }

// validValue holds for a value without NUL, CR, LF and other control characters
// and without white space at its ends (RFC 9113 section 8.2.1, RFC 9110 5.5).
func validValue(v string) bool {
	if v == "" {
		return true
	}
	if first, last := v[0], v[len(v)-1]; first == ' ' || first == '\t' || last == ' ' || last == '\t' {
		return false
	}
	for i := 0; i < len(v); i++ {
		if b := v[i]; b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// visible holds for text without controls and spaces, as in a URI.
func visible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// parseLength reads a content-length of at most 18 digits.
func parseLength(s string) (int64, bool) {
	if !digits(s) || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s); i++ {
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// checkRequest returns what is wrong with a request head (RFC 9113 sections
// 8.3.1 and 8.5).
func (a *headAssembler) checkRequest() string {
	h := &a.head
	switch {
	case a.malformed != "":
		return a.malformed
	case a.seen&hasStatus != 0:
		return ":status in a request"
	case a.seen&hasProtocol != 0:
		return ":protocol without SETTINGS_ENABLE_CONNECT_PROTOCOL"
	case h.Method == "":
		return "no :method"
	case !visible(h.Authority) || strings.IndexByte(h.Authority, '@') >= 0:
		return "bad :authority"
	}
	for i := 0; i < len(h.Method); i++ {
		if !methodByte(h.Method[i]) {
			return "bad :method"
		}
	}
	if a.hasHost && a.seen&hasAuthority != 0 && !strings.EqualFold(a.host, h.Authority) {
		return "host differs from :authority"
	}
	if h.Method == "CONNECT" {
		switch {
		case a.seen&(hasScheme|hasPath) != 0:
			return ":scheme or :path in CONNECT"
		case h.Authority == "":
			return "CONNECT without :authority"
		}
		return ""
	}
	switch {
	case !validScheme(h.Scheme):
		return "no :scheme"
	case h.Path == "" || !visible(h.Path):
		return "bad :path"
	case h.Path[0] != '/' && (h.Path != "*" || h.Method != "OPTIONS") && (h.Scheme == "http" || h.Scheme == "https"):
		return "bad :path"
	}
	return ""
}

// validScheme holds for the scheme of RFC 3986 section 3.1.
func validScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z':
		case i > 0 && (b >= '0' && b <= '9' || b == '+' || b == '-' || b == '.'):
		default:
			return false
		}
	}
	return s != ""
}

// checkResponse returns what is wrong with a response head.
func (a *headAssembler) checkResponse() string {
	switch {
	case a.malformed != "":
		return a.malformed
	case a.seen != hasStatus:
		return "pseudo headers of a response are not just :status"
	case a.head.Status == 101:
		return "101 does not exist in HTTP/2" // RFC 9113 section 8.6
	case a.head.Status < 200 && a.end:
		return "interim response ends the stream"
	}
	return ""
}

// checkTrailers returns what is wrong with a trailer section.
func (a *headAssembler) checkTrailers() string {
	switch {
	case a.malformed != "":
		return a.malformed
	case a.seen != 0:
		return "pseudo header in trailers"
	case !a.end:
		return "trailers do not end the stream"
	}
	return ""
}

// takeHead returns the assembled head in h, with fields of its own.
func (c *Conn) takeHead(h *Head) {
	*h = c.asm.head
	h.End = c.asm.end
	if len(c.fields) > 0 {
		h.Fields = append(make([]attrs.Field, 0, len(c.fields)), c.fields...)
	}
}
