package http2

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// ServerConn serves the requests of one HTTP/2 connection.
type ServerConn struct {
	c       *h2.Conn
	handler func(codec.Server)
}

// NewServerConn returns a ServerConn on nc; nothing is read before Serve. The
// handler runs on a goroutine per stream and must not use its Server after it
// returned. A stream whose response is not complete by then is reset with
// INTERNAL_ERROR; one whose request is not, with NO_ERROR (RFC 9113 section 8.1).
func NewServerConn(nc net.Conn, cfg h2.Config, handler func(codec.Server)) *ServerConn {
	s := &ServerConn{handler: handler}
	s.c = h2.NewServer(nc, cfg, s)
	return s
}

// Serve runs the connection to its end and returns why it ended.
func (s *ServerConn) Serve() error { return s.c.Serve() }

// SetDraining sends a graceful GOAWAY in two steps; Serve returns behind the last
// stream. May be called from any goroutine, repeatedly.
func (s *ServerConn) SetDraining() { s.c.Shutdown() }

// Idle reports whether no stream is open.
func (s *ServerConn) Idle() bool { return s.c.OpenStreams() == 0 }

// OpenStreams returns how many streams are in use.
func (s *ServerConn) OpenStreams() int { return s.c.OpenStreams() }

// Done is closed when the connection has ended.
func (s *ServerConn) Done() <-chan struct{} { return s.c.Done() }

// Close ends the connection at once; open exchanges fail.
func (s *ServerConn) Close() error {
	s.c.Close(h2.ErrClosed)
	return nil
}

// server is one request being answered.
type server struct {
	st   *h2.Stream
	s    scratch
	head codec.RequestHead
	out  h2.Head

	mute     bool // answer to HEAD
	answered bool
	ended    bool
	aborted  atomic.Bool
}

var servers = sync.Pool{New: func() any { return new(server) }}

var (
	_ codec.Server  = (*server)(nil)
	_ codec.Readier = (*server)(nil)
	_ codec.Watcher = (*server)(nil)
)

// ServeStream implements h2.Handler.
func (s *ServerConn) ServeStream(st *h2.Stream) {
	x := servers.Get().(*server)
	x.st = st
	defer x.end()
	if status := x.s.request(st.Head(), &x.head); status != 0 {
		_ = x.WriteHead(&codec.ResponseHead{Status: status}, codec.End)
		return
	}
	x.mute = x.head.Method == "HEAD"
	s.handler(x)
}

// end closes the stream and gives x back.
func (x *server) end() {
	if !x.ended && !x.aborted.Load() {
		x.st.Reset(xhttp2.ErrCodeInternal)
	}
	_ = x.st.Close() // NO_ERROR if only the request is open
	x.s.reset()
	x.st, x.head, x.out = nil, codec.RequestHead{}, h2.Head{}
	x.mute, x.answered, x.ended = false, false, false
	x.aborted.Store(false)
	servers.Put(x)
}

// Head implements [codec.Server].
func (x *server) Head() *codec.RequestHead { return &x.head }

// Read implements [codec.Server].
func (x *server) Read(p []byte) (int, error) {
	n, err := x.st.Read(p)
	if err != nil {
		err = mapError(err, true)
	}
	return n, err
}

// Trailers implements [codec.Server].
func (x *server) Trailers() []attrs.Field { return x.s.inTrailers(x.st.Trailers()) }

// WriteHead implements [codec.Server].
func (x *server) WriteHead(h *codec.ResponseHead, f codec.Flags) error {
	switch {
	case h.Status == 101 || h.Upgrade != "":
		return localError(errUpgrade)
	case x.answered || h.Status < 100 || h.Status > 999:
		return localError(errOrder)
	case h.Status < 200:
		f &^= codec.End
	}
	bare := x.mute || h.Status == 204 || h.Status == 304
	if !x.s.outgoing(h.Fields, x.mute || h.Status == 304) {
		return localError(errField)
	}
	if h.Status >= 200 {
		if h.Length > 0 && (!bare || x.mute && !hasLength(x.s.out)) {
			if f&codec.End != 0 && !bare {
				return localError(errOrder)
			}
			x.s.length(h.Length)
		}
		if bare {
			f = f&^codec.More | codec.End
		}
	}
	x.out = h2.Head{Status: h.Status, Fields: x.s.out}
	if err := x.st.WriteHead(&x.out, flags(f)); err != nil {
		return mapError(err, true)
	}
	if h.Status >= 200 {
		x.answered = true
		x.ended = f&codec.End != 0
		x.mute = bare
	}
	return nil
}

// WriteBody implements [codec.Server].
func (x *server) WriteBody(p []byte, f codec.Flags) error {
	if !x.answered {
		return localError(errOrder)
	}
	if x.mute || x.ended && len(p) == 0 {
		return nil
	}
	if len(p) == 0 && f == 0 {
		return nil
	}
	if _, err := x.st.WriteData(p, flags(f)); err != nil {
		return mapError(err, true)
	}
	x.ended = x.ended || f&codec.End != 0
	return nil
}

// WriteTrailers implements [codec.Server].
func (x *server) WriteTrailers(t []attrs.Field) error {
	if !x.answered {
		return localError(errOrder)
	}
	if x.ended {
		return nil
	}
	if !x.s.outTrailers(t) {
		return localError(errField)
	}
	if len(x.s.out) == 0 {
		return x.WriteBody(nil, codec.End)
	}
	x.out = h2.Head{Fields: x.s.out}
	if err := x.st.WriteHead(&x.out, h2.End); err != nil {
		return mapError(err, true)
	}
	x.ended = true
	return nil
}

// Abort implements [codec.Server].
func (x *server) Abort(err error) {
	x.aborted.Store(true)
	x.st.Reset(abortCode(err))
}

// SetReadDeadline implements [codec.Server].
func (x *server) SetReadDeadline(t time.Time) error { return x.st.SetReadDeadline(t) }

// SetWriteDeadline implements [codec.Server].
func (x *server) SetWriteDeadline(t time.Time) error { return x.st.SetWriteDeadline(t) }

// Ready implements [codec.Readier].
func (x *server) Ready() bool { return x.st.Readable() }

// OnGone implements [codec.Watcher].
func (x *server) OnGone(f func()) { x.st.OnReset(f) }

// Received implements [codec.Server].
func (x *server) Received() int64 { return x.st.BytesReceived() }

// Sent implements [codec.Server].
func (x *server) Sent() int64 { return x.st.BytesSent() }

func hasLength(fs []attrs.Field) bool {
	for i := range fs {
		if fs[i].Name == "content-length" {
			return true
		}
	}
	return false
}
