package proxy

import (
	"context"
	"io"
	"net"
	"net/netip"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// Dialer opens tunnels; *hbone.Pool is one.
type Dialer interface {
	Dial(ctx context.Context, t hbone.Target, hdr []attrs.Field) (*hbone.Tunnel, error)
}

// connect opens a byte stream to ep: a tunnel whose CONNECT was answered, or
// TCP, wrapped as the backend's origin says. Nothing of a request has been sent
// when it fails.
func (p *Proxy) connect(ctx context.Context, ep *balance.Endpoint, set *resilience.Settings, origin *originate.Origin, use originate.Use) (hbone.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, or(set.ConnectTimeout, defaultConnectTimeout))
	defer cancel()
	c, err := p.dial(ctx, ep)
	if err != nil {
		return nil, err
	}
	if ep.Named {
		use.Host = ep.Hostname
	}
	return origin.Wrap(ctx, c, use)
}

// chosen is an endpoint at an address that a client chose. It is used once and
// its connections are not kept, so that clients cannot make pools grow.
func (p *Proxy) chosen(to netip.AddrPort) *balance.Endpoint {
	ep := &balance.Endpoint{Key: to.String(), Addr: to, Host: new(balance.Host)}
	ep.Host.Gone.Store(true)
	if w := p.opts.Store.Load().WorkloadByAddr(to.Addr()); w != nil {
		ep.Workload = w
		if w.Tunnel {
			ep.Tunnel = netip.AddrPortFrom(to.Addr(), tunnelPort)
		}
		if w.ServiceAccount != "" {
			ep.Identity = "spiffe://" + w.TrustDomain + "/ns/" + w.Namespace + "/sa/" + w.ServiceAccount
		}
	}
	return ep
}

// netConn is a byte stream as a net.Conn, for the HTTP/2 engine, with bytes that
// were read ahead.
type netConn struct {
	hbone.Conn
	ahead []byte
}

func newNetConn(c hbone.Conn, ahead []byte) *netConn { return &netConn{Conn: c, ahead: ahead} }

// Unsent implements what h2 asks a connection for that runs in a tunnel.
func (c *netConn) Unsent() int64 {
	if u, ok := c.Conn.(interface{ Unsent() int64 }); ok {
		return u.Unsent()
	}
	return 0
}

// Read gives the bytes read ahead first.
func (c *netConn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// WriteTo is hidden: it would skip the bytes read ahead.
func (c *netConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// LocalAddr and RemoteAddr name what is no socket.
func (c *netConn) LocalAddr() net.Addr  { return tunnelAddr{} }
func (c *netConn) RemoteAddr() net.Addr { return tunnelAddr{} }

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "hbone" }
func (tunnelAddr) String() string  { return "tunnel" }
