package http1

import (
	"io"
	"time"

	"waypoint.dev/waypoint/proxy/codec"
)

// ServerConn is the server's side of one connection.
type ServerConn struct{ c Conn }

// NewServerConn returns a ServerConn that reads from c. Nothing is read yet.
func NewServerConn(c Conn, opts ServerOptions) *ServerConn { return &ServerConn{c: c} }

// Next reads the next request head.
func (s *ServerConn) Next() (codec.Server, error) { return nil, io.EOF }

// WriteError answers a ProtocolError.
func (s *ServerConn) WriteError(status int, body string) error { return nil }

// Idle reports whether the connection waits for a first byte.
func (s *ServerConn) Idle() bool { return false }

// SetDraining makes the next response the last one.
func (s *ServerConn) SetDraining() {}

// SetReadDeadline bounds Next.
func (s *ServerConn) SetReadDeadline(t time.Time) error { return s.c.SetReadDeadline(t) }

// Close closes the connection at once and releases its buffers.
func (s *ServerConn) Close() error { return s.c.Close() }

// ClientConn is the client's side of one connection.
type ClientConn struct{ c Conn }

// NewClientConn returns a ClientConn that writes to c.
func NewClientConn(c Conn, opts ClientOptions) *ClientConn { return &ClientConn{c: c} }

// Client starts an exchange.
func (c *ClientConn) Client() codec.Client { return nil }

// Reusable reports whether another exchange can start.
func (c *ClientConn) Reusable() bool { return false }

// Alive reports whether an idle connection is still open.
func (c *ClientConn) Alive() bool { return false }

// Close closes the connection.
func (c *ClientConn) Close() error { return c.c.Close() }
