package hbone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

// Defaults of ServerConfig.
const (
	defaultMaxAge           = 30 * time.Minute
	defaultHandshakeTimeout = 10 * time.Second
	defaultDrainDelay       = 5 * time.Second
	defaultMaxConns         = 10_000
	// A handshake costs about a millisecond of CPU, so more at once only spread
	// it thinner; it leaves room for slow ones.
	defaultMaxHandshakes = 512
)

// Pauses after an Accept that failed for want of file descriptors or memory.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("hbone: server closed")

// Handler serves tunnels. ServeTunnel runs on a goroutine of the tunnel's own
// and must Accept or Refuse it (one it leaves unanswered is refused with 503);
// the tunnel is closed when it returns. A panic resets the tunnel and is logged
// and counted.
type Handler interface {
	ServeTunnel(*Tunnel)
}

// ServerConfig is fixed for the life of a server. The zero value of each field
// but TLS means the default named beside it.
type ServerConfig struct {
	TLS     identity.Source
	Revoked func(*x509.Certificate) bool // revocation list; nil: none

	H2               h2.Config     // Connect and MaxAge are set by the server
	MaxAge           time.Duration // of a connection, jittered and graceful (30 min); negative: no limit
	HandshakeTimeout time.Duration // from accept to the end of TLS (10 s)
	DrainDelay       time.Duration // Shutdown keeps accepting for so long (5 s); negative: none
	MaxConns         int           // connections at once; more are closed at once (10,000)
	MaxHandshakes    int           // TLS handshakes at once; more wait in the backlog (512)

	Log *slog.Logger // nil: none
}

// Server terminates HBONE.
type Server struct {
	// Fixed after NewServer.
	cfg     ServerConfig
	h       Handler
	log     *slog.Logger
	tls     *tls.Config
	verify  identity.Verifier
	own     identity.Verifier
	slots   chan struct{} // one element a handshake under way
	refusal *rate.Limiter // of log lines
	muted   atomic.Int64  // refusals not logged since the last that was
	stats   serverStats

	wg     sync.WaitGroup // the goroutines of connections and the watcher
	closed chan struct{}  // closed by Close
	empty  chan struct{}  // closed when draining and the last connection and handler ended

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*serverConn]struct{}
	pending   map[net.Conn]struct{} // in their handshake
	watching  bool
	stopping  bool // Shutdown or Close began
	handlers  int  // tunnels being served
	draining  bool // no more connections are taken
	isClosed  bool
	isEmpty   bool
}

// NewServer returns a server that hands tunnels to h.
func NewServer(cfg ServerConfig, h Handler) *Server {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultMaxAge
	}
	if cfg.HandshakeTimeout <= 0 {
		cfg.HandshakeTimeout = defaultHandshakeTimeout
	}
	if cfg.DrainDelay == 0 {
		cfg.DrainDelay = defaultDrainDelay
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.MaxHandshakes <= 0 {
		cfg.MaxHandshakes = defaultMaxHandshakes
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.H2.Connect = true
	cfg.H2.MaxAge = max(cfg.MaxAge, 0)
	return &Server{
		cfg:       cfg,
		h:         h,
		log:       cfg.Log,
		tls:       identity.ServerTLS(cfg.TLS, identity.WithRevoked(cfg.Revoked)),
		verify:    identity.Verifier{Source: cfg.TLS, Usage: x509.ExtKeyUsageClientAuth, Revoked: cfg.Revoked},
		own:       identity.Verifier{Source: cfg.TLS, Usage: x509.ExtKeyUsageServerAuth},
		slots:     make(chan struct{}, cfg.MaxHandshakes),
		refusal:   rate.NewLimiter(rate.Every(refusalInterval), refusalBurst),
		closed:    make(chan struct{}),
		empty:     make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*serverConn]struct{}),
		pending:   make(map[net.Conn]struct{}),
	}
}

// Serve accepts connections until Shutdown or Close, and closes ln. It returns
// ErrServerClosed then, or the error that ln failed with.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.draining || s.isClosed {
		s.mu.Unlock()
		_ = ln.Close()
		return ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	if !s.watching {
		s.watching = true
		s.wg.Go(s.watch)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
		_ = ln.Close()
	}()
	pause := acceptPauseMin
	for {
		nc, err := ln.Accept()
		if err == nil {
			pause = acceptPauseMin
			if !s.admit(nc) {
				return ErrServerClosed
			}
			continue
		}
		if s.refusesConns() {
			return ErrServerClosed
		}
		if !temporary(err) {
			return err
		}
		s.stats.acceptErrors.Add(1)
		s.log.Warn("accept failed, trying again", "error", err, "pause", pause)
		if !s.sleep(pause) {
			return ErrServerClosed
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// temporary names the Accept errors that pass by themselves: one connection that
// broke before it was taken, or a lack of descriptors or memory.
func temporary(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPERM,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return !s.refusesConns()
	case <-s.closed:
		return false
	}
}

// admit starts a connection once a handshake slot is free, which is when the
// backlog holds back the others. It returns false when the server closed.
func (s *Server) admit(nc net.Conn) bool {
	s.stats.accepted.Add(1)
	s.mu.Lock()
	full := len(s.conns)+len(s.pending) >= s.cfg.MaxConns
	s.mu.Unlock()
	if full {
		// Closed and not left waiting: the client learns it now and may choose
		// another waypoint.
		s.stats.overLimit.Add(1)
		if s.refusal.Allow() {
			s.log.Warn("connection closed, there are too many", "addr", nc.RemoteAddr(), "limit", s.cfg.MaxConns, "unlogged", s.muted.Swap(0))
		} else {
			s.muted.Add(1)
		}
		_ = nc.Close()
		return true
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.closed:
		_ = nc.Close()
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed {
		<-s.slots
		_ = nc.Close()
		return false
	}
	s.pending[nc] = struct{}{}
	s.wg.Go(func() { s.serveConn(nc) })
	return true
}

func (s *Server) refusesConns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining || s.isClosed
}

// Shutdown ends the server without losing a request. It keeps accepting during
// the drain delay, while clients learn of another waypoint; then it closes the
// listeners, closes the Draining channels of all tunnels, sends the two-step
// GOAWAY and waits until the last tunnel ended. It returns nil when the server is
// empty, or the error of ctx, with the server still open: Close it then.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.stopping
	s.stopping = true
	s.mu.Unlock()
	if first && s.cfg.DrainDelay > 0 {
		t := time.NewTimer(s.cfg.DrainDelay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done(): // no time for courtesy, but GOAWAY still goes out
		case <-s.closed:
		}
	}
	for _, c := range s.startDraining() {
		c.drain("shutdown")
	}
	select {
	case <-s.empty:
		s.stop()
		s.wg.Wait()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startDraining closes the door and returns who is inside.
func (s *Server) startDraining() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	list := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	s.checkEmptyLocked()
	return list
}

func (s *Server) checkEmptyLocked() {
	if s.draining && !s.isEmpty && len(s.conns)+len(s.pending)+s.handlers == 0 {
		s.isEmpty = true
		close(s.empty)
	}
}

// stop ends the watcher and whatever waits.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isClosed {
		s.isClosed = true
		close(s.closed)
	}
}

// Close ends every connection at once and waits for the handlers to return.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	s.stopping, s.draining = true, true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for nc := range s.pending {
		_ = nc.Close()
	}
	conns := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.checkEmptyLocked()
	s.mu.Unlock()
	for _, c := range conns {
		c.h2.Close(ErrServerClosed)
	}
	s.wg.Wait()
	<-s.empty
	return nil
}

// watch drains the connections that a change of roots left without trust.
func (s *Server) watch() {
	for {
		changed := s.cfg.TLS.Changed()
		s.mu.Lock()
		conns := make([]*serverConn, 0, len(s.conns))
		for c := range s.conns {
			conns = append(conns, c)
		}
		s.mu.Unlock()
		for _, c := range conns {
			c.recheck()
		}
		select {
		case <-changed:
		case <-s.closed:
			return
		}
	}
}

// ConnInfo describes one connection for people.
type ConnInfo struct {
	Peer      attrs.Principal
	PeerAddr  netip.AddrPort
	LocalAddr netip.AddrPort
	Tunnels   int
	Since     time.Time
	Draining  bool
}

// Conns yields the connections of this moment.
func (s *Server) Conns() iter.Seq[ConnInfo] {
	return func(yield func(ConnInfo) bool) {
		s.mu.Lock()
		list := make([]ConnInfo, 0, len(s.conns))
		for c := range s.conns {
			list = append(list, ConnInfo{
				Peer: c.link.peer, PeerAddr: c.link.peerAddr, LocalAddr: c.link.localAddr,
				Tunnels: c.h2.OpenStreams(), Since: c.since, Draining: !c.h2.Usable(),
			})
		}
		s.mu.Unlock()
		for _, ci := range list {
			if !yield(ci) {
				return
			}
		}
	}
}
