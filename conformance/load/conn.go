package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
)

// Conn is one HBONE connection.
type Conn struct {
	h2   *h2.Conn
	done chan struct{}
}

// Dial connects under the client's identity. Any identity of the mesh may answer.
func Dial(ctx context.Context, addr netip.AddrPort, src identity.Source) (*Conn, error) {
	return DialFrom(ctx, netip.Addr{}, addr, src)
}

// DialFrom is Dial from an address of this machine, as a node proxy connects from
// the address of its client pod.
func DialFrom(ctx context.Context, from netip.Addr, addr netip.AddrPort, src identity.Source) (*Conn, error) {
	nd := &net.Dialer{}
	if from.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	d := tls.Dialer{NetDialer: nd, Config: identity.ClientTLS(src, nil)}
	nc, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	c := &Conn{done: make(chan struct{})}
	c.h2 = h2.NewClient(nc, h2.Config{Connect: true, KeepaliveInterval: -1})
	go func() {
		defer close(c.done)
		c.h2.Serve()
	}()
	return c, nil
}

// Refused is a CONNECT that was not answered 200.
type Refused struct{ Status int }

func (e *Refused) Error() string { return fmt.Sprintf("load: CONNECT answered %d", e.Status) }

// Tunnel opens one tunnel and waits for its answer.
func (c *Conn) Tunnel(authority string) (*h2.Stream, error) {
	s, err := c.h2.Open(&h2.Head{Method: "CONNECT", Authority: authority}, 0)
	if err != nil {
		return nil, err
	}
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	h, err := s.ReadHead()
	if err != nil {
		s.Close()
		return nil, err
	}
	if h.Status != 200 {
		s.Close()
		return nil, &Refused{h.Status}
	}
	s.SetReadDeadline(time.Time{})
	return s, nil
}

// Close ends the connection at once.
func (c *Conn) Close() {
	c.h2.Close(nil)
	<-c.done
}
