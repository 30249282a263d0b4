package testmesh

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

// Capture is the client half of a node proxy for one client and one service:
// whatever connects to it is tunnelled to the waypoint as a connection of that
// client to the service's address.
type Capture struct {
	waypoint  func() hbone.Target
	authority string
	pool      *hbone.Pool
	join      func(tunnel, client hbone.Conn)
	ln        net.Listener
	wg        sync.WaitGroup

	mu    sync.Mutex
	conns map[*hbone.Plain]struct{} // guarded by mu
}

// Client is a pod's way into the mesh: its identity and its pool of tunnels.
type Client struct {
	Source identity.Source
	Pool   *hbone.Pool
	// Join connects a tunnel with what was captured: [Splice], or [Deliver]; nil: Splice.
	Join func(tunnel, client hbone.Conn)
}

// NewClient makes the pool of one client identity.
func NewClient(src identity.Source) *Client {
	return &Client{Source: src, Pool: hbone.NewPool(hbone.PoolConfig{TLS: src})}
}

// NewClientAt is NewClient for a client pod of that address: connections come from
// it, as ztunnel makes them.
func NewClientAt(src identity.Source, pod netip.Addr) *Client {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(pod, 0))}
	return &Client{Source: src, Pool: hbone.NewPool(hbone.PoolConfig{TLS: src, DialTCP: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", to.String())
	}})}
}

// Close ends its tunnels.
func (c *Client) Close() { c.Pool.Close() }

// Dial opens one tunnel through the waypoint to a service address ("10.96.0.10:80").
func (c *Client) Dial(ctx context.Context, waypoint netip.AddrPort, authority string) (*hbone.Tunnel, error) {
	return c.Pool.Dial(ctx, hbone.Target{Addr: waypoint, Authority: authority}, nil)
}

// Capture listens on addr and tunnels what connects there to authority. The
// waypoint is asked for with each connection, so that it may be replaced.
func (c *Client) Capture(addr string, waypoint func() netip.AddrPort, authority string) (*Capture, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("testmesh: capture of %s: %w", authority, err)
	}
	k := &Capture{
		waypoint:  func() hbone.Target { return hbone.Target{Addr: waypoint(), Authority: authority} },
		authority: authority, pool: c.Pool, join: c.Join, ln: ln, conns: map[*hbone.Plain]struct{}{},
	}
	if k.join == nil {
		k.join = Splice
	}
	k.wg.Go(k.accept)
	return k, nil
}

// Addr is where clients connect.
func (k *Capture) Addr() net.Addr { return k.ln.Addr() }

func (k *Capture) accept() {
	for {
		nc, err := k.ln.Accept()
		if err != nil {
			return
		}
		p := hbone.NewPlain(nc)
		k.mu.Lock()
		k.conns[p] = struct{}{}
		k.mu.Unlock()
		k.wg.Go(func() {
			k.serve(p)
			k.mu.Lock()
			delete(k.conns, p)
			k.mu.Unlock()
		})
	}
}

func (k *Capture) serve(p *hbone.Plain) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// What ztunnel says of the client with every CONNECT.
	fields := []attrs.Field{{Name: "forwarded", Value: `for="` + p.RemoteAddr().String() + `"`}}
	t, err := k.pool.Dial(ctx, k.waypoint(), fields)
	if err != nil {
		p.Reset()
		p.Close()
		return
	}
	k.join(t, p)
}

// Close stops listening and cuts the connections it captured.
func (k *Capture) Close() error {
	err := k.ln.Close()
	k.mu.Lock()
	for p := range k.conns {
		p.Reset()
		p.Close()
	}
	k.mu.Unlock()
	k.wg.Wait()
	return err
}
