package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are what the ports show and do. Nil functions answer 404.
type Options struct {
	Metrics                    prometheus.Gatherer
	Ready                      func() error                      // nil error: ready
	Drain                      func()                            // starts a graceful drain
	Quit                       func()                            // ends the process
	Level                      *slog.LevelVar                    // log level, changed by POST /logging
	Dump                       func(query map[string]string) any // config_dump, redacted, marshalled as JSON
	Explain                    http.Handler                      // /explain
	Info                       func() any                        // server_info
	Clusters, Listeners, Certs func(asJSON bool) any
	Log                        *slog.Logger
}

// Server is the set of listeners.
type Server struct {
	opts    Options
	servers []*http.Server
	addrs   map[string]net.Addr
	serving sync.WaitGroup
}

// Addrs says where to listen; an empty address is off.
type Addrs struct {
	Admin   string // "127.0.0.1:15000"
	Metrics string // ":15020"
	Ready   string // ":15021"
	Stats   string // ":15090"
}

// DefaultAddrs are Istio's ports.
var DefaultAddrs = Addrs{Admin: "127.0.0.1:15000", Metrics: ":15020", Ready: ":15021", Stats: ":15090"}

// ErrNotLoopback refuses an administration port that others could reach.
var ErrNotLoopback = errors.New("admin: the administration port must listen on a loopback address (it can drain and stop the waypoint)")

// Start listens on all addresses. Close stops them.
func Start(a Addrs, o Options) (*Server, error) {
	s := &Server{opts: o, addrs: map[string]net.Addr{}}
	for _, p := range []struct {
		name, addr string
		h          http.Handler
	}{
		{"admin", a.Admin, s.admin()},
		{"metrics", a.Metrics, s.metrics()},
		{"ready", a.Ready, s.ready()},
		{"stats", a.Stats, s.stats()},
	} {
		if p.addr == "" {
			continue
		}
		if p.name == "admin" {
			if err := loopback(p.addr); err != nil {
				s.Close()
				return nil, err
			}
		}
		ln, err := net.Listen("tcp", p.addr)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("admin: %s port: %w (another waypoint on this machine? change it with --%s-addr)", p.name, err, p.name)
		}
		// A scrape or probe is small and short; slow readers are cut, but a CPU
		// profile may take its 30 s and more.
		hs := &http.Server{Handler: p.h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		s.servers = append(s.servers, hs)
		s.addrs[p.name] = ln.Addr()
		s.serving.Go(func() { hs.Serve(ln) })
	}
	return s, nil
}

// Addr is where the named port ("admin", "metrics", "ready", "stats") listens; nil if off.
func (s *Server) Addr(name string) net.Addr { return s.addrs[name] }

// Close stops all ports at once, which are free when it returns.
func (s *Server) Close() error {
	var errs []error
	for _, hs := range s.servers {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := hs.Shutdown(ctx); err != nil {
			errs = append(errs, hs.Close())
		}
		cancel()
	}
	// A server that is shut down before its Serve began leaves the listener to Serve.
	s.serving.Wait()
	return errors.Join(errs...)
}

func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("admin: %q is not host:port: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return ErrNotLoopback
	}
	return nil
}

func (s *Server) ready() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz/ready", s.serveReady)
	return m
}

func (s *Server) stats() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /stats/prometheus", s.prometheus())
	return m
}

func (s *Server) metrics() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /metrics", s.prometheus())
	m.Handle("GET /stats/prometheus", s.prometheus())
	m.HandleFunc("GET /healthz/ready", s.serveReady)
	m.HandleFunc("POST /quitquitquit", local(s.do(s.opts.Quit)))
	m.HandleFunc("POST /drain", local(s.do(s.opts.Drain)))
	s.profile(m)
	return m
}

func (s *Server) admin() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", help)
	m.HandleFunc("GET /help", help)
	m.HandleFunc("GET /ready", s.serveReady)
	m.HandleFunc("GET /config_dump", s.dump)
	m.Handle("GET /stats/prometheus", s.prometheus())
	m.HandleFunc("GET /stats", s.listStats)
	m.HandleFunc("GET /server_info", s.json(func(bool) any {
		if s.opts.Info == nil {
			return nil
		}
		return s.opts.Info()
	}))
	m.HandleFunc("GET /clusters", s.json(s.opts.Clusters))
	m.HandleFunc("GET /listeners", s.json(s.opts.Listeners))
	m.HandleFunc("GET /certs", s.json(s.opts.Certs))
	m.HandleFunc("GET /memory", s.json(func(bool) any { return memory() }))
	m.HandleFunc("POST /logging", s.logging)
	m.HandleFunc("POST /drain_listeners", s.do(s.opts.Drain))
	m.HandleFunc("POST /quitquitquit", s.do(s.opts.Quit))
	if s.opts.Explain != nil {
		m.Handle("/explain", s.opts.Explain)
	}
	s.profile(m)
	return m
}

func help(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, `waypoint administration
  GET  /config_dump              what is served, secrets redacted
  GET  /clusters?format=json     backends and their endpoints
  GET  /listeners                ports
  GET  /certs                    own certificate and roots
  GET  /explain?method=&url=&from=&header=&sni=   which route and policy decide a request, and why
  GET  /stats  /stats/prometheus metrics
  GET  /server_info  /memory  /ready
  POST /logging?level=debug      debug, info, warning, error
  POST /drain_listeners?graceful stop taking connections, let requests finish
  POST /quitquitquit             drain and exit
  GET  /debug/pprof/             profiles
`)
}

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Ready != nil {
		if err := s.opts.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	io.WriteString(w, "LIVE\n")
}

func (s *Server) prometheus() http.Handler {
	if s.opts.Metrics == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(s.opts.Metrics, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

func (s *Server) do(f func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if f == nil {
			http.NotFound(w, r)
			return
		}
		f()
		io.WriteString(w, "OK\n")
	}
}

func (s *Server) json(f func(asJSON bool) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if f == nil {
			http.NotFound(w, r)
			return
		}
		writeJSON(w, f(r.URL.Query().Get("format") == "json"))
	}
}

// writeJSON writes strings as they are and everything else as indented JSON.
func writeJSON(w http.ResponseWriter, v any) {
	if t, ok := v.(string); ok {
		io.WriteString(w, t)
		return
	}
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(b, '\n'))
}

func (s *Server) dump(w http.ResponseWriter, r *http.Request) {
	if s.opts.Dump == nil {
		http.NotFound(w, r)
		return
	}
	q := map[string]string{}
	for k, v := range r.URL.Query() {
		q[k] = v[0]
	}
	writeJSON(w, s.opts.Dump(q))
}

// logging reads or sets the level. Envoy's names are taken; ?level=, ?<logger>= and
// ?paths=<logger>:<level>,... all set the one level there is.
func (s *Server) logging(w http.ResponseWriter, r *http.Request) {
	if s.opts.Level == nil {
		http.NotFound(w, r)
		return
	}
	for k, v := range r.URL.Query() {
		level := v[0]
		if i := strings.LastIndexByte(level, ':'); k == "paths" && i >= 0 {
			level = level[i+1:]
		}
		l, ok := ParseLevel(level)
		if !ok {
			http.Error(w, fmt.Sprintf("unknown level %q: use trace, debug, info, warning, error, critical or off", level), http.StatusBadRequest)
			return
		}
		s.opts.Level.Set(l)
	}
	fmt.Fprintf(w, "active loggers:\n  waypoint: %s\n", strings.ToLower(s.opts.Level.Level().String()))
}

// ParseLevel reads a level by Envoy's or slog's name.
func ParseLevel(s string) (slog.Level, bool) {
	switch strings.ToLower(s) {
	case "trace", "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn", "warning":
		return slog.LevelWarn, true
	case "error", "err":
		return slog.LevelError, true
	case "critical", "off", "none":
		return slog.LevelError + 4, true
	}
	return 0, false
}

func memory() any {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return map[string]any{
		"allocated": fmt.Sprint(m.HeapAlloc), "heap_size": fmt.Sprint(m.HeapSys), "total_physical_bytes": fmt.Sprint(m.Sys),
		"stack_inuse": m.StackInuse, "heap_inuse": m.HeapInuse, "heap_alloc": m.HeapAlloc, "mallocs": m.Mallocs, "goroutines": runtime.NumGoroutine(), "gc_cycles": m.NumGC,
	}
}

func (s *Server) profile(m *http.ServeMux) {
	m.HandleFunc("GET /debug/pprof/", local(pprof.Index))
	m.HandleFunc("GET /debug/pprof/cmdline", local(pprof.Cmdline))
	m.HandleFunc("GET /debug/pprof/profile", local(pprof.Profile))
	m.HandleFunc("GET /debug/pprof/symbol", local(pprof.Symbol))
	m.HandleFunc("GET /debug/pprof/trace", local(pprof.Trace))
}

// local admits callers on this host only: 15020 listens on all addresses, but
// stopping and profiling are not for the network.
func local(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			http.Error(w, "only from this host", http.StatusForbidden)
			return
		}
		h(w, r)
	}
}
