package http1

import (
	"strconv"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

const (
	// outputSize takes a head and a small body, so that they leave in one write.
	outputSize = 4 << 10
	// bulkSize takes one piece of a large chunked body: a 16 KiB read of the
	// copying side, its chunk framing and a head before it.
	bulkSize = 32 << 10
	// chunkRoom is what a chunk needs beside its data: 16 hex digits and 2 CRLF.
	chunkRoom = 20
)

// output collects what is to be written. Errors stick.
type output struct {
	c    Conn
	b    *buf.Buf
	w    int
	sent int64 // octets the connection took
	err  error
}

// grow makes room for n more octets.
func (o *output) grow(n int) {
	if o.b == nil {
		o.b = buf.Take(max(outputSize, n))
	} else if len(o.b.B)-o.w < n {
		o.b = buf.Grow(o.b, o.w, max(o.w+n, 2*len(o.b.B)))
	}
}

func (o *output) str(s string) {
	if o.b == nil || len(o.b.B)-o.w < len(s) {
		o.grow(len(s))
	}
	o.w += copy(o.b.B[o.w:], s)
}

func (o *output) int(n int64, base int) {
	o.grow(20)
	o.w = len(strconv.AppendInt(o.b.B[:o.w], n, base))
}

// field appends one line. What came from a peer was validated there; what policy
// adds was not, and a CR in it must never reach the wire.
func (o *output) field(f *attrs.Field) error {
	if !codec.ValidToken(f.Name) || !codec.ValidValue(f.Value) {
		return errLocalField
	}
	n := len(f.Name) + len(f.Value) + 4
	if o.b == nil || len(o.b.B)-o.w < n {
		o.grow(n)
	}
	p := o.b.B[o.w:]
	i := copy(p, f.Name)
	p[i], p[i+1] = ':', ' '
	i += 2 + copy(p[i+2:], f.Value)
	p[i], p[i+1] = '\r', '\n'
	o.w += i + 2
	return nil
}

// fields appends the end-to-end fields of a head. Those that the serializer
// writes itself are skipped, so that nothing can contradict the framing.
func (o *output) fields(fs []attrs.Field, keepLength bool) error {
	for i := range fs {
		switch f := &fs[i]; f.Name {
		case "content-length":
			if !keepLength {
				continue
			}
		case "transfer-encoding", "connection", "keep-alive", "proxy-connection", "upgrade", "te", "http2-settings", "host":
			continue
		}
		if err := o.field(&fs[i]); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what is pending.
func (o *output) flush() error {
	if o.err != nil {
		return o.err
	}
	if o.w == 0 {
		return nil
	}
	p := o.b.B[:o.w]
	o.w = 0
	return o.write(p)
}

func (o *output) write(p []byte) error {
	n, err := o.c.Write(p)
	o.sent += int64(n)
	if err != nil {
		o.err = ioError(err, codec.ConnClosed)
	}
	return o.err
}

// data writes content as it is: behind pending octets in the same write as far
// as they fit, the rest without a copy.
func (o *output) data(p []byte, more bool) error {
	if o.err != nil {
		return o.err
	}
	if o.w > 0 || more && len(p) <= outputSize {
		if o.b == nil {
			o.grow(len(p))
		}
		n := copy(o.b.B[o.w:], p)
		o.w += n
		p = p[n:]
		if len(p) == 0 && more && o.w < len(o.b.B) {
			return nil
		}
		if err := o.flush(); err != nil {
			return err
		}
	}
	if len(p) == 0 {
		return nil
	}
	return o.write(p)
}

// chunks appends p as chunks and writes those that fill the buffer. Chunks are
// copied, since data, framing and the terminator then leave in one write.
func (o *output) chunks(p []byte) error {
	for len(p) > 0 {
		if o.err != nil {
			return o.err
		}
		if o.b == nil || len(o.b.B)-o.w < len(p)+chunkRoom {
			if o.w > 0 && o.w+len(p)+chunkRoom > bulkSize {
				if err := o.flush(); err != nil {
					return err
				}
			}
			o.grow(min(len(p)+chunkRoom, bulkSize-o.w))
		}
		n := min(len(p), len(o.b.B)-o.w-chunkRoom)
		o.int(int64(n), 16)
		o.str("\r\n")
		o.w += copy(o.b.B[o.w:], p[:n])
		o.str("\r\n")
		p = p[n:]
	}
	return nil
}

// release gives the buffer back; what was not flushed is lost.
func (o *output) release() {
	o.b.Release()
	o.b, o.w = nil, 0
}

// outBody writes the content of one message.
type outBody struct {
	kind bodyKind
	left int64 // of a known length
	n    int64 // content octets written
	done bool
	mute bool // answer to HEAD: content is dropped
}

func (d *outBody) write(o *output, p []byte, f codec.Flags) error {
	if d.done {
		if len(p) == 0 {
			return nil
		}
		return localError(errHeadOrder)
	}
	end, more := f&codec.End != 0, f&codec.More != 0
	switch {
	case d.mute:
		d.done = end
		return o.flush()
	case d.kind == bodyChunked:
		if err := o.chunks(p); err != nil {
			return err
		}
		if end {
			o.str("0\r\n\r\n")
		}
		d.n += int64(len(p))
		d.done = end
		if more && !end && o.w < bulkSize/2 {
			return nil
		}
		return o.flush()
	case d.kind == bodyLength || d.kind == bodyNone:
		if int64(len(p)) > d.left || end && int64(len(p)) < d.left {
			return localError(errLocalLength)
		}
		d.left -= int64(len(p))
	}
	d.n += int64(len(p))
	d.done = end || d.kind == bodyLength && d.left == 0
	return o.data(p, more && !d.done)
}

// trailers ends the content. A framing without trailers drops them.
func (d *outBody) trailers(o *output, t []attrs.Field) error {
	if d.kind != bodyChunked || d.mute {
		return d.write(o, nil, codec.End)
	}
	if d.done {
		return localError(errHeadOrder)
	}
	o.str("0\r\n")
	for i := range t {
		if codec.ForbiddenTrailer(t[i].Name) {
			continue
		}
		if err := o.field(&t[i]); err != nil {
			return localError(err)
		}
	}
	o.str("\r\n")
	d.done = true
	return o.flush()
}

func localError(err error) error { return &codec.Error{Kind: codec.Protocol, Err: err} }
