package http1

import (
	"io"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// maxInterim bounds the 1xx heads before a final one, which otherwise could go
// on for ever. net/http allows 5 by count; early hints may be many.
const maxInterim = 16

// ClientConn is the client's side of one connection: Client, exchange, Release,
// Client again, as long as it is Reusable.
type ClientConn struct {
	// Fixed after NewClientConn.
	c      Conn
	opts   ClientOptions
	limits limits

	aborted atomic.Bool

	// Owned by the response side of the exchange.
	in       input
	s        *scratch
	head     codec.ResponseHead
	framing  framing
	body     body
	answered bool // the final head was read
	interim  int
	broken   bool // no further exchange
	any      bool // a byte of the response came
	hint     time.Duration

	// Owned by the request side.
	out      output
	request  outBody
	started  bool  // the request head is written
	asked    int64 // octets of the request head
	method   method
	upgrade  bool
	hijacked bool
}

// method is what the framing of a response hangs on.
type method uint8

const (
	methodOther method = iota
	methodHead
)

// client is a ClientConn with the methods of its open exchange.
type client ClientConn

var (
	_ codec.Client   = (*client)(nil)
	_ codec.Hijacker = (*client)(nil)
)

// NewClientConn returns a ClientConn that writes to c.
func NewClientConn(c Conn, opts ClientOptions) *ClientConn {
	cc := &ClientConn{c: c, opts: opts}
	cc.limits = newLimits(opts.MaxHead, opts.MaxHeaders, 0)
	cc.in.init(c)
	cc.out.c = c
	return cc
}

// Client starts an exchange. The one before it must have been released, and the
// connection be Reusable.
func (cc *ClientConn) Client() codec.Client {
	cc.out.sent = 0
	cc.answered, cc.interim, cc.any = false, 0, false
	cc.started, cc.upgrade, cc.asked = false, false, 0
	cc.request = outBody{}
	cc.body = body{}
	cc.s = scratches.Get().(*scratch)
	cc.s.trailers = cc.s.trailers[:0]
	return (*client)(cc)
}

// Reusable reports whether another exchange can start, as far as is known
// without asking the connection.
func (cc *ClientConn) Reusable() bool {
	return !cc.broken && !cc.aborted.Load()
}

// Alive reports whether an idle connection can still serve: it is Reusable and a
// read would block. Whatever there is to read, an end or stray bytes, means that
// it cannot. It costs a mutex on a tunnel and one system call on TCP; a Conn that
// can tell neither way counts as alive.
func (cc *ClientConn) Alive() bool {
	return cc.Reusable() && !readReady(cc.c)
}

// IdleHint is how long the server keeps the connection open while it idles, by the
// keep-alive field of its last answer that had one; 0 if it has not said. The
// exchange must have been released.
func (cc *ClientConn) IdleHint() time.Duration { return cc.hint }

// Close closes the connection at once. May be called from any goroutine.
func (cc *ClientConn) Close() error {
	cc.aborted.Store(true)
	return cc.c.Close()
}

// ReadHead implements [codec.Client].
func (x *client) ReadHead() (*codec.ResponseHead, error) {
	if x.answered {
		return nil, localError(errHeadOrder)
	}
	// The borrows of a 1xx head end with the next one.
	x.in.endExchange()
	var sc scan
	for {
		if p := x.in.bytes(); len(p) > 0 {
			x.any = true
			n, err := sc.next(p, &x.limits, false)
			if err == nil && n > 0 {
				return x.parse(x.in.take(n), sc.first)
			}
			if err == nil && p[0] != 'H' {
				err = errStatusLine // HTTP/0.9 or no HTTP at all
			}
			if err != nil {
				return nil, x.fail(protocolError(err))
			}
		}
		if err := x.in.fill(); err != nil {
			k := codec.ConnClosed
			if x.any {
				k = codec.Truncated
			}
			if x.aborted.Load() {
				k = codec.Aborted
			}
			return nil, x.fail(ioError(err, k))
		}
	}
}

func (x *client) parse(b []byte, first int) (*codec.ResponseHead, error) {
	m := ""
	if x.method == methodHead {
		m = "HEAD"
	}
	kind, err := parseResponse(b, first, m, &x.head, &x.framing, x.s)
	if err != nil {
		return nil, x.fail(protocolError(err))
	}
	if x.head.Status == 101 {
		if !x.upgrade || x.head.Upgrade == "" {
			return nil, x.fail(protocolError(errSwitch))
		}
		x.answered, x.broken = true, true
		return &x.head, nil
	}
	if x.head.Status < 200 {
		if x.interim++; x.interim > maxInterim {
			return nil, x.fail(protocolError(errHeadOrderRemote))
		}
		return &x.head, nil
	}
	x.head.Upgrade = ""
	x.answered = true
	if x.framing.params != "" {
		x.hint = idleHint(x.framing.params)
	}
	x.broken = x.broken || x.head.Close
	x.body.start(kind, x.head.Length)
	return &x.head, nil
}

func (x *client) fail(err error) error {
	x.broken = true
	return err
}

// Read implements [codec.Client]. It may return n > 0 with io.EOF.
func (x *client) Read(p []byte) (int, error) {
	if !x.answered {
		return 0, localError(errHeadOrder)
	}
	n, err := x.body.read(&x.in, x.s, &x.limits, p)
	if err != nil && err != io.EOF {
		x.broken = true
		if x.aborted.Load() {
			err = &codec.Error{Kind: codec.Aborted, Err: err}
		}
	}
	return n, err
}

// Trailers implements [codec.Client].
func (x *client) Trailers() []attrs.Field { return x.s.trailers }

// Sent implements [codec.Client]. What a tunnel took and never sent on does not
// count, nor does a part of a head, on which nothing can have acted.
func (x *client) Sent() int64 {
	n := x.out.sent
	if u, ok := x.c.(interface{ Unsent() int64 }); ok {
		n -= u.Unsent()
	}
	if n < x.asked {
		return 0
	}
	return n
}

// SetReadDeadline implements [codec.Client].
func (x *client) SetReadDeadline(t time.Time) error { return x.c.SetReadDeadline(t) }

// SetWriteDeadline implements [codec.Client].
func (x *client) SetWriteDeadline(t time.Time) error { return x.c.SetWriteDeadline(t) }

// Abort implements [codec.Client]: the connection is reset.
func (x *client) Abort(error) {
	if !x.aborted.Swap(true) {
		x.c.Reset()
	}
}

// Release implements [codec.Client]. The connection can serve again only if both
// messages are complete and nothing came behind the response.
func (x *client) Release() {
	cc := (*ClientConn)(x)
	if cc.s == nil {
		return // released before, or hijacked
	}
	if !x.request.done || !x.answered || !x.body.done || x.out.err != nil || x.in.err != nil || x.in.buffered() > 0 {
		x.broken = true
	}
	x.in.drop()
	x.out.release()
	scratches.Put(x.s)
	x.s = nil
	x.head.Fields = nil
	reusable := cc.Reusable()
	if !reusable && !x.hijacked {
		clean := !x.started && x.out.sent == 0 || x.answered && x.body.done
		if !clean && !x.aborted.Swap(true) {
			x.c.Reset()
		}
		x.c.Close()
	}
	if x.opts.Released != nil {
		x.opts.Released(cc, reusable)
	}
}
