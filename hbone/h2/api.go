package h2

import (
	"net"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// Config is fixed for the life of a connection. The zero value of each field
// means the default named beside it.
type Config struct {
	MaxConcurrentStreams uint32 // advertised; streams a peer may open (100)
	MaxFrameSize         uint32 // largest frame we accept (16 KiB)
	MaxHeaderListSize    uint32 // bytes of a decoded head (64 KiB)

	StreamWindow    uint32 // initial receive window of a stream (64 KiB)
	MaxStreamWindow uint32 // it grows up to this (4 MiB)
	ConnWindow      uint32 // initial receive window of the connection (1 MiB)
	MaxConnWindow   uint32 // it grows up to this (16 MiB)

	KeepaliveInterval time.Duration // PING after this long idle (10 s); negative: off
	KeepaliveTimeout  time.Duration // close when unanswered (20 s)
	MaxAge            time.Duration // graceful GOAWAY after this, jittered 10 %; 0: never

	// Connect says that the connection carries CONNECT tunnels only: heads are
	// validated as plain CONNECT, END_STREAM is a half close.
	Connect bool
}

// Handler serves streams that the peer opened. ServeStream runs on a goroutine
// of the stream's own; the stream is reset if it returns with the stream open.
type Handler interface {
	ServeStream(*Stream)
}

// Head is a received head: of a request, a response, or trailers (fields only).
// Its strings are borrowed until the stream is released.
type Head struct {
	Method, Scheme, Authority, Path, Protocol string
	Status                                    int
	Fields                                    []attrs.Field
	End                                       bool // END_STREAM came with it
}

// Flags of a write.
type Flags uint8

const (
	End  Flags = 1 << iota // half-close our side behind this frame
	More                   // another write follows at once: do not flush yet
)

// The surface, whose types the engine's files define:
//
//	func NewServer(nc net.Conn, cfg Config, h Handler) *Conn
//	func NewClient(nc net.Conn, cfg Config) *Conn
//
//	func (c *Conn) Serve() error              // runs the reader until the end
//	func (c *Conn) Open(h *Head, f Flags) (*Stream, error) // client; ErrGoingAway, ErrStreamLimit, ErrClosed
//	func (c *Conn) OpenStreams() int          // streams in use now
//	func (c *Conn) StreamLimit() int          // the peer's limit
//	func (c *Conn) Usable() bool              // neither closed nor going away
//	func (c *Conn) Ping(timeout time.Duration) error // waits for the answer
//	func (c *Conn) Shutdown()                 // two-step graceful GOAWAY; Done closes after the last stream
//	func (c *Conn) Close(err error)           // at once; streams fail with err
//	func (c *Conn) Done() <-chan struct{}; func (c *Conn) Err() error
//	func (c *Conn) NetConn() net.Conn
//
//	func (s *Stream) Head() *Head             // server: the request head
//	func (s *Stream) ReadHead() (*Head, error)// client: next response head (1xx, then final)
//	func (s *Stream) Read(p []byte) (int, error)      // io.EOF at END_STREAM
//	func (s *Stream) WriteTo(w io.Writer) (int64, error) // lends received chunks, no copy
//	func (s *Stream) Trailers() *Head         // after io.EOF; nil if none
//	func (s *Stream) WriteHead(h *Head, f Flags) error   // final, 1xx or trailers
//	func (s *Stream) Write(p []byte) (int, error)
//	func (s *Stream) WriteData(p []byte, f Flags) (int, error)
//	func (s *Stream) CloseWrite() error
//	func (s *Stream) Reset(code http2.ErrCode)
//	func (s *Stream) Close() error            // CANCEL if open either way, then release
//	func (s *Stream) SetReadDeadline(t time.Time) error; SetWriteDeadline; SetDeadline
//	func (s *Stream) Err() error              // *StreamError{Code, Remote} after a reset
//	func (s *Stream) BytesReceived() int64; BytesSent() int64
//	func (s *Stream) Conn() *Conn
var _ net.Conn
