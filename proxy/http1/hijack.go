package http1

import (
	"io"
	"time"

	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

// raw is the byte stream behind a 101. Bytes that were read with the head come
// first.
type raw struct {
	Conn
	b    *buf.Buf // owned by the reader
	r, w int
}

// Read implements [codec.Raw].
func (r *raw) Read(p []byte) (int, error) {
	if r.b == nil {
		return r.Conn.Read(p)
	}
	n := copy(p, r.b.B[r.r:r.w])
	if r.r += n; r.r == r.w {
		r.b.Release()
		r.b = nil
	}
	return n, nil
}

// SetDeadline implements [codec.Raw].
func (r *raw) SetDeadline(t time.Time) error { return r.Conn.SetDeadline(t) }

// hijack moves the unread bytes of in to a raw.
func (in *input) hijack() codec.Raw {
	r := &raw{Conn: in.c}
	if n := in.buffered(); n > 0 {
		r.b = buf.Take(n)
		r.w = copy(r.b.B, in.bytes())
	}
	in.drop()
	return r
}

// Hijack implements [codec.Hijacker]. Head is invalid afterwards, Next returns
// io.EOF and Close does nothing: the Raw owns the connection.
func (x *server) Hijack() codec.Raw {
	x.hijacked = true
	r := x.in.hijack()
	(*ServerConn)(x).release()
	return r
}

// Hijack implements [codec.Hijacker]. Release still has to be called.
func (x *client) Hijack() codec.Raw {
	x.hijacked, x.broken = true, true
	return x.in.hijack()
}

var _ io.ReadWriter = (*raw)(nil)
