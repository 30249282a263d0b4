package reports

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/telemetry"
	"waypoint.dev/waypoint/telemetry/otlp"
)

// Options of a Reports.
type Options struct {
	// Dial connects to the backend of a key; h2: it is to speak HTTP/2. Required for
	// collectors.
	Dial func(ctx context.Context, backend string, h2 bool) (net.Conn, error)

	Node    otlp.Node    // the waypoint as its spans name it
	Service string       // service.name of what collectors get
	Log     *slog.Logger // nil: discards

	// Open opens the file of an access log; nil: as a file, /dev/stdout and
	// /dev/stderr as those of the process.
	Open func(path string) (io.WriteCloser, error)
}

// Reports compiles telemetry settings. Close it.
type Reports struct {
	opts Options

	mu      sync.Mutex
	plans   map[*config.Telemetry]*made     // guarded by mu
	metrics map[string]*telemetry.Metrics   // guarded by mu: by their text; series hang on the pointers
	files   map[string]*shared[*logFile]    // guarded by mu: by path
	logs    map[otlpKey]*shared[*otlp.Logs] // guarded by mu
	lost    uint64                          // guarded by mu: by sinks that are closed
	closing sync.WaitGroup                  // tracers that flush
}

// made is a plan with what it uses.
type made struct {
	plan     *telemetry.Plan
	problems []config.Problem
	tracer   *otlp.Tracer // nil: none
	release  []func()
	age      int // swaps since it was made
}

// shared counts the plans that use something.
type shared[T any] struct {
	of    T
	users int
}

type otlpKey struct{ backend, authority, name, service string }

type logFile struct {
	log  *telemetry.AccessLog
	file io.Closer
}

// New makes a Reports. It opens nothing until something is compiled.
func New(o Options) *Reports {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Open == nil {
		o.Open = openFile
	}
	return &Reports{
		opts: o, plans: make(map[*config.Telemetry]*made), metrics: make(map[string]*telemetry.Metrics),
		files: make(map[string]*shared[*logFile]), logs: make(map[otlpKey]*shared[*otlp.Logs]),
	}
}

// stream is a standard stream, which is not ours to close.
type stream struct{ *os.File }

func (stream) Close() error { return nil }

func openFile(path string) (io.WriteCloser, error) {
	switch path {
	case "/dev/stdout":
		return stream{os.Stdout}, nil
	case "/dev/stderr":
		return stream{os.Stderr}, nil
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// Compile is the Reports hook of config.Env. The same settings give the same plan.
func (r *Reports) Compile(t *config.Telemetry) (run any, problems []config.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.plans[t]
	if m == nil {
		m = &made{plan: &telemetry.Plan{}}
		r.plans[t] = m
		for i := range t.Logs {
			r.log(m, &t.Logs[i])
		}
		r.trace(m, t.Tracing)
		r.change(m, t.Metrics)
	}
	m.age = 0
	return m.plan, m.problems
}

func (m *made) problem(field, format string, args ...any) {
	m.problems = append(m.problems, config.Problem{
		Severity: config.Warning, Kind: "Telemetry", Field: field, Message: fmt.Sprintf(format, args...), Reason: "not_implemented",
	})
}

// change compiles overrides of metrics.
func (r *Reports) change(m *made, in []config.MetricOverride) {
	if len(in) == 0 {
		return
	}
	changes := make([]telemetry.MetricChange, len(in))
	for i := range in {
		changes[i] = telemetry.MetricChange(in[i])
	}
	c, errs := telemetry.CompileMetrics(changes)
	for _, err := range errs {
		m.problem("metrics", "%v; its label is \"unknown\"", err)
	}
	key := fmt.Sprintf("%q", fmt.Sprint(in)) // maps are printed in the order of their keys
	if have := r.metrics[key]; have != nil {
		c = have
	}
	r.metrics[key] = c
	m.plan.Metrics = c
	m.plan.Response = m.plan.Response || c.ReadsResponse()
}

// Watch closes what the snapshots of the store use no longer, until stop is called.
func (r *Reports) Watch(store *config.Store) (stop func()) {
	return store.Watch(func(_, n *config.Snapshot) { r.sweep(n) })
}

// sweep drops plans that n does not use. What was made since the last sweep may
// belong to the next snapshot and stays.
func (r *Reports) sweep(n *config.Snapshot) {
	used := make(map[any]bool)
	for _, c := range n.Chains() {
		if c.Reports != nil {
			used[c.Reports] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, m := range r.plans {
		if m.age++; m.age > 1 && !used[m.plan] {
			delete(r.plans, t)
			r.retire(m)
		}
	}
}

// flushTimeout bounds the last words of a tracer.
const flushTimeout = 5 * time.Second

func (r *Reports) retire(m *made) {
	for _, f := range m.release {
		f()
	}
	if m.tracer != nil {
		r.closing.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
			defer cancel()
			if err := m.tracer.Close(ctx); err != nil {
				r.opts.Log.Debug("spans were lost", "error", err)
			}
		})
	}
}

// Close flushes and closes everything.
func (r *Reports) Close() {
	r.mu.Lock()
	for t, m := range r.plans {
		delete(r.plans, t)
		r.retire(m)
	}
	r.mu.Unlock()
	r.closing.Wait()
}

// Lost is how many lines and records of access logs were dropped.
func (r *Reports) Lost() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.lost
	for _, f := range r.files {
		n += f.of.log.Lost()
	}
	for _, l := range r.logs {
		n += l.of.Lost()
	}
	return n
}
