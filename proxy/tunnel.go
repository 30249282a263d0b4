package proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/proxy/http2"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// inbound is what the proxy uses of an *hbone.Tunnel.
type inbound interface {
	hbone.Conn
	Peer() attrs.Principal
	PeerAddr() netip.AddrPort
	LocalAddr() netip.AddrPort
	Authority() string
	Dest() (addr netip.AddrPort, host string, port uint16)
	Header(name string) string
	Accept() error
	RefuseReason(status int, reason string) error
	Draining() <-chan struct{}
}

var _ inbound = (*hbone.Tunnel)(nil)

// tunnel is one accepted CONNECT.
type tunnel struct {
	// fixed before the first request
	p       *Proxy
	in      inbound
	conn    attrs.Conn // SNI is set while sniffing
	local   netip.AddrPort
	peer    *telemetry.Peer
	mutual  bool
	shard   uint32
	drained <-chan struct{}
	over    bool      // there was no room for it: its first request is answered 503
	dry     *exchange // of Explain: nobody outside is asked

	// owned by the tunnel's goroutine
	first  sniffed // what told the protocol
	opened bool    // in the set of tunnels, and counted

	service    atomic.Pointer[chainService]
	clientCert atomic.Pointer[string]

	mu        sync.Mutex
	h1        *http1.ServerConn  // guarded by mu
	h2        *http2.ServerConn  // guarded by mu
	tcp       *session           // guarded by mu
	live      *exchange          // guarded by mu: list of the exchanges under way
	ended     chan struct{}      // guarded by mu: closed when live is empty for good
	hijacked  bool               // guarded by mu: the tunnel became a byte stream
	interrupt context.CancelFunc // guarded by mu: of interruptible
	sniffing  bool               // guarded by mu: accepted, nothing decided yet
	draining  bool               // guarded by mu
}

// newTunnel makes the tunnel of an accepted CONNECT.
//
//go:noinline
func newTunnel(p *Proxy, in inbound) *tunnel {
	t := &tunnel{p: p, in: in, drained: in.Draining(), shard: p.shard.Add(1)}
	if w, ok := in.(interface{ OnReset(func()) }); ok {
		w.OnReset(func() { p.workers.do((*resetTunnel)(t)) })
	}
	return t
}

// serve runs one tunnel to its end. An idle tunnel waits below it: what is rare,
// and all that only begins or ends, stands in functions of its own, since the
// frames of this path decide whether its stack fits into 4 KiB.
func (t *tunnel) serve() {
	defer t.finish()
	c := t.open()
	if c == nil {
		return
	}
	switch c.Spec.Protocol {
	case config.ProtocolTCP:
		t.runTCP(c)
	case config.ProtocolTLS:
		t.runTLS(c)
	default:
		t.runHTTP(c)
	}
}

// open admits the tunnel and enters it in the set; nil: it was refused.
//
//go:noinline
func (t *tunnel) open() *config.Chain {
	c, ok := t.admit()
	if !ok {
		return nil
	}
	t.opened = true
	t.p.tunnels.add(t)
	if t.over {
		t.drain() // it ends behind the answer to its first request
	}
	return c
}

// finish runs behind serve, whatever became of it.
func (t *tunnel) finish() {
	if r := recover(); r != nil {
		t.p.panicked("tunnel", r)
		t.in.Reset()
	}
	if t.opened {
		t.p.tunnels.remove(t)
		t.giveRoom()
	}
	if w, ok := t.in.(interface{ OnReset(func()) }); ok {
		w.OnReset(nil)
	}
}

// resetTunnel tells the exchanges of a tunnel that it was reset, like leaving.
type resetTunnel tunnel

func (r *resetTunnel) run() {
	t := (*tunnel)(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.interrupt != nil {
		t.interrupt()
	}
	for x := t.live; x != nil; x = x.next {
		x.clientLeft()
	}
}

// admit looks the destination up and answers the CONNECT. What can be answered
// inside the tunnel is not refused here.
func (t *tunnel) admit() (*config.Chain, bool) {
	in := t.in
	addr, host, port := in.Dest()
	if !addr.IsValid() && host == "" {
		_ = in.RefuseReason(400, "malformed authority")
		return nil, false
	}
	snap := t.p.opts.Store.Load()
	t.conn = attrs.Conn{Peer: in.Peer(), Source: in.PeerAddr(), Dest: addr, DestHost: host, DestPort: port}
	if t.p.opts.Local != nil {
		t.conn.Local = t.p.opts.Local()
	}
	t.local = addr
	t.mutual = t.conn.Peer.URI != "" && t.conn.Local.URI != ""
	c := snap.Lookup(addr, host, port)
	if c == nil {
		if snap == nil {
			// Nothing is known of the destination yet: it is the waypoint that
			// is not there, for a moment.
			_ = in.RefuseReason(503, "no configuration yet")
			return nil, false
		}
		_ = in.RefuseReason(404, "unknown destination")
		return nil, false
	}
	t.peer = t.source(snap)
	if !t.takeRoom() && !t.refuseInside(c) {
		reason := resilience.Streams.String()
		t.recordTCP(c, func(r *telemetry.Record) {
			r.Code, r.Flags, r.Details, r.Reason = 503, telemetry.FlagUO, reason, reason
		})
		_ = in.RefuseReason(503, reason)
		return nil, false
	}
	if c.Spec.Protocol == config.ProtocolTCP {
		// Nothing more will be learnt of this connection: say no at the door.
		if d, flags, ok := t.allowed(c); !ok {
			t.recordTCP(c, func(r *telemetry.Record) { deniedConn(r, d, flags) })
			t.giveRoom()
			_ = in.RefuseReason(403, string(d.Reason)+" "+d.Policy)
			return nil, false
		}
	}
	if in.Accept() != nil {
		t.giveRoom()
		return nil, false
	}
	return c, true
}

//go:noinline
func (t *tunnel) runTCP(c *config.Chain) { t.serveTCP(c, sniffed{}, true) }

// await waits for a tunnel's first byte, with as little on the stack as can be:
// most tunnels spend most of their life here or waiting for a next request. It
// reports whether there is something to read, or the way to learn is to read.
//
//go:noinline
func (t *tunnel) await() bool {
	w, ok := t.in.(interface{ WaitReadable() error })
	return !ok || t.awaited(t.startAwait() || w.WaitReadable() != nil)
}

// startAwait notes that nothing is decided yet. It reports a tunnel that is gone.
//
//go:noinline
func (t *tunnel) startAwait() (gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sniffing = true
	// Accepted while its connection drained: what it was opened for may come.
	return t.draining && t.in.SetReadDeadline(time.Now().Add(firstGrace)) != nil
}

// awaited looks at how the wait ended. A request that had arrived before the
// drain did is served.
//
//go:noinline
func (t *tunnel) awaited(failed bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sniffing = false
	if !failed {
		return true
	}
	r, ok := t.in.(interface{ Readable() bool })
	return t.draining && ok && r.Readable() && t.in.SetReadDeadline(time.Time{}) == nil
}

func (t *tunnel) runTLS(c *config.Chain) {
	sn, err := t.sniff(false)
	if err != nil && err != errSilent {
		sn.release()
		return
	}
	t.conn.SNI = sn.sni
	t.serveTCP(c, sn, false)
}

// runHTTP serves what is declared HTTP or not declared at all. An idle tunnel
// waits below it, see serve.
func (t *tunnel) runHTTP(c *config.Chain) {
	auto := c.Spec.Protocol == config.ProtocolAuto
	if (!auto || c.HTTPOnly) && !t.await() {
		return
	}
	switch t.identify(c, auto) {
	case protoHTTP1:
		t.serveHTTP1(c)
	case protoHTTP2:
		t.serveHTTP2()
	}
}

// identify finds out what the tunnel speaks and leaves its first bytes in t.first.
// What is no HTTP is served or closed here.
//
//go:noinline
func (t *tunnel) identify(c *config.Chain, auto bool) protocol {
	sn, err := t.sniff(!auto || c.HTTPOnly)
	if err != nil && err != errSilent {
		sn.release()
		return protoUnknown
	}
	t.first = sn
	switch {
	case sn.proto == protoHTTP2:
		return protoHTTP2
	case sn.proto == protoHTTP1, !auto:
		return protoHTTP1
	case c.HTTPOnly:
		t.closeNotHTTP(c, sn)
	default:
		t.conn.SNI = sn.sni
		t.serveTCP(c, sn, false)
	}
	return protoUnknown
}

func notHTTP(r *telemetry.Record) {
	r.Flags, r.Termination, r.Reason = telemetry.FlagDPE, "not_http_on_http_port", "not_http"
}

// closeNotHTTP ends a tunnel whose bytes would pass beside the policies and
// routes of the port.
//
//go:noinline
func (t *tunnel) closeNotHTTP(c *config.Chain, sn sniffed) {
	t.p.log.Info("connection closed: not HTTP on a port with HTTP policy", "peer", t.conn.Peer.URI, "destination", t.in.Authority(), "protocol", sn.proto.String())
	sn.release()
	t.recordTCP(c, notHTTP)
	t.in.Reset()
}

// sniff reads the first bytes. A drain in the meantime ends it: the tunnel is idle.
func (t *tunnel) sniff(patient bool) (sniffed, error) {
	t.mu.Lock()
	if t.draining {
		// Accepted while its connection drained: what it was opened for may come.
		if err := t.in.SetReadDeadline(time.Now().Add(http1.DrainGrace)); err != nil {
			t.mu.Unlock()
			return sniffed{}, err
		}
	}
	t.sniffing = true
	t.mu.Unlock()
	sn, err := sniff(t.in, t.p.opts.DetectTimeout, patient)
	t.mu.Lock()
	t.sniffing = false
	drained := t.draining
	t.mu.Unlock()
	if drained && sn.n == 0 {
		r, ok := t.in.(interface{ Readable() bool })
		if !ok || !r.Readable() || t.in.SetReadDeadline(time.Time{}) != nil {
			return sn, io.EOF
		}
		// A request had arrived before the drain did: it is served.
		sn.release()
		return sniff(t.in, t.p.opts.DetectTimeout, patient)
	}
	if errors.Is(err, errSilent) && patient {
		return sn, io.EOF
	}
	return sn, err
}

// serveHTTP1 answers the requests of an HTTP/1 connection, one by one.
func (t *tunnel) serveHTTP1(c *config.Chain) {
	sc := t.startHTTP1(c)
	defer t.endHTTP1()
	for {
		srv, err := sc.Next()
		if err != nil {
			t.badHead(sc, err)
			return
		}
		if !t.exchange(srv) {
			return
		}
	}
}

// startHTTP1 has a frame of its own, which is gone while the tunnel idles.
//
//go:noinline
func (t *tunnel) startHTTP1(c *config.Chain) *http1.ServerConn {
	set := &c.Spec.Settings
	sc := http1.NewServerConn(t.in, http1.ServerOptions{
		MaxHead:     set.MaxHeadBytes,
		AllowHTTP10: set.AllowHTTP10,
		IdleTimeout: t.p.opts.IdleTimeout,
		HeadTimeout: t.p.opts.HeadTimeout,
		Sniffed:     t.first.bytes(),
	})
	t.first.release()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.h1 = sc
	if t.draining {
		sc.SetDraining()
	}
	return sc
}

func (t *tunnel) endHTTP1() {
	t.linger()
	t.mu.Lock()
	sc := t.h1
	t.mu.Unlock()
	sc.Close()
}

// linger ends an HTTP/1 connection behind its last response: what the client
// still sends is read away for a while, so that it sees the response and not a
// reset. It returns at once when the client has ended its side, or nothing works
// any more.
func (t *tunnel) linger() {
	t.mu.Lock()
	raw := t.hijacked
	t.mu.Unlock()
	if raw || t.in.CloseWrite() != nil || t.in.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	b := buf.Take(buf.MinPooled)
	defer b.Release()
	for left := lingerBytes; left > 0; {
		n, err := t.in.Read(b.B)
		if err != nil {
			return
		}
		left -= n
	}
}

// badHead answers a head that could not be read.
//
//go:noinline
func (t *tunnel) badHead(sc *http1.ServerConn, err error) {
	var pe *http1.ProtocolError
	if !errors.As(err, &pe) {
		return
	}
	r := &telemetry.Record{}
	r.Reset()
	t.base(r)
	r.Version, r.Code, r.Flags = "HTTP/1.1", pe.Status, telemetry.FlagDPE
	r.Details = "http1." + strings.ReplaceAll(pe.Reason, " ", "_")
	if c := t.p.opts.Store.Load().Lookup(t.conn.Dest, t.conn.DestHost, t.conn.DestPort); c != nil {
		r.Service = t.serviceOf(c)
	}
	t.p.opts.Telemetry.Begin()
	_ = sc.WriteError(pe.Status, malformedBody(pe.Status),
		attrs.Field{Name: "date", Value: t.p.dates.at(r.Start)}, attrs.Field{Name: "server", Value: serverName})
	r.Duration = time.Since(r.Start)
	t.p.opts.Telemetry.Done(r)
}

// malformedBody is what Envoy's codec says, the reason being in the log only.
func malformedBody(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 426:
		return "Upgrade Required"
	case 431:
		return "Request Header Fields Too Large"
	case 501:
		return "Not Implemented"
	}
	return ""
}

// base fills what a record says of the tunnel.
func (t *tunnel) base(r *telemetry.Record) {
	r.Start = time.Now()
	r.Shard = t.shard
	r.Source, r.MutualTLS = t.peer, t.mutual
	r.Downstream, r.DownstreamLocal, r.SNI = t.conn.Source, t.local, t.conn.SNI
}

// serveHTTP2 serves an HTTP/2 connection, each stream on a goroutine of its own.
//
//go:noinline
func (t *tunnel) serveHTTP2() {
	nc := newNetConn(t.in, append([]byte(nil), t.first.bytes()...))
	t.first.release()
	sc := http2.NewServerConn(nc, t.p.opts.H2, func(srv codec.Server) { t.exchange(srv) })
	t.mu.Lock()
	t.h2 = sc
	if t.draining {
		sc.SetDraining()
	}
	t.mu.Unlock()
	_ = sc.Serve()
	_ = t.in.Close()
	// The connection's end has failed the streams that were left; their exchanges
	// are the tunnel's to the last.
	t.mu.Lock()
	t.ended = make(chan struct{})
	if t.live == nil {
		close(t.ended)
	}
	t.mu.Unlock()
	<-t.ended
}

// target returns what a backend of the chain's rules means for this tunnel.
func (t *tunnel) target(c *config.Chain, b *routing.CompiledBackend) *config.Target {
	if target := c.Target(b.Ref); target != nil {
		return target
	}
	if b.Ref == len(c.Spec.Refs) && t.conn.Dest.IsValid() {
		return c.Direct(t.conn.Dest) // a workload: the address itself
	}
	return nil
}
