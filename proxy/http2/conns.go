package http2

import (
	"net"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/proxy/codec"
)

// ServerConn serves the requests of one HTTP/2 connection.
type ServerConn struct{}

// NewServerConn returns a ServerConn on nc. The handler runs on a goroutine per
// stream; a stream still open when it returns is reset.
func NewServerConn(nc net.Conn, cfg h2.Config, handler func(codec.Server)) *ServerConn { return nil }

// Serve runs the connection to its end.
func (s *ServerConn) Serve() error { return nil }

// SetDraining sends a graceful GOAWAY; Serve returns after the last stream.
func (s *ServerConn) SetDraining() {}

// Close ends the connection at once.
func (s *ServerConn) Close() error { return nil }

// ClientConn sends requests on one HTTP/2 connection.
type ClientConn struct{}

// NewClientConn returns a ClientConn on nc and starts its reader.
func NewClientConn(nc net.Conn, cfg h2.Config) *ClientConn { return nil }

// Open returns a new exchange. Nothing is sent until its WriteHead.
func (c *ClientConn) Open() codec.Client { return nil }

// Usable reports whether new exchanges can start: neither closed nor going away.
func (c *ClientConn) Usable() bool { return false }

// OpenStreams returns how many streams are in use.
func (c *ClientConn) OpenStreams() int { return 0 }

// StreamLimit returns how many streams the peer allows at once.
func (c *ClientConn) StreamLimit() int { return 0 }

// Shutdown lets the open exchanges finish and then closes.
func (c *ClientConn) Shutdown() {}

// Close ends the connection at once.
func (c *ClientConn) Close() error { return nil }

// Done is closed when the connection has ended.
func (c *ClientConn) Done() <-chan struct{} { return nil }
