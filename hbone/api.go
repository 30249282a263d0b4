package hbone

// The surface, whose types the package's other files define:
//
//	// Tunnel is one CONNECT stream; it is a byte stream (it implements Conn below,
//	// io.WriterTo included).
//	type Tunnel struct
//	func (t *Tunnel) Peer() attrs.Principal        // authenticated
//	func (t *Tunnel) PeerAddr() netip.AddrPort     // HBONE TCP peer (ztunnel spoofs the pod's)
//	func (t *Tunnel) LocalAddr() netip.AddrPort
//	func (t *Tunnel) Authority() string            // as sent
//	func (t *Tunnel) Dest() (addr netip.AddrPort, host string, port uint16) // parsed authority
//	func (t *Tunnel) Header(name string) string    // baggage, forwarded, x-forwarded-network, traceparent
//	func (t *Tunnel) Accept() error                // 200
//	func (t *Tunnel) Refuse(status int) error      // 400, 403, 404, 503; ends the stream
//	func (t *Tunnel) Draining() <-chan struct{}    // closed when the server or connection drains
//
//	type Handler interface { ServeTunnel(*Tunnel) } // must Accept or Refuse
//
//	type ServerConfig struct { TLS identity.Source; H2 h2.Config; MaxAge, HandshakeTimeout, Drain...; MaxConns; Log *slog.Logger }
//	func NewServer(cfg ServerConfig, h Handler) *Server
//	func (s *Server) Serve(ln net.Listener) error
//	func (s *Server) Shutdown(ctx context.Context) error // keeps accepting during the drain delay, then GOAWAY twice; nil when empty
//	func (s *Server) Close() error
//	func (s *Server) Conns() iterator for admin; counters
//
//	// Target is a place to tunnel to.
//	type Target struct {
//	    Addr      netip.AddrPort // ztunnel address, ip:15008
//	    Authority string         // CONNECT authority, podIP:targetPort
//	    Identity  string         // expected SPIFFE URI; empty: any of the trust domains
//	}
//	type PoolConfig struct { TLS identity.Source; H2 h2.Config; ConnectTimeout, IdleTimeout; MaxStreams (100); ... }
//	func NewPool(cfg PoolConfig) *Pool
//	// Dial returns a tunnel whose CONNECT was answered 200. It fails with *DialError.
//	func (p *Pool) Dial(ctx context.Context, t Target, hdr []attrs.Field) (*Tunnel, error)
//	func (p *Pool) Evict(addr netip.AddrPort)      // no new streams; open ones finish
//	func (p *Pool) Close()
//
//	// DialError says how far a dial came: no request byte was ever sent.
//	type DialError struct { Stage Stage; Status int; Err error } // StageTCP, StageTLS, StageIdentity, StageConnect (Status set when refused), StageTimeout
//
//	// Conn is what HTTP codecs run on: a Tunnel or a plain TCP connection.
//	type Conn interface {
//	    io.ReadWriteCloser
//	    CloseWrite() error
//	    Reset()                                    // abort both ways (RST)
//	    SetDeadline(time.Time) error; SetReadDeadline(time.Time) error; SetWriteDeadline(time.Time) error
//	}
