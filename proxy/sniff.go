package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/http1"
)

// protocol is what the first bytes of a tunnel turned out to be.
type protocol uint8

const (
	protoUnknown protocol = iota // not enough bytes yet
	protoHTTP1
	protoHTTP2
	protoTLS
	protoOther // bytes that are none of these
)

// String returns the word that logs use.
func (p protocol) String() string {
	return [...]string{"unknown", "http/1", "http/2", "tls", "other"}[p]
}

// preface opens an HTTP/2 connection with prior knowledge (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	// maxMethod is longer than any registered method (RFC 9110 section 18.2).
	maxMethod = 32
	// maxHello bounds what is read for a TLS client hello: four records of the
	// largest size would already be absurd, and one is the common case.
	maxHello = 16<<10 + 5
	// sniffBuffer holds nearly every request head and every usual hello.
	sniffBuffer = 4 << 10
)

// sniffed is what was learnt of a tunnel's first bytes. The bytes are owned by
// the caller until release.
type sniffed struct {
	proto protocol
	sni   string // owned string; set for TLS when the hello names a server
	buf   *buf.Buf
	n     int
}

func (s *sniffed) bytes() []byte {
	if s.buf == nil {
		return nil
	}
	return s.buf.B[:s.n]
}

func (s *sniffed) release() {
	s.buf.Release()
	s.buf, s.n = nil, 0
}

// errSilent means that the peer sent nothing within the wait.
var errSilent = errors.New("proxy: no byte within the detection timeout")

// sniff reads until the protocol is known or wait has passed since the first
// byte. patient says that the first byte itself may take for ever: nothing but
// HTTP can follow, so an idle connection is just an idle connection.
//
// A peer that stays silent gives errSilent, and the tunnel is still usable.
func sniff(c http1.Conn, wait time.Duration, patient bool) (sniffed, error) {
	var s sniffed
	if patient {
		if w, ok := c.(interface{ WaitReadable() error }); ok {
			// An idle tunnel owns no buffer.
			if err := w.WaitReadable(); err != nil {
				return s, err
			}
		}
	} else if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return s, err
	}
	s.buf = buf.Take(sniffBuffer)
	for {
		n, err := c.Read(s.buf.B[s.n:])
		if n > 0 && s.n == 0 && patient {
			if derr := c.SetReadDeadline(time.Now().Add(wait)); derr != nil {
				return s, derr
			}
		}
		s.n += n
		var need bool
		s.proto, need = classify(s.bytes())
		if s.proto == protoTLS {
			s.sni, need = helloSNI(s.bytes())
		}
		if !need {
			return s, c.SetReadDeadline(time.Time{})
		}
		if err != nil {
			return s, s.short(c, err)
		}
		if s.n == len(s.buf.B) {
			if s.n >= maxHello {
				return s, c.SetReadDeadline(time.Time{})
			}
			s.buf = buf.Grow(s.buf, s.n, min(2*s.n, maxHello))
		}
	}
}

// short decides what an end of input before a decision means.
func (s *sniffed) short(c http1.Conn, err error) error {
	if s.proto == protoUnknown && s.n > 0 {
		s.proto = protoOther
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		if derr := c.SetReadDeadline(time.Time{}); derr != nil {
			return derr
		}
		if s.n == 0 {
			return errSilent
		}
		return nil
	case errors.Is(err, io.EOF) && s.n > 0:
		return nil
	}
	return err
}

// classify names the protocol of b, or says that more bytes are needed.
//
// HTTP/1 is a method token, one space and the start of a request target: "/",
// "*", a scheme, or anything behind CONNECT. Line protocols such as SMTP or
// Redis differ from that within their first words, so a few bytes decide.
func classify(b []byte) (p protocol, more bool) {
	// RFC 9112 section 2.2: a server ignores an empty line before a request.
	for len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		b = b[2:]
	}
	if len(b) == 0 || len(b) == 1 && b[0] == '\r' {
		return protoUnknown, true
	}
	if b[0] == 0x16 {
		switch {
		case len(b) < 3:
			return protoUnknown, true
		case b[1] == 3 && b[2] <= 4:
			return protoTLS, false
		}
		return protoOther, false
	}
	if len(b) >= len(preface) && string(b[:len(preface)]) == preface {
		return protoHTTP2, false
	}
	if len(b) < len(preface) && string(b) == preface[:len(b)] {
		return protoUnknown, true
	}
	i := 0
	for i < len(b) && i <= maxMethod && isTchar(b[i]) {
		i++
	}
	switch {
	case i == 0 || i > maxMethod:
		return protoOther, false
	case i == len(b):
		return protoUnknown, true
	case b[i] != ' ':
		return protoOther, false
	}
	method, rest := b[:i], b[i+1:]
	if len(rest) == 0 {
		return protoUnknown, true
	}
	if rest[0] == '/' || rest[0] == '*' || string(method) == "CONNECT" {
		return protoHTTP1, false
	}
	for _, scheme := range [...]string{"http://", "https://"} {
		n := min(len(scheme), len(rest))
		if foldEqual(rest[:n], scheme[:n]) {
			if n == len(scheme) {
				return protoHTTP1, false
			}
			return protoUnknown, true
		}
	}
	return protoOther, false
}

func foldEqual(b []byte, lower string) bool {
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isTchar reports whether c may stand in a token (RFC 9110 section 5.6.2).
func isTchar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

// helloSNI returns the server name of the TLS client hello in b (RFC 8446
// section 4.1.2, RFC 6066 section 3), and whether more bytes are needed to say.
// A hello that does not parse has no name. The hello may span records.
func helloSNI(b []byte) (name string, more bool) {
	if len(b) < 5 {
		return "", len(b) > 0 && b[0] == 0x16
	}
	if b[0] != 0x16 {
		return "", false
	}
	n := int(binary.BigEndian.Uint16(b[3:5]))
	if n == 0 || n > 16<<10 {
		return "", false
	}
	var msg []byte
	if len(b) >= 5+n {
		msg = b[5 : 5+n]
	} else {
		return "", true
	}
	if len(msg) < 4 || msg[0] != 1 {
		return "", false
	}
	want := 4 + int(msg[1])<<16 + int(msg[2])<<8 + int(msg[3])
	if want > maxHello {
		return "", false
	}
	if want > len(msg) {
		// Continued in further records: put the pieces together.
		msg = append(make([]byte, 0, want), msg...)
		rest := b[5+n:]
		for len(msg) < want {
			if len(rest) < 5 {
				return "", true
			}
			n := int(binary.BigEndian.Uint16(rest[3:5]))
			if rest[0] != 0x16 || n == 0 || n > 16<<10 {
				return "", false
			}
			if len(rest) < 5+n {
				return "", true
			}
			msg = append(msg, rest[5:5+n]...)
			rest = rest[5+n:]
		}
	}
	return extensionSNI(msg[4:want]), false
}

// extensionSNI walks a client hello body to its server_name extension.
func extensionSNI(b []byte) string {
	ok := skip(&b, 2+32) && skipVector(&b, 1) && skipVector(&b, 2) && skipVector(&b, 1)
	if !ok || len(b) < 2 {
		return ""
	}
	exts, ok := vector(&b, 2)
	for ok && len(exts) >= 4 {
		kind := binary.BigEndian.Uint16(exts)
		exts = exts[2:]
		var data []byte
		if data, ok = vector(&exts, 2); !ok || kind != 0 {
			continue
		}
		list, ok := vector(&data, 2)
		for ok && len(list) >= 3 {
			kind := list[0]
			list = list[1:]
			var host []byte
			if host, ok = vector(&list, 2); ok && kind == 0 {
				return string(host)
			}
		}
		return ""
	}
	return ""
}

func skip(b *[]byte, n int) bool {
	if len(*b) < n {
		return false
	}
	*b = (*b)[n:]
	return true
}

// vector cuts a length-prefixed vector whose length takes size bytes.
func vector(b *[]byte, size int) ([]byte, bool) {
	if len(*b) < size {
		return nil, false
	}
	n := 0
	for _, c := range (*b)[:size] {
		n = n<<8 | int(c)
	}
	if len(*b) < size+n {
		return nil, false
	}
	v := (*b)[size : size+n]
	*b = (*b)[size+n:]
	return v, true
}

func skipVector(b *[]byte, size int) bool {
	_, ok := vector(b, size)
	return ok
}
