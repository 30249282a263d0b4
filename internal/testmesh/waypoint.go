package testmesh

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/stages"
	"waypoint.dev/waypoint/telemetry"
)

// Waypoint is a waypoint in this process, made of the parts that the binary
// wires, in the same way.
type Waypoint struct {
	Addr     netip.AddrPort
	Store    *config.Store
	Reporter *telemetry.Reporter
	Server   *hbone.Server
	Proxy    *proxy.Proxy
	Pool     *hbone.Pool
	Stages   *stages.Stages

	mu  sync.Mutex
	env config.Env
	wg  sync.WaitGroup

	unwatch func()           // of Stages
	snap    *config.Snapshot // guarded by mu: the last one compiled
}

// WaypointOptions of an in-process waypoint. Source is required.
type WaypointOptions struct {
	Source     identity.Source
	Listen     string // "127.0.0.1:0", a free port, unless set
	Log        *slog.Logger
	AccessLog  *telemetry.AccessLog
	Observer   telemetry.Tracer // gets every record
	Env        config.Env       // hooks; they default to those of the binary
	DrainDelay time.Duration    // 0: none
	MaxAge     time.Duration    // 0: none
	Proxy      func(*proxy.Options)
	Stages     func(*stages.Options)
	HBONE      func(*hbone.ServerConfig)
	PoolConfig func(*hbone.PoolConfig)
}

// NewWaypoint listens and serves nothing yet.
func NewWaypoint(o WaypointOptions) (*Waypoint, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Env.State == nil {
		o.Env.State = proxy.BackendState
	}
	ln, err := net.Listen("tcp", cmp.Or(o.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	w := &Waypoint{Addr: ln.Addr().(*net.TCPAddr).AddrPort(), Store: new(config.Store), env: o.Env}
	w.Reporter = telemetry.New(telemetry.Options{Log: o.AccessLog, Observer: o.Observer})
	pc := hbone.PoolConfig{TLS: o.Source, Log: o.Log}
	if o.PoolConfig != nil {
		o.PoolConfig(&pc)
	}
	w.Pool = hbone.NewPool(pc)
	po := proxy.Options{Store: w.Store, Dialer: w.Pool, Telemetry: w.Reporter, Log: o.Log,
		Local: func() attrs.Principal { return o.Source.SVID().Principal }}
	if o.Proxy != nil {
		o.Proxy(&po)
	}
	so := stages.Options{Store: w.Store, Dialer: w.Pool, Guard: po.Guard, Log: o.Log}
	if o.Stages != nil {
		o.Stages(&so)
	}
	w.Stages = stages.New(so)
	w.unwatch = w.Stages.Watch(w.Store)
	if w.env.Stage == nil {
		w.env.Stage = w.Stages.Compile
	}
	w.Proxy = proxy.New(po)
	none := func(d time.Duration) time.Duration {
		if d == 0 {
			return -1
		}
		return d
	}
	sc := hbone.ServerConfig{TLS: o.Source, MaxAge: none(o.MaxAge), DrainDelay: none(o.DrainDelay), Log: o.Log}
	if o.HBONE != nil {
		o.HBONE(&sc)
	}
	w.Server = hbone.NewServer(sc, w.Proxy)
	w.wg.Go(func() { w.Server.Serve(ln) })
	return w, nil
}

// Serve compiles a model and makes it serve.
func (w *Waypoint) Serve(m *config.Model) []config.Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	snap, problems := config.Compile(m, w.snap, w.env)
	w.snap = snap
	w.Store.Swap(snap)
	return append(append([]config.Problem(nil), m.Problems...), problems...)
}

// Drain shuts down gracefully, within the deadline of ctx.
func (w *Waypoint) Drain(ctx context.Context) error { return w.Server.Shutdown(ctx) }

// Close cuts everything.
func (w *Waypoint) Close() {
	w.Server.Close()
	w.Proxy.Close()
	w.unwatch()
	w.Stages.Close()
	w.Pool.Close()
	w.wg.Wait()
}
