package originate

import (
	"crypto/tls"
	"io"
	"net"
	"sync"

	"waypoint.dev/waypoint/hbone"
)

// below is a connection as crypto/tls wants it.
type below struct {
	hbone.Conn
	once sync.Once
}

// Close closes the connection once: a canceled handshake does it too.
func (b *below) Close() (err error) {
	b.once.Do(func() { err = b.Conn.Close() })
	return err
}

func (b *below) LocalAddr() net.Addr  { return tunnelAddr{} }
func (b *below) RemoteAddr() net.Addr { return tunnelAddr{} }

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "hbone" }
func (tunnelAddr) String() string  { return "tunnel" }

// conn is a TLS session as an hbone.Conn.
type conn struct {
	*tls.Conn
	under hbone.Conn
}

// WriteMore writes at once: a record is sealed by each write.
func (c *conn) WriteMore(p []byte) (int, error) { return c.Write(p) }

// WriteTo implements io.WriterTo.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c.Conn})
}

// Reset aborts what is below, without a close_notify.
func (c *conn) Reset() { c.under.Reset() }

// Below returns what the session runs on. If that has bytes while no response is
// due, the session is at its end.
func (c *conn) Below() any { return c.under }
