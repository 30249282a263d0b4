package h2

import (
	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/internal/attrs"
)

// Heads are encoded with the static table only. A dynamic table would keep
// strings that callers only lend us, cost about 1 us a head to maintain, and
// save bytes that are cheap inside a cluster. The first block announces it
// (RFC 7541 section 6.3, a table of size 0), so no SETTINGS of the peer can
// ever demand another update.

// staticNames are the fields of the HPACK static table (RFC 7541 appendix A)
// that stand for a name; pseudo headers are encoded apart.
var staticNames = map[string]byte{
	"accept-charset": 15, "accept-encoding": 16, "accept-language": 17, "accept-ranges": 18,
	"accept": 19, "access-control-allow-origin": 20, "age": 21, "allow": 22,
	"authorization": 23, "cache-control": 24, "content-disposition": 25, "content-encoding": 26,
	"content-language": 27, "content-length": 28, "content-location": 29, "content-range": 30,
	"content-type": 31, "cookie": 32, "date": 33, "etag": 34, "expect": 35, "expires": 36,
	"from": 37, "host": 38, "if-match": 39, "if-modified-since": 40, "if-none-match": 41,
	"if-range": 42, "if-unmodified-since": 43, "last-modified": 44, "link": 45, "location": 46,
	"max-forwards": 47, "proxy-authenticate": 48, "proxy-authorization": 49, "range": 50,
	"referer": 51, "refresh": 52, "retry-after": 53, "server": 54, "set-cookie": 55,
	"strict-transport-security": 56, "transfer-encoding": 57, "user-agent": 58, "vary": 59,
	"via": 60, "www-authenticate": 61,
}

const (
	idxAuthority = 1
	idxMethod    = 2 // GET; 3 is POST
	idxPath      = 4 // "/"; 5 is "/index.html"
	idxScheme    = 6 // http; 7 is https
	idxStatus    = 8 // 200; up to 14
)

// staticStatus maps the statuses of the static table to their index.
func staticStatus(code int) byte {
	switch code {
	case 200:
		return 8
	case 204:
		return 9
	case 206:
		return 10
	case 304:
		return 11
	case 400:
		return 12
	case 404:
		return 13
	case 500:
		return 14
	}
	return 0
}

const (
	literal      = 0x00 // RFC 7541 section 6.2.2, without indexing
	literalNever = 0x10 // section 6.2.3, never indexed
)

// appendInt appends an integer behind a prefix of n bits (RFC 7541 section 5.1).
func appendInt(b []byte, first byte, n uint, v int) []byte {
	limit := 1<<n - 1
	if v < limit {
		return append(b, first|byte(v))
	}
	b = append(b, first|byte(limit))
	for v -= limit; v >= 128; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func appendString(b []byte, s string) []byte {
	return append(appendInt(b, 0, 7, len(s)), s...)
}

// appendIndexed appends a literal field whose name is entry idx.
func appendIndexed(b []byte, idx byte, v string) []byte {
	return appendString(appendInt(b, literal, 4, int(idx)), v)
}

// secret says whether a field must not enter anybody's dynamic table (RFC 7541
// section 7.1.3).
func secret(name string) bool {
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie":
		return true
	}
	return false
}

func appendField(b []byte, f *attrs.Field) []byte {
	kind := byte(literal)
	if secret(f.Name) {
		kind = literalNever
	}
	if idx := staticNames[f.Name]; idx != 0 {
		b = appendInt(b, kind, 4, int(idx))
	} else {
		b = appendString(append(b, kind), f.Name)
	}
	return appendString(b, f.Value)
}

// headSize is at least the encoded size of h: literals, with six bytes for the
// lengths of each.
func headSize(h *Head) int {
	n := 64 + len(h.Method) + len(h.Scheme) + len(h.Authority) + len(h.Path) + len(h.Protocol)
	for i := range h.Fields {
		n += 12 + len(h.Fields[i].Name) + len(h.Fields[i].Value)
	}
	return n
}

// appendBlock appends the header block of h: a request if it has a method, a
// response if it has a status, else trailers.
func appendBlock(b []byte, h *Head) []byte {
	switch {
	case h.Method != "":
		switch h.Method {
		case "GET":
			b = append(b, 0x80|idxMethod)
		case "POST":
			b = append(b, 0x80|idxMethod+1)
		default:
			b = appendIndexed(b, idxMethod, h.Method)
		}
		if h.Method != "CONNECT" || h.Protocol != "" {
			switch h.Scheme {
			case "http", "":
				b = append(b, 0x80|idxScheme)
			case "https":
				b = append(b, 0x80|idxScheme+1)
			default:
				b = appendIndexed(b, idxScheme, h.Scheme)
			}
			if h.Path == "/" {
				b = append(b, 0x80|idxPath)
			} else {
				b = appendIndexed(b, idxPath, h.Path)
			}
		}
		if h.Protocol != "" {
			b = appendString(append(b, literal), ":protocol")
			b = appendString(b, h.Protocol)
		}
		if h.Authority != "" {
			b = appendIndexed(b, idxAuthority, h.Authority)
		}
	case h.Status != 0:
		if idx := staticStatus(h.Status); idx != 0 {
			b = append(b, 0x80|idx)
		} else {
			b = appendInt(b, literal, 4, idxStatus)
			b = append(b, 3, '0'+byte(h.Status/100%10), '0'+byte(h.Status/10%10), '0'+byte(h.Status%10))
		}
	}
	for i := range h.Fields {
		b = appendField(b, &h.Fields[i])
	}
	return b
}

// appendHead appends h as HEADERS and, if it is longer than the peer's frames,
// CONTINUATION. c.mu is held.
func (c *Conn) appendHead(id uint32, h *Head, end bool) {
	c.grow(frameHeaderLen + headSize(h))
	at := len(c.wbuf)
	var f http2.Flags
	if end {
		f = http2.FlagHeadersEndStream
	}
	c.wbuf = appendFrameHeader(c.wbuf, 0, http2.FrameHeaders, f, id)
	if !c.hpackInit {
		c.hpackInit = true
		c.wbuf = append(c.wbuf, 0x20)
	}
	c.wbuf = appendBlock(c.wbuf, h)
	n := len(c.wbuf) - at - frameHeaderLen
	if n <= c.peerMaxFrame {
		c.wbuf[at], c.wbuf[at+1], c.wbuf[at+2] = byte(n>>16), byte(n>>8), byte(n)
		c.wbuf[at+4] |= byte(http2.FlagHeadersEndHeaders)
		return
	}
	// Rare: set the block aside and append it again in pieces.
	block := append([]byte(nil), c.wbuf[at+frameHeaderLen:]...)
	c.wbuf = c.wbuf[:at]
	for t := http2.FrameHeaders; ; t, f = http2.FrameContinuation, 0 {
		k := min(len(block), c.peerMaxFrame)
		if k == len(block) {
			f |= http2.FlagHeadersEndHeaders
		}
		c.grow(frameHeaderLen + k)
		c.wbuf = appendFrameHeader(c.wbuf, k, t, f, id)
		c.wbuf = append(c.wbuf, block[:k]...)
		if block = block[k:]; len(block) == 0 {
			return
		}
	}
}
