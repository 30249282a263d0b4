package proxy

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	sessions "waypoint.dev/waypoint/resilience/session"
	"waypoint.dev/waypoint/telemetry"
)

const (
	tunnelPort = config.TunnelPort
	// defaultDetect is how long an undeclared port waits for a client's first
	// bytes before it is taken for a server-first protocol.
	defaultDetect = 5 * time.Second
	// sweepInterval is how often kept connections are looked at and TCP bytes are
	// reported (Istio: tcp_reporting_duration, 5 s).
	sweepInterval = 5 * time.Second
	// defaultTCPIdle is Envoy's default idle_timeout of a TCP proxy.
	defaultTCPIdle = time.Hour
)

// Options of a Proxy. Store, Dialer and Telemetry are required.
type Options struct {
	Store     *config.Store
	Dialer    Dialer
	Telemetry *telemetry.Reporter

	// Local returns the waypoint's own identity; nil: none is known.
	Local func() attrs.Principal

	Log   *slog.Logger // nil: discards
	Guard hbone.Guard  // what a client-chosen address may not be
	Names *Names       // what DNS endpoints resolve to, shared; nil: its own
	H2    h2.Config    // of HTTP/2 inside tunnels, both sides; without keepalive unless it is set

	DetectTimeout   time.Duration // 0: 5 s
	IdleTimeout     time.Duration // of a client's HTTP/1 connection between requests; 0: none
	HeadTimeout     time.Duration // for a request head, once begun; 0: 60 s, negative: none
	MaxResponseHead int           // bytes; 0: 60 KiB (Envoy)
	ReplayBytes     int64         // for request bodies kept for a retry; 0: 64 MiB

	// Sessions makes and opens the tokens of session persistence; nil: with a secret
	// of this process alone, so that other replicas do not honour its tokens.
	Sessions *sessions.Keeper

	// Overload bounds tunnels, requests that wait for a connection, and bodies
	// buffered for external authorizers; nil: no bounds.
	Overload *resilience.Overload
}

// Proxy serves tunnels. Its method ServeTunnel makes it an hbone.Handler.
type Proxy struct {
	// fixed after New
	opts   Options
	log    *slog.Logger
	ctx    context.Context // ends with Stop or Close
	cancel context.CancelFunc
	dial   func(ctx context.Context, ep *balance.Endpoint) (hbone.Conn, error)
	replay *resilience.ReplayBudget

	names    *Names               // fixed after New; nil: the options brought one
	sessions *sessions.Keeper     // fixed after New; nil in Explain
	overload *resilience.Overload // fixed after New
	unwatch  func()
	poke     chan struct{} // wakes the sweeper

	held    atomic.Int32  // tunnels that wait for room
	freed   chan struct{} // fixed after New: tells them of some
	inside  atomic.Int32  // tunnels over the limit that are answered inside
	dates   dates
	workers workers
	pools   poolSet
	tunnels tunnelSet
	mirrors mirrorCount
	shard   atomic.Uint32
	panics  atomic.Uint64
	changes atomic.Uint64 // of the snapshot: moves behind the swap and before recheck

	wg sync.WaitGroup // sweeper
}

var _ hbone.Handler = (*Proxy)(nil)

// New makes a proxy and starts its housekeeping. Close it.
func New(o Options) *Proxy {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DetectTimeout == 0 {
		o.DetectTimeout = defaultDetect
	}
	switch {
	case o.HeadTimeout == 0:
		o.HeadTimeout = 60 * time.Second
	case o.HeadTimeout < 0:
		o.HeadTimeout = 0
	}
	if o.ReplayBytes == 0 {
		o.ReplayBytes = resilience.ReplayBytes
	}
	if o.H2.KeepaliveInterval == 0 {
		// What is dead is known by the connection that carries the tunnel. In here a
		// PING is the application's business: gRPC servers take one in five minutes, and
		// none without a stream, and close the connection of who sends more ("too_many_pings").
		o.H2.KeepaliveInterval = -1
	}
	if o.Sessions == nil {
		o.Sessions = newKeeper()
	}
	if o.Overload == nil {
		o.Overload = new(resilience.Overload)
	}
	p := &Proxy{opts: o, sessions: o.Sessions, overload: o.Overload, log: o.Log, replay: resilience.NewReplayBudget(o.ReplayBytes), poke: make(chan struct{}, 1), freed: make(chan struct{}, maxInside)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if o.Names == nil {
		p.names = NewNames(nil)
		o.Names = p.names
	}
	p.dial = (&EndpointDialer{Dialer: o.Dialer, Guard: o.Guard, Names: o.Names}).Dial
	p.tunnels.init()
	p.pools.init()
	p.unwatch = o.Store.Watch(p.changed)
	p.wg.Go(p.sweep)
	return p
}

// ServeTunnel implements hbone.Handler. It returns when the tunnel has ended.
func (p *Proxy) ServeTunnel(t *hbone.Tunnel) { newTunnel(p, t).serve() }

// Active is how many tunnels are open.
func (p *Proxy) Active() int { return p.tunnels.len() }

// Panics is how many panics were contained. Each was logged.
func (p *Proxy) Panics() uint64 { return p.panics.Load() }

// Drain ends what can end inside of the open tunnels: idle ones close, the next
// response of an HTTP/1 connection is its last, HTTP/2 connections get GOAWAY.
// TCP and upgraded streams run on. Tunnels whose connection drains (see
// hbone.Tunnel.Draining) are drained without it.
func (p *Proxy) Drain() { p.tunnels.drain() }

// Stop says that what is left is about to be cut: what ends from now on does so here, and
// is not recorded as its client's doing.
func (p *Proxy) Stop() { p.cancel() }

// Close cuts everything that is left and stops the housekeeping. Tunnels must
// have been closed by their server, which Close does not wait for.
func (p *Proxy) Close() {
	p.unwatch()
	p.cancel()
	p.tunnels.close()
	p.pools.close()
	p.wg.Wait()
	if p.names != nil {
		p.names.Close()
	}
	p.workers.close()
}

// changed is called behind each change of the snapshot.
func (p *Proxy) changed(_, s *config.Snapshot) {
	p.changes.Add(1)
	p.tunnels.recheck(s)
	select {
	case p.poke <- struct{}{}: // pools of endpoints that are gone
	default:
	}
}

// sweep looks after what nobody else touches while it is idle.
func (p *Proxy) sweep() {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.poke:
			p.pools.sweep(time.Now())
		case now := <-t.C:
			p.pools.sweep(now)
			p.tunnels.reportBytes()
		}
	}
}

// panicked notes a contained panic.
func (p *Proxy) panicked(where string, r any) {
	p.panics.Add(1)
	p.log.Error("panic contained", "where", where, "panic", r, "stack", string(debug.Stack()))
}
