package http2

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// ClientConn sends requests on one HTTP/2 connection. Its methods may be called
// from any goroutine.
type ClientConn struct {
	// Fixed after NewClientConn.
	c        *h2.Conn
	released func()
}

// NewClientConn returns a ClientConn on nc and starts its reader, which runs
// until the connection ends (Done). released, if not nil, is called behind the
// Release of each exchange, when its stream is free.
func NewClientConn(nc net.Conn, cfg h2.Config, released func()) *ClientConn {
	c := &ClientConn{c: h2.NewClient(nc, cfg), released: released}
	go func() { _ = c.c.Serve() }()
	return c
}

// Open returns a new exchange. Nothing is sent, and no stream taken, until its
// WriteHead, which fails with kind Refused if the connection can take no more.
func (c *ClientConn) Open() codec.Client {
	x := clients.Get().(*client)
	x.c, x.open, x.released = c.c, true, c.released
	return x
}

// Usable reports whether new exchanges can start: neither closed nor going away.
func (c *ClientConn) Usable() bool { return c.c.Usable() }

// OpenStreams returns how many streams are in use.
func (c *ClientConn) OpenStreams() int { return c.c.OpenStreams() }

// StreamLimit returns how many streams the peer allows at once.
func (c *ClientConn) StreamLimit() int { return c.c.StreamLimit() }

// Ping waits for the answer to a PING.
func (c *ClientConn) Ping(timeout time.Duration) error { return c.c.Ping(timeout) }

// Shutdown lets the open exchanges finish and then closes.
func (c *ClientConn) Shutdown() { c.c.Shutdown() }

// Close ends the connection at once; open exchanges fail.
func (c *ClientConn) Close() error {
	c.c.Close(h2.ErrClosed)
	return nil
}

// Done is closed when the connection has ended.
func (c *ClientConn) Done() <-chan struct{} { return c.c.Done() }

// client is one request being sent.
type client struct {
	c        *h2.Conn
	st       atomic.Pointer[h2.Stream] // nil before WriteHead
	open     bool                      // not released
	released func()                    // of the connection; may be nil
	dead     atomic.Bool               // aborted

	// Owned by the request side.
	req  scratch
	out  h2.Head
	size int64 // of what was sent as heads
	sent bool  // the request is complete

	// Owned by the response side.
	res      scratch
	head     codec.ResponseHead
	mute     bool // HEAD
	any      bool // a head came
	answered bool
}

var clients = sync.Pool{New: func() any { return new(client) }}

var (
	_ codec.Client  = (*client)(nil)
	_ codec.Readier = (*client)(nil)
)

// WriteHead implements [codec.Client]. A request for an upgrade cannot be sent.
func (x *client) WriteHead(h *codec.RequestHead, f codec.Flags) error {
	switch {
	case h.Upgrade != "":
		return localError(errUpgrade)
	case x.st.Load() != nil:
		return localError(errOrder)
	case x.dead.Load():
		return &codec.Error{Kind: codec.Aborted, Err: h2.ErrReleased}
	case h.Method == "CONNECT" || !codec.ValidToken(h.Method) || !codec.ValidTarget(h.Target) || !codec.ValidAuthority(h.Authority) || !x.req.outgoing(h.Fields, false):
		return localError(errField)
	}
	if h.Length > 0 {
		if f&codec.End != 0 {
			return localError(errOrder)
		}
		x.req.length(h.Length)
	}
	if h.Length == 0 {
		f |= codec.End
	}
	if h.Trailers {
		x.req.out = append(x.req.out, attrs.Field{Name: "te", Value: "trailers"})
	}
	if h.Expect && f&codec.End == 0 {
		x.req.out = append(x.req.out, attrs.Field{Name: "expect", Value: "100-continue"})
	}
	scheme := h.Scheme
	if scheme == "" {
		scheme = "http"
	}
	x.mute = h.Method == "HEAD"
	x.out = h2.Head{Method: h.Method, Scheme: scheme, Authority: h.Authority, Path: h.Target, Fields: x.req.out}
	st, err := x.c.Open(&x.out, flags(f))
	if err != nil {
		return openError(err)
	}
	x.size += headSize(&x.out)
	x.sent = f&codec.End != 0
	x.st.Store(st)
	if x.dead.Load() { // aborted meanwhile
		st.Reset(abortCode(nil))
	}
	return nil
}

// WriteBody implements [codec.Client].
func (x *client) WriteBody(p []byte, f codec.Flags) error {
	st := x.st.Load()
	switch {
	case st == nil:
		return localError(errOrder)
	case len(p) == 0 && (f == 0 || x.sent):
		return nil
	}
	if _, err := st.WriteData(p, flags(f)); err != nil {
		return mapError(err, false)
	}
	x.sent = x.sent || f&codec.End != 0
	return nil
}

// WriteTrailers implements [codec.Client].
func (x *client) WriteTrailers(t []attrs.Field) error {
	st := x.st.Load()
	switch {
	case st == nil:
		return localError(errOrder)
	case x.sent:
		return nil
	case !x.req.outTrailers(t):
		return localError(errField)
	case len(x.req.out) == 0:
		return x.WriteBody(nil, codec.End)
	}
	x.out = h2.Head{Fields: x.req.out}
	if err := st.WriteHead(&x.out, h2.End); err != nil {
		return mapError(err, false)
	}
	x.size += headSize(&x.out)
	x.sent = true
	return nil
}

// ReadHead implements [codec.Client].
func (x *client) ReadHead() (*codec.ResponseHead, error) {
	st := x.st.Load()
	if st == nil || x.answered {
		return nil, localError(errOrder)
	}
	in, err := st.ReadHead()
	if err == io.EOF { // the message ended without a final head
		return nil, &codec.Error{Kind: codec.Protocol, Remote: true, Err: errHead}
	}
	if err != nil {
		return nil, mapError(err, x.any)
	}
	x.any = true
	if !x.res.response(in, x.mute, &x.head) {
		return nil, &codec.Error{Kind: codec.Protocol, Remote: true, Err: errHead}
	}
	x.answered = x.head.Status >= 200
	return &x.head, nil
}

// Read implements [codec.Client].
func (x *client) Read(p []byte) (int, error) {
	st := x.st.Load()
	if st == nil || !x.answered {
		return 0, localError(errOrder)
	}
	n, err := st.Read(p)
	if err != nil {
		err = mapError(err, true)
	}
	return n, err
}

// Ready implements [codec.Readier].
func (x *client) Ready() bool {
	st := x.st.Load()
	return st != nil && st.Readable()
}

// Trailers implements [codec.Client].
func (x *client) Trailers() []attrs.Field {
	if st := x.st.Load(); st != nil {
		return x.res.inTrailers(st.Trailers())
	}
	return nil
}

// Abort implements [codec.Client].
func (x *client) Abort(err error) {
	x.dead.Store(true)
	if st := x.st.Load(); st != nil {
		st.Reset(abortCode(err))
	}
}

// Release implements [codec.Client]. A stream that is still open is cancelled.
// The Client must not be used afterwards.
func (x *client) Release() {
	if !x.open {
		return
	}
	if st := x.st.Swap(nil); st != nil {
		_ = st.Close()
	}
	x.req.reset()
	x.res.reset()
	released := x.released
	x.c, x.open, x.released, x.out, x.size, x.sent = nil, false, nil, h2.Head{}, 0, false
	x.head, x.mute, x.any, x.answered = codec.ResponseHead{}, false, false, false
	x.dead.Store(false)
	clients.Put(x)
	if released != nil {
		released()
	}
}

// SetReadDeadline implements [codec.Client]. Before WriteHead it does nothing.
func (x *client) SetReadDeadline(t time.Time) error {
	if st := x.st.Load(); st != nil {
		return st.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements [codec.Client]. Before WriteHead it does nothing.
func (x *client) SetWriteDeadline(t time.Time) error {
	if st := x.st.Load(); st != nil {
		return st.SetWriteDeadline(t)
	}
	return nil
}

// Sent implements [codec.Client]. A request whose head has not left the connection
// whole has sent nothing.
func (x *client) Sent() int64 {
	if st := x.st.Load(); st != nil {
		if st.HeadUnsent() {
			return 0
		}
		return x.size + st.BytesSent()
	}
	return 0
}
