package grpcweb

import (
	"errors"
	"io"

	"waypoint.dev/waypoint/proxy/codec"
)

// Why a request body is refused, in the words of Envoy's response code details.
var (
	ErrSize = errors.New("grpc_base_64_decode_failed_bad_size")
	ErrData = errors.New("grpc_base_64_decode_failed")
)

// Refusal is what Envoy answers to a body that is no base64.
const Refusal = "Bad gRPC-web request, invalid base64 data."

// decoder turns base64 into bytes as they come.
type decoder struct {
	carry   [Carry]byte // characters of a group of four that is not complete
	carried int
	rest    [3]byte // decoded bytes that had no room, the last left of them
	left    int
	eof     bool
}

func refused(err error) error {
	return &codec.Error{Kind: codec.Protocol, Remote: true, Status: 400, Err: err}
}

// Carry is how many characters of one piece are decoded with the next at most.
const Carry = 3

// feed decodes a piece into dst, which has room for it and Carry bytes more. last
// says that no other follows.
func (d *decoder) feed(dst, p []byte, last bool) (int, error) {
	have := copy(dst, d.carry[:d.carried])
	have += copy(dst[have:], p)
	d.carried = copy(d.carry[:], dst[have/4*4:have])
	n, ok := decode(dst[:have/4*4])
	switch {
	case !ok:
		return 0, refused(ErrData)
	case last && d.carried > 0:
		return 0, refused(ErrSize)
	}
	d.eof = last
	return n, nil
}

// read fills p with decoded bytes of r.
func (d *decoder) read(r func([]byte) (int, error), p []byte) (int, error) {
	for len(p) > 0 {
		if d.left > 0 {
			n := copy(p, d.rest[3-d.left:])
			d.left -= n
			return n, nil
		}
		if d.eof {
			return 0, io.EOF
		}
		var group [4]byte
		b := p
		if len(p) < len(group) {
			b = group[:]
		}
		have := copy(b, d.carry[:d.carried])
		n, err := r(b[have:])
		have += n
		d.carried = copy(d.carry[:], b[have/4*4:have])
		switch {
		case err == io.EOF && d.carried > 0:
			return 0, refused(ErrSize)
		case err != nil && err != io.EOF:
			return 0, err
		}
		d.eof = err == io.EOF
		m, ok := decode(b[:have/4*4])
		switch {
		case !ok:
			return 0, refused(ErrData)
		case len(p) < len(group):
			d.left = copy(d.rest[3-m:], b[:m])
		case m > 0:
			return m, nil
		}
	}
	return 0, nil
}

// decode replaces the whole groups of four characters in b by what they mean and
// returns how many bytes that is. A client may have encoded its messages one by
// one, so padding may end any group (PROTOCOL-WEB.md, "Message framing"). Bits
// that padding leaves over have to be 0 (RFC 4648 section 3.5).
func decode(b []byte) (n int, ok bool) {
	for i := 0; i+4 <= len(b); i += 4 {
		c2, c3 := b[i+2], b[i+3]
		v0, v1, v2, v3 := values[b[i]], values[b[i+1]], values[c2], values[c3]
		switch {
		case c2 == '=' && c3 == '=':
			if v0|v1 > 63 || v1&15 != 0 {
				return 0, false
			}
			b[n] = v0<<2 | v1>>4
			n++
		case c3 == '=':
			if v0|v1|v2 > 63 || v2&3 != 0 {
				return 0, false
			}
			b[n], b[n+1] = v0<<2|v1>>4, v1<<4|v2>>2
			n += 2
		default:
			if v0|v1|v2|v3 > 63 {
				return 0, false
			}
			b[n], b[n+1], b[n+2] = v0<<2|v1>>4, v1<<4|v2>>2, v2<<6|v3
			n += 3
		}
	}
	return n, true
}

// values of the characters of base64 (RFC 4648 section 4); 0xff: none of them.
var values = func() (t [256]byte) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	return t
}()
