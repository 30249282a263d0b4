package http1

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// ServerConn is the server's side of one connection: Next, answer, Next, until
// an error.
type ServerConn struct {
	// Fixed after NewServerConn.
	c      Conn
	opts   ServerOptions
	limits limits

	draining atomic.Bool
	aborted  atomic.Bool

	mu   sync.Mutex
	idle bool // guarded by mu

	// Owned by the goroutine of Next and, during an exchange, by its reader.
	in      input
	s       *scratch
	head    codec.RequestHead
	framing framing
	body    body
	active  bool // an exchange is open
	tiny    [16]byte

	// The body that the client first wanted to be asked for has come whole: told by
	// the reader to the writer.
	came atomic.Bool

	// Owned by the writer of the exchange.
	out      output
	answer   outBody
	answered bool // the final head is written
	asked100 bool // 100 was written
	closing  bool // the connection ends behind this exchange
	hijacked bool
}

// server is a ServerConn with the methods of its open exchange.
type server ServerConn

var (
	_ codec.Server   = (*server)(nil)
	_ codec.Hijacker = (*server)(nil)
)

// NewServerConn returns a ServerConn that reads from c. Nothing is read yet.
func NewServerConn(c Conn, opts ServerOptions) *ServerConn {
	s := &ServerConn{c: c, opts: opts}
	s.limits = newLimits(opts.MaxHead, opts.MaxHeaders, opts.MaxRequestLine)
	if opts.MaxDrain == 0 {
		s.opts.MaxDrain = DefaultMaxDrain
	}
	s.in.init(c)
	s.out.c = c
	if len(opts.Sniffed) > 0 {
		s.in.push(opts.Sniffed)
		s.opts.Sniffed = nil
	}
	return s
}

func newLimits(head, fields, line int) limits {
	if head <= 0 {
		head = DefaultMaxHead
	}
	if fields <= 0 {
		fields = DefaultMaxHeaders
	}
	if line <= 0 || line > head {
		line = head
	}
	return limits{head, fields, line}
}

// Next ends the exchange before it and waits for the next request head. It fails
// with io.EOF when the connection ended between exchanges or serves no more (the
// caller then closes it), with a [ProtocolError] that is to be answered, or with
// a [codec.Error]. The returned Server is valid until the next call of Next.
func (s *ServerConn) Next() (codec.Server, error) {
	if s.active {
		if err := s.finish(); err != nil {
			return nil, err
		}
	}
	if s.in.buffered() == 0 {
		if err := s.waitIdle(); err != nil {
			return nil, err
		}
	}
	if s.s == nil {
		s.s = scratches.Get().(*scratch)
	}
	if err := s.readHead(); err != nil {
		return nil, err
	}
	kind := bodyNone
	switch {
	case s.head.Length > 0:
		kind = bodyLength
	case s.head.Length < 0:
		kind = bodyChunked
	}
	s.body.start(kind, s.head.Length)
	s.s.trailers = s.s.trailers[:0]
	s.out.sent, s.out.err = 0, nil
	s.answer = outBody{}
	s.came.Store(false)
	s.answered, s.asked100, s.closing, s.hijacked = false, false, s.head.Close, false
	s.active = true
	return (*server)(s), nil
}

// finish makes the connection ready for another head, or fails with io.EOF.
func (s *ServerConn) finish() error {
	s.active = false
	switch {
	case s.hijacked:
		return io.EOF
	case s.aborted.Load():
		s.release()
		return io.EOF
	case s.out.err != nil:
		s.release()
		return s.out.err
	case !s.answered || !s.answer.done:
		s.abort()
		s.release()
		return &codec.Error{Kind: codec.Aborted, Err: errHeadOrder}
	case s.closing:
		s.release()
		return io.EOF
	}
	s.out.release()
	if !s.drain() {
		s.release()
		return io.EOF
	}
	s.in.endExchange()
	return nil
}

// drain reads an unread request body away, if it is short.
func (s *ServerConn) drain() bool {
	if s.body.done {
		return true
	}
	if int64(s.opts.MaxDrain) < s.body.left {
		return false
	}
	max := s.body.n + int64(s.opts.MaxDrain)
	var p [2048]byte
	for !s.body.done {
		if _, err := s.body.read(&s.in, s.s, &s.limits, p[:]); err != nil && err != io.EOF || s.body.n > max {
			return false
		}
	}
	return true
}

// readHead reads and parses one head.
func (s *ServerConn) readHead() error {
	var sc scan
	timed, checked, skipped := false, false, false
	for {
		p := s.in.bytes()
		// One empty line before a request is let pass (RFC 9112 section 2.2).
		if !skipped && len(p) >= 2 {
			if skipped = true; p[0] == '\r' && p[1] == '\n' {
				s.in.r += 2
				p = p[2:]
			}
		}
		if len(p) > 0 && codec.LowerName[p[0]] == 0 && (skipped || p[0] != '\r') {
			return errFirst
		}
		if skipped && len(p) > 0 {
			n, err := sc.next(p, &s.limits, false)
			if err != nil {
				return err
			}
			if n > 0 {
				if timed {
					s.c.SetReadDeadline(time.Time{})
				}
				if err := parseRequest(s.in.take(n), sc.first, &s.head, &s.framing, s.s, s.opts.AllowHTTP10); err != nil {
					return err
				}
				return nil
			}
			// A bad request line is refused at once: HTTP/0.9 has no more.
			if sc.lines > 0 && !checked {
				checked = true
				var h codec.RequestHead
				if err := parseRequestLine(p[:sc.first], &h, s.opts.AllowHTTP10); err != nil {
					return err
				}
			}
		}
		// The first read returns at once: the wait for it is over, or bytes of the
		// head before it came along. So a head that comes whole needs no timer.
		if s.opts.HeadTimeout > 0 && !timed && s.in.buffered() > 0 {
			timed = true
			s.c.SetReadDeadline(time.Now().Add(s.opts.HeadTimeout))
		}
		if err := s.in.fill(); err != nil {
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return errHeadTimeout
			case err == io.EOF && s.in.buffered() == 0:
				return io.EOF
			case err == io.EOF:
				return errCutHead
			}
			return ioError(err, codec.ConnClosed)
		}
	}
}

// WriteError answers a [ProtocolError] with status, fields and body (plain text,
// may be empty) and ends the writing side. Close follows.
func (s *ServerConn) WriteError(status int, body string, fields ...attrs.Field) error {
	s.out.err = nil
	s.out.w = 0
	o := &s.out
	o.statusLine(status)
	for i := range fields {
		o.str(fields[i].Name)
		o.str(": ")
		o.str(fields[i].Value)
		o.str("\r\n")
	}
	if body != "" {
		o.str("content-type: text/plain\r\n")
	}
	o.str("content-length: ")
	o.int(int64(len(body)), 10)
	o.str("\r\nconnection: close\r\n\r\n")
	o.str(body)
	err := o.flush()
	o.release()
	if err != nil {
		return err
	}
	return s.c.CloseWrite()
}

// SetReadDeadline bounds Next where no option does. It must not be called while
// Next runs.
func (s *ServerConn) SetReadDeadline(t time.Time) error { return s.c.SetReadDeadline(t) }

// Close closes the connection and, as the owner of Next must, releases what it
// holds. Unless it was hijacked, in which case it does nothing.
func (s *ServerConn) Close() error {
	if s.hijacked {
		return nil
	}
	s.active = false
	s.release()
	return s.c.Close()
}

func (s *ServerConn) abort() {
	if !s.aborted.Swap(true) {
		s.c.Reset()
	}
}

func (s *ServerConn) release() {
	s.in.drop()
	s.out.release()
	s.freeScratch()
}

func (s *ServerConn) freeScratch() {
	if s.s != nil {
		scratches.Put(s.s)
		s.s = nil
	}
	s.head.Fields = nil
}

// Head implements [codec.Server].
func (x *server) Head() *codec.RequestHead { return &x.head }

// Read implements [codec.Server]. It may return n > 0 with io.EOF.
func (x *server) Read(p []byte) (int, error) {
	n, err := x.body.read(&x.in, x.s, &x.limits, p)
	if x.head.Expect && x.body.done {
		x.came.Store(true)
	}
	return n, err
}

// Trailers implements [codec.Server].
func (x *server) Trailers() []attrs.Field { return x.s.trailers }

// Received implements [codec.Server].
func (x *server) Received() int64 { return x.body.n }

// Sent implements [codec.Server].
func (x *server) Sent() int64 { return x.answer.n }

// SetReadDeadline implements [codec.Server].
func (x *server) SetReadDeadline(t time.Time) error { return x.c.SetReadDeadline(t) }

// SetWriteDeadline implements [codec.Server].
func (x *server) SetWriteDeadline(t time.Time) error { return x.c.SetWriteDeadline(t) }

// Abort implements [codec.Server]: the connection is reset.
func (x *server) Abort(error) { (*ServerConn)(x).abort() }
