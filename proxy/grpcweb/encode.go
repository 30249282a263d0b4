package grpcweb

import (
	"encoding/base64"
	"encoding/binary"
)

// encoder turns a stream of gRPC messages into base64. Each message is padded at
// its end, so that a client can decode it when it is there; the bytes in between
// leave as they come.
type encoder struct {
	frame frame
	carry [2]byte // bytes of the message that make no group yet
	held  int
}

// room is how many characters n more bytes can become: each message that ends
// among them may be padded, and takes at least the five bytes of its prefix.
func room(n int) int { return (n+2)/3*4 + n/5*4 + 12 }

// append encodes p behind dst.
func (e *encoder) append(dst, p []byte) []byte {
	for len(p) > 0 {
		n, ends := e.frame.next(p)
		dst = e.part(dst, p[:n], ends)
		p = p[n:]
	}
	return dst
}

// part encodes bytes of one message; ends says that nothing of it follows.
func (e *encoder) part(dst, p []byte, ends bool) []byte {
	if e.held > 0 && len(p) > 0 {
		var g [3]byte
		n := copy(g[:], e.carry[:e.held])
		m := copy(g[n:], p)
		p = p[m:]
		if n+m < 3 {
			e.held = copy(e.carry[:], g[:n+m])
		} else {
			dst = base64.StdEncoding.AppendEncode(dst, g[:])
			e.held = 0
		}
	}
	if e.held == 0 {
		whole := len(p) / 3 * 3
		dst = base64.StdEncoding.AppendEncode(dst, p[:whole])
		e.held = copy(e.carry[:], p[whole:])
	}
	if ends {
		dst = e.end(dst)
	}
	return dst
}

// end pads what is left of a message.
func (e *encoder) end(dst []byte) []byte {
	dst = base64.StdEncoding.AppendEncode(dst, e.carry[:e.held])
	e.held = 0
	return dst
}

// frame follows the length-prefixed messages of a gRPC body.
type frame struct {
	prefix [5]byte // a flag and the length (gRPC over HTTP/2, Length-Prefixed-Message)
	have   int     // bytes of prefix
	left   uint32  // bytes of the message, once prefix is whole
}

// next returns how many bytes of p belong to the message under way, and whether
// it ends behind them.
func (f *frame) next(p []byte) (n int, ends bool) {
	if f.have < len(f.prefix) {
		n = copy(f.prefix[f.have:], p)
		f.have += n
		if f.have < len(f.prefix) {
			return n, false
		}
		f.left = binary.BigEndian.Uint32(f.prefix[1:])
	}
	m := int(min(int64(f.left), int64(len(p)-n)))
	f.left -= uint32(m)
	if f.left == 0 {
		f.have = 0
		return n + m, true
	}
	return n + m, false
}
