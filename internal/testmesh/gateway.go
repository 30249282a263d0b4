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
)

// Gateway is the east-west gateway of a network: it ends outer tunnels at
// address:15008 and passes what is in them, TLS that is not its own, to a node
// proxy behind it.
type Gateway struct {
	srv *hbone.Server
	ln  net.Listener
	wg  sync.WaitGroup

	mu       sync.Mutex
	backends map[string][]netip.Addr // guarded by mu: pods by authority
	next     int                     // guarded by mu
	sources  []string                // guarded by mu: x-istio-source of each tunnel
}

// NewGateway listens on addr:15008.
func NewGateway(addr netip.Addr, src identity.Source) (*Gateway, error) {
	ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, HBONEPort).String())
	if err != nil {
		return nil, fmt.Errorf("testmesh: gateway %v: %w", addr, err)
	}
	g := &Gateway{ln: ln, backends: map[string][]netip.Addr{}}
	g.srv = hbone.NewServer(hbone.ServerConfig{TLS: src}, g)
	g.wg.Go(func() { g.srv.Serve(ln) })
	return g, nil
}

// Offer says which pods serve "host:port" here.
func (g *Gateway) Offer(authority string, pods ...netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.backends[authority] = pods
}

// Sources lists the x-istio-source of each tunnel so far.
func (g *Gateway) Sources() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.sources...)
}

// ServeTunnel implements hbone.Handler.
func (g *Gateway) ServeTunnel(t *hbone.Tunnel) {
	g.mu.Lock()
	g.sources = append(g.sources, t.Header("x-istio-source"))
	pods := g.backends[t.Authority()]
	var pod netip.Addr
	if len(pods) > 0 {
		pod = pods[g.next%len(pods)]
		g.next++
	}
	g.mu.Unlock()
	if !pod.IsValid() {
		t.Refuse(404)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	node, err := hbone.DialPlain(ctx, netip.AddrPortFrom(pod, HBONEPort))
	if err != nil {
		t.Refuse(503)
		return
	}
	if err := t.Accept(); err != nil {
		node.Close()
		return
	}
	Splice(t, node)
}

// Close cuts every tunnel.
func (g *Gateway) Close() error {
	err := g.srv.Close()
	g.ln.Close()
	g.wg.Wait()
	return err
}
