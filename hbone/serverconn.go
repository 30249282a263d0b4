package hbone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
)

// What linger spends on a peer whose handshake failed: a round trip, and the
// first flight of a client that believes it succeeded.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

// serverConn is one HBONE connection of a server. Fixed once it is up.
type serverConn struct {
	s     *Server
	h2    *h2.Conn
	link  link
	since time.Time
}

// serveConn runs a connection from its handshake to its end.
func (s *Server) serveConn(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetKeepAliveConfig(keepAlive)
	}
	c, err := s.handshake(nc)
	<-s.slots
	if err != nil {
		s.stats.handshakeErrors.Add(1)
		s.log.Debug("handshake failed", "peer", nc.RemoteAddr(), "error", err)
		linger(nc)
		_ = nc.Close()
		s.mu.Lock()
		delete(s.pending, nc)
		s.checkEmptyLocked()
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	delete(s.pending, nc)
	s.conns[c] = struct{}{}
	draining, closed := s.draining, s.isClosed
	s.mu.Unlock()
	switch {
	case closed:
		c.h2.Close(ErrServerClosed)
	case draining:
		c.drain("shutdown")
	default:
		c.recheck() // the roots may have changed since the handshake looked at them
	}
	err = c.h2.Serve()
	_ = nc.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.checkEmptyLocked()
	s.mu.Unlock()
	s.log.Debug("connection ended", "peer", c.link.peer.URI, "addr", c.link.peerAddr, "error", err)
}

// linger lets the peer read the alert that says why: closing with its first
// bytes unread would make the kernel send RST, and the alert could be lost.
func linger(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok && tc.CloseWrite() == nil {
		_ = tc.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, io.LimitReader(struct{ io.Reader }{tc}, lingerBytes))
	}
}

func (s *Server) handshake(nc net.Conn) (*serverConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.HandshakeTimeout)
	defer cancel()
	own := s.cfg.TLS.SVID()
	src := source(nc)
	tc := tls.Server(src, s.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	cs := tc.ConnectionState()
	peer, err := identity.PeerPrincipal(&cs)
	if err != nil {
		return nil, err
	}
	c := &serverConn{s: s, since: time.Now(), link: link{
		peer: peer, chain: cs.PeerCertificates, own: own,
		peerAddr: addrPort(nc.RemoteAddr()), localAddr: addrPort(nc.LocalAddr()),
	}}
	cfg := s.cfg.H2
	cfg.Refused = func(status int, why string) {
		s.refused(&Tunnel{link: &c.link}, status, why)
	}
	c.h2 = h2.NewServer(withRecords(tc, src), cfg, c)
	return c, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// drain lets the tunnels end by themselves and takes no more. The h2 connection
// closes their Draining channel.
func (c *serverConn) drain(why string) {
	c.s.stats.drained.Add(1)
	c.s.log.Debug("draining connection", "peer", c.link.peer.URI, "addr", c.link.peerAddr, "reason", why)
	c.h2.Shutdown()
}

// recheck drains the connection if the newest bundle trusts the peer's chain or
// ours no longer, and cuts it if the peer was revoked.
func (c *serverConn) recheck() {
	err := c.link.recheck(&c.s.verify, &c.s.own)
	switch {
	case errors.Is(err, identity.ErrRevoked):
		c.s.log.Warn("closing connection, its peer was revoked", "peer", c.link.peer.URI, "addr", c.link.peerAddr)
		c.h2.Close(err)
	case err != nil && c.h2.Usable():
		c.s.log.Info("draining connection, a certificate of its handshake is no longer trusted", "peer", c.link.peer.URI, "addr", c.link.peerAddr, "error", err)
		c.drain("trust")
	}
}

// recheck verifies both chains of a connection anew. Our own counts only when
// there is a newer one: another connection could do no better with the same.
func (l *link) recheck(peer, own *identity.Verifier) error {
	if _, err := peer.Verify(l.chain); err != nil {
		return err
	}
	if l.own == own.Source.SVID() {
		return nil
	}
	if _, err := own.Verify(l.own.Chain()); err != nil {
		return fmt.Errorf("our own certificate, of the handshake: %w", err)
	}
	return nil
}

// ServeStream implements [h2.Handler]. It and what it calls keep small frames:
// an idle tunnel parks on this goroutine's stack.
func (c *serverConn) ServeStream(st *h2.Stream) {
	t := &Tunnel{st: st, link: &c.link, server: c.s}
	c.s.stats.tunnels.Add(1)
	c.s.handling(1)
	defer c.finish(t)
	if t.parse() {
		c.s.h.ServeTunnel(t)
	}
}

// parse reads the CONNECT head, and refuses a malformed one.
func (t *Tunnel) parse() bool {
	h := t.st.Head()
	t.head, t.authority = h, h.Authority
	if h.Method != methodConnect || h.Scheme != "" || h.Path != "" || h.Protocol != "" {
		_ = t.RefuseReason(statusBadRequest, "not a plain CONNECT")
		return false
	}
	var err error
	if t.addr, t.host, t.port, err = ParseAuthority(h.Authority); err != nil {
		_ = t.RefuseReason(statusBadRequest, "malformed authority")
		return false
	}
	return true
}

// finish runs behind every handler.
func (c *serverConn) finish(t *Tunnel) {
	if r := recover(); r != nil {
		c.s.panicked(t, r)
	} else if t.state.Load() == unanswered {
		_ = t.RefuseReason(statusUnavailable, "handler gave no answer")
	}
	_ = t.Close()
	c.s.handling(-1)
}

// handling counts the handlers that run.
func (s *Server) handling(n int) {
	s.mu.Lock()
	s.handlers += n
	s.checkEmptyLocked()
	s.mu.Unlock()
}

// panicked contains the panic of one tunnel.
func (s *Server) panicked(t *Tunnel, r any) {
	s.stats.panics.Add(1)
	s.log.Error("panic while serving a tunnel", slog.Any("panic", r), "tunnel", t.String(), "stack", string(debug.Stack()))
	t.Reset()
}
