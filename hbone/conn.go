package hbone

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// Conn is what HTTP codecs run on: a [Tunnel] or a [Plain] connection. The owner
// calls Close exactly when it is done, also after Reset.
type Conn interface {
	io.ReadWriteCloser
	io.WriterTo
	// WriteMore is Write when another write follows at once: what was written
	// may wait for it.
	WriteMore(p []byte) (int, error)
	CloseWrite() error
	Reset() // abort both ways (RST)
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

var (
	_ Conn = (*Tunnel)(nil)
	_ Conn = (*Plain)(nil)
)

// keepAlive is ztunnel's: 180 s, then every 180 s, 9 times.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 180 * time.Second, Interval: 180 * time.Second, Count: 9}

// Plain is a [Conn] on a connection without a tunnel: TCP, or TLS on it.
type Plain struct {
	net.Conn
}

// NewPlain wraps nc.
func NewPlain(nc net.Conn) *Plain { return &Plain{nc} }

// DialPlain connects to addr without a tunnel. It fails with *[DialError] of
// StageTCP, StageTimeout or StageCanceled.
func DialPlain(ctx context.Context, addr netip.AddrPort) (*Plain, error) {
	nc, err := dialTCP(ctx, addr)
	if err != nil {
		return nil, dialError(ctx, StageTCP, err)
	}
	return NewPlain(nc), nil
}

func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive} // NODELAY is Go's default
	return d.DialContext(ctx, "tcp", addr.String())
}

// WriteMore writes at once: the kernel has Nagle's algorithm off.
func (p *Plain) WriteMore(b []byte) (int, error) { return p.Write(b) }

// WriteTo implements io.WriterTo; between two TCP connections the kernel copies.
func (p *Plain) WriteTo(w io.Writer) (int64, error) {
	if wt, ok := p.Conn.(io.WriterTo); ok {
		return wt.WriteTo(w)
	}
	return io.Copy(w, struct{ io.Reader }{p.Conn})
}

// CloseWrite sends FIN (or the TLS close_notify).
func (p *Plain) CloseWrite() error {
	if cw, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Reset closes with RST, so that the peer cannot take the end for a clean one.
func (p *Plain) Reset() {
	nc := p.Conn
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	if l, ok := nc.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = nc.Close()
}
