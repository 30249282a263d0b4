package h2

import (
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
)

type Conn struct{}

func NewServer(nc net.Conn, cfg Config, h Handler) *Conn { return nil }
func NewClient(nc net.Conn, cfg Config) *Conn            { return nil }

func (c *Conn) Serve() error                           { return nil }
func (c *Conn) Open(h *Head, f Flags) (*Stream, error) { return nil, nil }
func (c *Conn) OpenStreams() int                       { return 0 }
func (c *Conn) StreamLimit() int                       { return 0 }
func (c *Conn) Usable() bool                           { return false }
func (c *Conn) Ping(timeout time.Duration) error       { return nil }
func (c *Conn) Shutdown()                              {}
func (c *Conn) Draining() <-chan struct{}              { return nil }
func (c *Conn) Close(err error)                        {}
func (c *Conn) Done() <-chan struct{}                  { return nil }
func (c *Conn) Err() error                             { return nil }
func (c *Conn) NetConn() net.Conn                      { return nil }

type Stream struct{}

func (s *Stream) Head() *Head                              { return nil }
func (s *Stream) ReadHead() (*Head, error)                 { return nil, nil }
func (s *Stream) Read(p []byte) (int, error)               { return 0, nil }
func (s *Stream) WriteTo(w io.Writer) (int64, error)       { return 0, nil }
func (s *Stream) Trailers() *Head                          { return nil }
func (s *Stream) WriteHead(h *Head, f Flags) error         { return nil }
func (s *Stream) Write(p []byte) (int, error)              { return 0, nil }
func (s *Stream) WriteData(p []byte, f Flags) (int, error) { return 0, nil }
func (s *Stream) CloseWrite() error                        { return nil }
func (s *Stream) Reset(code http2.ErrCode)                 {}
func (s *Stream) Close() error                             { return nil }
func (s *Stream) SetReadDeadline(t time.Time) error        { return nil }
func (s *Stream) SetWriteDeadline(t time.Time) error       { return nil }
func (s *Stream) SetDeadline(t time.Time) error            { return nil }
func (s *Stream) Err() error                               { return nil }
func (s *Stream) BytesReceived() int64                     { return 0 }
func (s *Stream) BytesSent() int64                         { return 0 }
func (s *Stream) Conn() *Conn                              { return nil }
func (s *Stream) ID() uint32                               { return 0 }
