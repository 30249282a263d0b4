package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"waypoint.dev/waypoint/admin"
	"waypoint.dev/waypoint/admin/view"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/version"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/reports"
	"waypoint.dev/waypoint/proxy/stages"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/telemetry"
	"waypoint.dev/waypoint/telemetry/otlp"
)

// settings are what every way of starting a waypoint has in common.
type settings struct {
	hbone           string
	ports           admin.Addrs
	accessLog       string // path, "-" for standard output, empty: off
	accessLogFormat string
	logFormat       string
	logLevel        string
	drainDelay      time.Duration
	drainTimeout    time.Duration
	maxAge          time.Duration
	collector       string // OTLP/gRPC host:port, empty: no traces
	sampling        float64
	bounds          bounds
	sessionKeys     string // file of the secrets of session tokens; empty: one of this process

	network string    // the waypoint's own, told to gateways of others; empty: there is one
	service string    // service.name of what collectors get that the source names
	node    otlp.Node // the waypoint as its spans name it then

	// What one way of starting adds; nil: nothing.
	revoked func(*x509.Certificate) bool
	applied func() error                    // whether the source has said enough to be ready
	admin   func(*instance, *admin.Options) // changes what the administration ports show
	collect []prometheus.Collector
}

// instance is one running waypoint.
type instance struct {
	set   settings
	log   *slog.Logger
	level *slog.LevelVar

	ids      identity.Source
	store    config.Store
	compile  compiler
	reporter *telemetry.Reporter
	tracer   *otlp.Tracer // nil: off
	pool     *hbone.Pool
	names    *proxy.Names
	stages   *stages.Stages
	reports  *reports.Reports
	unwatch  []func() // of stages and reports
	events   proxy.BackendEvents
	overload resilience.Overload
	proxy    *proxy.Proxy
	server   *hbone.Server
	ln       net.Listener
	admin    *admin.Server

	draining   atomic.Bool
	started    time.Time
	stop       chan os.Signal
	configured chan struct{}  // closed by the first publish
	closing    chan struct{}  // closed by close
	accepting  sync.WaitGroup // the goroutine of accept
}

// holdLimit is how long connections wait, not accepted, for the first
// configuration: half of the 10 s that a ztunnel gives a connection.
const holdLimit = 5 * time.Second

// compiler turns models into the snapshot that serves, one at a time.
type compiler struct {
	mu       sync.Mutex
	problems []config.Problem // guarded by mu: of the newest model
	failed   atomic.Int64
	updates  atomic.Int64
}

// newLogger makes the process's logger, on standard error.
func newLogger(format, level string) (*slog.Logger, *slog.LevelVar, error) {
	lv := new(slog.LevelVar)
	l, ok := admin.ParseLevel(level)
	if !ok {
		return nil, nil, fmt.Errorf("--log-level %q: use debug, info, warning or error", level)
	}
	lv.Set(l)
	o := &slog.HandlerOptions{Level: lv}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), lv, nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), lv, nil
	}
	return nil, nil, fmt.Errorf("--log-format %q: use text or json", format)
}

// start wires everything up and listens; it serves nothing until a model is published.
func start(s settings, ids identity.Source, log *slog.Logger, level *slog.LevelVar) (*instance, error) {
	in := &instance{set: s, log: log, level: level, ids: ids, started: time.Now(), stop: make(chan os.Signal, 2), configured: make(chan struct{}), closing: make(chan struct{})}
	if limit := limitMemory(); limit > 0 {
		log.Debug("memory limit", "bytes", limit)
	}
	alog, err := openAccessLog(s)
	if err != nil {
		return nil, err
	}
	o := telemetry.Options{Log: alog, Build: version.String(), Sampler: telemetry.NewSampler(s.sampling)}
	o.Lost = func() uint64 { return in.reports.Lost() }
	if s.collector != "" {
		if in.tracer, err = newTracer(s, ids); err != nil {
			return nil, err
		}
		o.Tracer = in.tracer
	}
	in.reporter = telemetry.New(o)
	in.pool = hbone.NewPool(hbone.PoolConfig{TLS: ids, Revoked: s.revoked, Network: s.network, Log: log})

	keeper, err := sessionKeeper(s.sessionKeys)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", s.hbone)
	if err != nil {
		return nil, fmt.Errorf("HBONE port: %w (change it with --hbone-addr)", err)
	}
	in.ln = ln
	guard := hbone.Guard{Self: ownAddrs()}
	in.events.Log, in.events.Identity = log, ids
	in.names = proxy.NewNames(nil)
	in.stages = stages.New(stages.Options{Store: &in.store, Dialer: in.pool, Guard: guard, Names: in.names, Log: log})
	in.reports = reports.New(reports.Options{Dial: in.stages.DialBackend, Node: s.node, Service: s.service, Log: log})
	in.unwatch = []func(){in.stages.Watch(&in.store), in.reports.Watch(&in.store)}
	s.bounds.apply(&in.overload)
	in.proxy = proxy.New(proxy.Options{
		Store: &in.store, Dialer: in.pool, Telemetry: in.reporter, Log: log,
		Local: func() attrs.Principal { return ids.SVID().Principal },
		Guard: guard, Names: in.names, Sessions: keeper, Overload: &in.overload,
	})
	in.server = hbone.NewServer(hbone.ServerConfig{TLS: ids, Revoked: s.revoked, MaxConns: s.bounds.conns, MaxAge: s.maxAge, DrainDelay: delay(s.drainDelay), Log: log}, in.proxy)

	reg := prometheus.NewRegistry()
	reg.MustRegister(in.reporter, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), in)
	reg.MustRegister(s.collect...)
	opts := admin.Options{
		Metrics: reg, Level: level, Log: log,
		Ready: in.ready, Drain: in.drainOnly, Quit: func() { in.stop <- syscall.SIGTERM },
		Dump:      func(map[string]string) any { return view.Config(in.store.Load(), in.compile.list()) },
		Clusters:  func(bool) any { return view.Backends(in.store.Load()) },
		Listeners: func(bool) any { return in.addrs() },
		Certs:     func(bool) any { return view.Certs(in.ids) },
		Info:      in.info,
		Explain:   explainHandler(&in.store),
	}
	if s.admin != nil {
		s.admin(in, &opts)
	}
	in.admin, err = admin.Start(s.ports, opts)
	if err != nil {
		ln.Close()
		return nil, err
	}
	in.accepting.Go(in.accept)
	return in, nil
}

// accept serves the HBONE port. A restarted container is still an endpoint of
// its mesh: what comes before the first configuration waits in the listener's
// queue, for a moment, instead of being refused.
func (in *instance) accept() {
	t := time.NewTimer(holdLimit)
	defer t.Stop()
	select {
	case <-in.configured:
	case <-t.C:
	case <-in.closing:
	}
	if err := in.server.Serve(in.ln); err != nil && !errors.Is(err, hbone.ErrServerClosed) {
		in.log.Error("the HBONE listener ended; stopping", "error", err)
		in.stop <- syscall.SIGTERM
	}
}

// ownAddrs are this machine's addresses: a client must not be able to make the
// waypoint call itself.
func ownAddrs() (out []netip.Addr) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out
}

// delay maps our "none" to hbone's.
func delay(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func newTracer(s settings, ids identity.Source) (*otlp.Tracer, error) {
	own := ids.SVID().Principal
	return otlp.New(context.Background(), otlp.Options{
		Endpoint: s.collector, Service: own.ServiceAccount + "." + own.Namespace,
		Node: otlp.Node{Namespace: own.Namespace, CanonicalService: own.ServiceAccount},
	})
}

func openAccessLog(s settings) (*telemetry.AccessLog, error) {
	format := telemetry.Text
	switch s.accessLogFormat {
	case "text":
	case "json":
		format = telemetry.JSON
	default:
		return nil, fmt.Errorf("--access-log-format %q: use text or json", s.accessLogFormat)
	}
	switch s.accessLog {
	case "":
		return nil, nil
	case "-", "/dev/stdout":
		return telemetry.NewAccessLog(os.Stdout, format), nil
	}
	f, err := os.OpenFile(s.accessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	return telemetry.NewAccessLog(f, format), nil
}

// publish compiles a model and serves it. locate, if there is one, names the sources of
// what only compiling finds.
func (in *instance) publish(m *config.Model, locate func([]config.Problem)) {
	c := &in.compile
	c.mu.Lock()
	defer c.mu.Unlock()
	old := in.store.Load()
	snap, problems := config.Compile(m, old, in.env())
	in.store.Swap(snap)
	c.updates.Add(1)
	if locate != nil {
		locate(problems)
	}
	problems = append(append([]config.Problem(nil), m.Problems...), problems...)
	in.report(problems, c.problems)
	c.problems = problems
	if old == nil {
		close(in.configured)
		in.log.Info("serving", "hbone", in.hboneAddr(), "admin", in.addr("admin"), "metrics", in.addr("metrics"), "ready", in.addr("ready"),
			"identity", in.ids.SVID().Principal.URI, "destinations", len(m.Destinations), "backends", len(m.Backends), "version", version.String())
		return
	}
	in.log.Debug("configuration applied", "version", snap.Version, "destinations", len(m.Destinations), "problems", len(problems))
}

// report logs the problems that are new.
func (in *instance) report(now, before []config.Problem) {
	known := make(map[config.Problem]bool, len(before))
	for _, p := range before {
		known[p] = true
	}
	failed := int64(0)
	for _, p := range now {
		if p.Severity == config.Error {
			failed++
		}
		if known[p] {
			continue
		}
		level := slog.LevelDebug
		switch p.Severity {
		case config.Error:
			level = slog.LevelError
		case config.Warning:
			level = slog.LevelWarn
		}
		in.log.Log(context.Background(), level, p.Message, "kind", p.Kind, "namespace", p.Namespace, "name", p.Name, "field", p.Field, "source", p.Source, "reason", p.Reason)
	}
	in.compile.failed.Store(failed)
}

func (c *compiler) list() []config.Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problems
}

func (in *instance) env() config.Env {
	return config.Env{State: in.events.State, Stage: in.stages.Compile, Reports: in.reports.Compile}
}

func (in *instance) ready() error {
	switch {
	case in.draining.Load():
		return errors.New("draining")
	case in.store.Load() == nil:
		return errors.New("no configuration yet")
	case in.ids.SVID() == nil:
		return errNoCertificate
	}
	if in.set.applied != nil {
		return in.set.applied()
	}
	return nil
}

func (in *instance) hboneAddr() string { return in.ln.Addr().String() }

func (in *instance) addr(port string) string {
	if a := in.admin.Addr(port); a != nil {
		return a.String()
	}
	return ""
}

func (in *instance) addrs() map[string]string {
	out := map[string]string{"hbone": in.hboneAddr()}
	for _, p := range []string{"admin", "metrics", "ready", "stats"} {
		if a := in.addr(p); a != "" {
			out[p] = a
		}
	}
	return out
}

func (in *instance) info() any {
	state := "LIVE"
	switch {
	case in.draining.Load():
		state = "DRAINING"
	case in.store.Load() == nil:
		state = "INITIALIZING"
	}
	return map[string]any{
		"version": version.String(), "state": state, "uptime_current_epoch": time.Since(in.started).Truncate(time.Second).String(),
		"command_line_options": map[string]any{"drain_time": in.set.drainTimeout.String()},
	}
}
