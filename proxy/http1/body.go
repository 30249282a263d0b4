package http1

import (
	"io"

	"waypoint.dev/waypoint/proxy/codec"
)

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyUntilClose
)

// chunk states
const (
	atSize uint8 = iota
	atData
	atDataEnd
	atTrailers
)

const (
	// maxChunkLine bounds one chunk-size line; maxExtensions all extensions of a
	// body. RFC 9112 section 7.1.1 asks for a limit; net/http has 16 KiB too.
	maxChunkLine  = 4 << 10
	maxExtensions = 16 << 10

	// directRead is from where on bytes go straight to the caller. Below it one
	// read into the buffer brings the next chunk's size along.
	directRead = 4 << 10
)

// body reads the content of one message.
type body struct {
	kind  bodyKind
	done  bool
	state uint8
	left  int64 // of the content or of the current chunk
	n     int64 // content octets delivered
	ext   int   // octets of chunk extensions
	scan  scan  // of the trailers
	err   error // sticky
}

func (d *body) start(kind bodyKind, length int64) {
	*d = body{kind: kind, left: length, done: kind == bodyNone}
}

// read delivers content as it comes. It may return n > 0 with io.EOF.
func (d *body) read(in *input, s *scratch, l *limits, p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.done {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := d.some(in, s, l, p)
	d.n += int64(n)
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

func (d *body) some(in *input, s *scratch, l *limits, p []byte) (int, error) {
	if d.kind == bodyChunked {
		for d.state != atData {
			ok, err := d.chunk(in, s, l)
			switch {
			case err != nil:
				return 0, protocolError(err)
			case d.done:
				return 0, io.EOF
			case !ok:
				if err := in.fill(); err != nil {
					return 0, ioError(err, codec.Truncated)
				}
			}
		}
	}
	if d.kind != bodyUntilClose && int64(len(p)) > d.left {
		p = p[:d.left]
	}
	if in.buffered() == 0 {
		if d.kind == bodyChunked && len(p) < directRead {
			if err := in.fill(); err != nil {
				return 0, ioError(err, codec.Truncated)
			}
		} else {
			return d.direct(in, p)
		}
	}
	n := copy(p, in.bytes())
	in.r += n
	return n, d.delivered(in, s, l, n)
}

// direct reads from the connection past the buffer.
func (d *body) direct(in *input, p []byte) (int, error) {
	err := in.err
	if err == nil {
		var n int
		if n, err = in.c.Read(p); err != nil {
			in.fail(err)
		}
		if n > 0 || err == nil {
			return n, d.delivered(in, nil, nil, n)
		}
	}
	if err == io.EOF && d.kind == bodyUntilClose {
		d.done = true
		return 0, io.EOF
	}
	return 0, ioError(err, codec.Truncated)
}

// delivered counts n octets and looks whether the end is already here.
func (d *body) delivered(in *input, s *scratch, l *limits, n int) error {
	if d.kind == bodyUntilClose {
		return nil
	}
	if d.left -= int64(n); d.left > 0 {
		return nil
	}
	if d.kind == bodyLength {
		d.done = true
		return io.EOF
	}
	d.state = atDataEnd
	for s != nil && d.state != atData {
		ok, err := d.chunk(in, s, l)
		if err != nil {
			d.err = protocolError(err) // behind n good octets
			return nil
		}
		if d.done {
			return io.EOF
		}
		if !ok {
			return nil
		}
	}
	return nil
}

// chunk consumes one element of the chunked coding from the buffer; false means
// that more is needed.
func (d *body) chunk(in *input, s *scratch, l *limits) (bool, *ProtocolError) {
	p := in.bytes()
	switch d.state {
	case atDataEnd:
		if len(p) > 0 && p[0] != '\r' || len(p) > 1 && p[1] != '\n' {
			return false, errChunkEnd
		}
		if len(p) < 2 {
			return false, nil
		}
		in.r += 2
		d.state = atSize
	case atSize:
		size, ext, n, err := chunkSize(p)
		if err != nil || n == 0 {
			return false, err
		}
		if d.ext += ext; d.ext > maxExtensions {
			return false, errChunkExt
		}
		in.r += n
		d.left, d.state = size, atData
		if size == 0 {
			d.state, d.scan = atTrailers, scan{}
		}
	case atTrailers:
		n, err := d.scan.next(p, l, true)
		if err != nil || n == 0 {
			return false, err
		}
		if n == 2 {
			in.r += 2
		} else if err := s.parseTrailers(in.take(n)); err != nil {
			return false, err
		}
		d.done = true
	}
	return true, nil
}

// chunkSize parses a chunk-size line. n is its length with CRLF, 0 if it is not
// complete. White space is allowed nowhere before an extension's semicolon:
// parsers differ on it.
func chunkSize(p []byte) (size int64, ext, n int, err *ProtocolError) {
	i := 0
	for i < len(p) && isHex(p[i]) {
		if size > 1<<59-1 || i >= 16 {
			return 0, 0, 0, errChunkSize
		}
		c := p[i]
		if c > '9' {
			c = c&7 + 9
		}
		size = size<<4 | int64(c&15)
		i++
	}
	if i == len(p) {
		return 0, 0, 0, nil
	}
	if i == 0 {
		return 0, 0, 0, errChunkSize
	}
	if p[i] == ';' {
		ext = codec.ValueLen(p[i:])
		i += ext
		if i > maxChunkLine {
			return 0, 0, 0, errChunkExt
		}
		if i == len(p) {
			return 0, 0, 0, nil
		}
		if p[i] != '\r' {
			return 0, 0, 0, errChunkExt
		}
	}
	if p[i] != '\r' {
		return 0, 0, 0, errChunkSize
	}
	if i+1 == len(p) {
		return 0, 0, 0, nil
	}
	if p[i+1] != '\n' {
		return 0, 0, 0, errChunkSize
	}
	return size, ext, i + 2, nil
}
