package proxy

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
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
	assume  bool      // of Explain: Question.Unlisted

	// owned by the tunnel's goroutine
	first    sniffed // what told the protocol
	opened   bool    // in the set of tunnels, and counted
	watching bool    // see watchEnd

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
	if w, ok := in.(watched); ok {
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
	if w, ok := t.in.(watched); ok {
		w.OnReset(nil)
		w.OnEnd(nil)
	}
}

// watched is a tunnel that tells how its peer ends it while nobody reads.
type watched interface {
	OnReset(func())
	OnEnd(func())
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

// base fills what a record says of the tunnel.
func (t *tunnel) base(r *telemetry.Record) {
	r.Start = time.Now()
	r.Shard = t.shard
	r.Source, r.MutualTLS = t.peer, t.mutual
	r.Downstream, r.DownstreamLocal, r.SNI = t.conn.Source, t.local, t.conn.SNI
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
