package hbone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

// Headers of double tunnels (istiod: pilot/pkg/networking/core/listener.go). The
// outer one tells the gateway that routing is done and it may go straight to
// endpoints; the inner one tells the other end that our address means nothing in
// its network.
const (
	sourceHeader  = "x-istio-source"
	sourceValue   = "waypoint"
	networkHeader = "x-forwarded-network"
)

// Double is a tunnel inside of a tunnel: the outer one ends at the gateway of
// another network, the inner one, TLS and HTTP/2 again, at a workload behind it
// that the gateway chooses. Addresses and peer are those of the inner one.
type Double struct {
	*Tunnel // the inner one

	// Fixed after DialDouble.
	session *h2.Conn // carries the inner tunnel and nothing else
	once    sync.Once
}

var _ Conn = (*Double)(nil)

// DialDouble opens a tunnel to t.Authority ("host:port" of a service) through the
// gateway at t.Addr. Outer tunnels share connections; each has one inner session
// with one tunnel, since the gateway balances sessions. It fails with *[DialError]
// as Dial does.
func (p *Pool) DialDouble(ctx context.Context, t Target) (*Double, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	outer, err := p.Dial(ctx, t, []attrs.Field{{Name: sourceHeader, Value: sourceValue}})
	if err != nil {
		return nil, err
	}
	d, err := p.double(ctx, t, outer)
	if err != nil {
		outer.Reset()
		_ = outer.Close()
		return nil, err
	}
	return d, nil
}

// double opens the inner session and its tunnel on outer.
func (p *Pool) double(ctx context.Context, t Target, outer *Tunnel) (*Double, error) {
	// No identity is wanted but a trusted one: behind the gateway any endpoint of
	// the service may answer.
	tc := tls.Client(&tunnelConn{t: outer}, identity.ClientTLS(p.cfg.TLS, nil, identity.WithRevoked(p.cfg.Revoked)))
	own := p.cfg.TLS.SVID()
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, dialError(ctx, StageTLS, err)
	}
	cs := tc.ConnectionState()
	peer, err := identity.PeerPrincipal(&cs)
	if err != nil {
		return nil, dialError(ctx, StageIdentity, err)
	}
	d := &Double{session: h2.NewClient(tc, p.cfg.H2)}
	p.wg.Go(func() { // who sees the inner tunnel drain knows nothing of the outer one
		select {
		case <-outer.Draining():
			d.session.Shutdown()
		case <-d.session.Done():
		}
	})
	p.wg.Go(func() {
		err := d.session.Serve()
		_ = tc.Close() // and the outer tunnel with it
		p.log.Debug("double tunnel ended", "gateway", t.Addr, "authority", t.Authority, "error", err)
	})
	var hdr []attrs.Field
	if p.cfg.Network != "" {
		hdr = []attrs.Field{{Name: networkHeader, Value: p.cfg.Network}}
	}
	st, err := d.session.Open(&h2.Head{Method: methodConnect, Authority: t.Authority, Fields: hdr}, 0)
	if err == nil {
		d.Tunnel = &Tunnel{st: st, authority: t.Authority, link: &link{
			peer: peer, chain: cs.PeerCertificates, own: own, peerAddr: outer.PeerAddr(), localAddr: outer.LocalAddr(),
		}}
		d.addr, d.host, d.port, _ = ParseAuthority(t.Authority)
		d.head, err = answered(ctx, st)
	}
	if err != nil {
		d.session.Close(err)
		return nil, dialError(ctx, StageConnect, err)
	}
	if d.head.Status != statusOK {
		p.stats.refused.Add(1)
		status := d.head.Status
		_ = st.Close()
		d.session.Close(errRefused)
		return nil, &DialError{Stage: StageConnect, Status: status, Err: errRefused}
	}
	d.state.Store(accepted)
	verify := identity.Verifier{Source: p.cfg.TLS, Usage: x509.ExtKeyUsageServerAuth, Revoked: p.cfg.Revoked}
	if err := d.link.recheck(&verify, &p.own); err != nil { // the roots changed meanwhile
		d.Reset()
		_ = d.Close()
		return nil, dialError(ctx, StageIdentity, err)
	}
	return d, nil
}

// answered waits for the final head of st.
func answered(ctx context.Context, st *h2.Stream) (*h2.Head, error) {
	stop := context.AfterFunc(ctx, func() { _ = st.SetReadDeadline(past) })
	for {
		h, err := st.ReadHead()
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			stop()
			return nil, err
		}
		if h.Status < 200 {
			continue
		}
		if !stop() {
			return nil, ctx.Err()
		}
		return h, nil
	}
}

// Close ends the inner tunnel, its session and the outer tunnel.
func (d *Double) Close() error {
	err := d.Tunnel.Close()
	d.once.Do(d.session.Shutdown) // behind what is still to be written
	return err
}

// Reset aborts all of it.
func (d *Double) Reset() {
	d.Tunnel.Reset()
	d.once.Do(d.session.Shutdown)
}

// tunnelConn is a tunnel as crypto/tls wants it.
type tunnelConn struct {
	t    *Tunnel
	once sync.Once
}

func (c *tunnelConn) Read(b []byte) (int, error)  { return c.t.Read(b) }
func (c *tunnelConn) Write(b []byte) (int, error) { return c.t.Write(b) }

// Close closes the tunnel once: a canceled handshake does it too.
func (c *tunnelConn) Close() (err error) {
	c.once.Do(func() { err = c.t.Close() })
	return err
}

func (c *tunnelConn) SetDeadline(d time.Time) error      { return c.t.SetDeadline(d) }
func (c *tunnelConn) SetReadDeadline(d time.Time) error  { return c.t.SetReadDeadline(d) }
func (c *tunnelConn) SetWriteDeadline(d time.Time) error { return c.t.SetWriteDeadline(d) }
func (c *tunnelConn) LocalAddr() net.Addr                { return net.TCPAddrFromAddrPort(c.t.LocalAddr()) }
func (c *tunnelConn) RemoteAddr() net.Addr               { return net.TCPAddrFromAddrPort(c.t.PeerAddr()) }
