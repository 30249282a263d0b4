package svc

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"waypoint.dev/waypoint/conformance/lab/cluster"
	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

const (
	port      = 15999
	dialLimit = 5 * time.Second
)

// Proxy serves the cluster IPs of a node.
type Proxy struct {
	view   *cluster.View
	ln     net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Serve takes what pods send to the range of cluster IPs.
func Serve(view *cluster.View, services netip.Prefix) (*Proxy, error) {
	ln, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("svc: %w", err)
	}
	if err := (sandbox.Redirect{Incoming: true, To: services, Port: port}).Apply(); err != nil {
		_ = ln.Close()
		return nil, err
	}
	p := &Proxy{view: view, ln: ln}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.run)
	return p, nil
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.ln.Close()
	p.wg.Wait()
}

func (p *Proxy) run() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(c *net.TCPConn) {
	defer c.Close()
	if dst, err := sandbox.OriginalDst(c); err == nil {
		p.pass(c, dst)
	}
}

// pass connects c with an endpoint of the Service at dst, or resets it.
func (p *Proxy) pass(c *net.TCPConn, dst netip.AddrPort) {
	service := p.view.Service(dst.Addr())
	if service == nil {
		_ = c.SetLinger(0)
		return
	}
	to, ok := p.view.Endpoint(service, dst.Port())
	if !ok {
		_ = c.SetLinger(0) // as kube-proxy rejects what has no endpoints
		return
	}
	d := net.Dialer{Timeout: dialLimit}
	nc, err := d.DialContext(p.ctx, "tcp4", to.String())
	if err != nil {
		_ = c.SetLinger(0)
		return
	}
	up := nc.(*net.TCPConn)
	defer up.Close()
	stop := context.AfterFunc(p.ctx, func() { _, _ = c.Close(), up.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c)
		_ = up.CloseWrite()
	}()
	_, _ = io.Copy(c, up)
	_ = c.CloseWrite()
	<-done
}
