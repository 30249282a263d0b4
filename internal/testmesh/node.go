package testmesh

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

// HBONEPort is where a node proxy takes tunnels for a pod.
const HBONEPort = 15008

// Node is the server half of a node proxy for one pod: it ends tunnels at
// pod:15008 under the pod's identity and delivers them to the pod's ports, with
// ztunnel's answers: 400 for a wrong address, 401 for a peer that is not
// admitted, 503 when the application does not take the connection.
type Node struct {
	pod   netip.Addr
	admit func(peer attrs.Principal) bool
	join  func(tunnel, app hbone.Conn)
	srv   *hbone.Server
	ln    net.Listener
	wg    sync.WaitGroup

	mu       sync.Mutex
	peers    map[string]int            // guarded by mu: tunnels by peer URI
	services map[string]netip.AddrPort // guarded by mu: ports of the pod by authority
	origins  []string                  // guarded by mu: networks that tunnels to services came from
}

// NewNode listens on pod:15008. admit nil lets every mesh identity in.
func NewNode(pod netip.Addr, src identity.Source, admit func(attrs.Principal) bool, log *slog.Logger) (*Node, error) {
	ln, err := net.Listen("tcp", netip.AddrPortFrom(pod, HBONEPort).String())
	if err != nil {
		return nil, fmt.Errorf("testmesh: node of %v: %w", pod, err)
	}
	return ServeNode(ln, pod, hbone.ServerConfig{TLS: src, Log: log}, admit, Splice), nil
}

// ServeNode is NewNode on a listener and with a server configuration of the
// caller's. It owns ln. join connects a tunnel with the application: [Splice], or
// [Deliver].
func ServeNode(ln net.Listener, pod netip.Addr, cfg hbone.ServerConfig, admit func(attrs.Principal) bool, join func(tunnel, app hbone.Conn)) *Node {
	n := &Node{pod: pod, admit: admit, join: join, ln: ln, peers: map[string]int{}}
	n.srv = hbone.NewServer(cfg, n)
	n.wg.Go(func() { n.srv.Serve(ln) })
	return n
}

// Drain sends peers away and waits until the last tunnel has ended.
func (n *Node) Drain(ctx context.Context) error { return n.srv.Shutdown(ctx) }

// ServeTunnel implements hbone.Handler.
func (n *Node) ServeTunnel(t *hbone.Tunnel) {
	addr, host, _ := t.Dest()
	if host != "" {
		n.mu.Lock()
		addr = n.services[t.Authority()]
		n.origins = append(n.origins, t.Header("x-forwarded-network"))
		n.mu.Unlock()
	}
	if !addr.IsValid() || addr.Addr() != n.pod {
		t.Refuse(400)
		return
	}
	if n.admit != nil && !n.admit(t.Peer()) {
		t.Refuse(401)
		return
	}
	n.mu.Lock()
	n.peers[t.Peer().URI]++
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	app, err := hbone.DialPlain(ctx, addr)
	if err != nil {
		t.Refuse(503)
		return
	}
	if err := t.Accept(); err != nil {
		app.Close()
		return
	}
	n.join(t, app)
}

// Peers is how many tunnels each identity has opened.
func (n *Node) Peers() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string]int, len(n.peers))
	for k, v := range n.peers {
		out[k] = v
	}
	return out
}

// Offer makes the pod an endpoint of a service: tunnels to the authority, "host:port"
// as they come through a gateway of its network, reach the pod's port.
func (n *Node) Offer(authority string, port uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.services == nil {
		n.services = map[string]netip.AddrPort{}
	}
	n.services[authority] = netip.AddrPortFrom(n.pod, port)
}

// Origins lists the networks that tunnels to services said to come from.
func (n *Node) Origins() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.origins)
}

// Close cuts every tunnel, as a node that vanishes does, and waits for what joins
// them with the application.
func (n *Node) Close() error {
	err := n.srv.Close()
	n.ln.Close()
	n.wg.Wait()
	return err
}

// Splice copies both ways with half close until both ends are done.
func Splice(a, b hbone.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { pour(a, b) })
	pour(b, a)
	wg.Wait()
	a.Close()
	b.Close()
}

// pour copies src to dst and passes on its end: a FIN, or a reset.
func pour(dst, src hbone.Conn) {
	if _, err := io.Copy(dst, src); err != nil {
		dst.Reset()
		src.Reset()
		return
	}
	dst.CloseWrite()
}

// Deliver is Splice for an application that must read all that came through the
// tunnel before it broke, where RST would take what is unread with it: a break ends
// what it reads, as FIN does, and what it then writes is dropped. It returns when the
// application has closed.
func Deliver(tunnel, app hbone.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.Copy(app, tunnel); err != nil {
			tunnel.Reset()
		}
		app.CloseWrite()
	})
	if _, err := io.Copy(tunnel, app); err != nil {
		tunnel.Reset()
		io.Copy(io.Discard, app)
	} else {
		tunnel.CloseWrite()
	}
	wg.Wait()
	tunnel.Close()
	app.Close()
}
