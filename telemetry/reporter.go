package telemetry

import (
	"sync"
	"sync/atomic"
)

// maxPairs bounds how many combinations of source, destination and protocol
// have series of their own, so that a churning mesh cannot grow memory without
// end: at about 5 KiB a series this stays near 100 MiB in the worst case.
// Further ones are counted under "unknown" labels.
const maxPairs = 20000

// Options of a Reporter. The zero value counts metrics and logs nothing.
type Options struct {
	Log    *AccessLog // nil: off
	Tracer Tracer     // nil: off

	Observer Tracer  // gets the record of every exchange, sampled or not; nil: none
	Sampler  Sampler // which exchanges the tracer gets
	Build    string  // version for istio_build

	Lost func() uint64 // lines and records that the sinks of plans dropped; nil: there are none
}

// Tracer takes the records of sampled exchanges; it must not keep r.
type Tracer interface {
	Finish(r *Record)
}

// Reporter counts, logs and traces finished exchanges. Safe for concurrent use.
type Reporter struct {
	opts Options
	reg  *registry

	mu       sync.RWMutex
	peers    map[Peer]*Peer
	services map[Service]*Service

	denied denials

	active atomic.Int64 // exchanges under way, for drain and admin
	total  atomic.Uint64
}

// New makes a Reporter.
func New(o Options) *Reporter {
	return &Reporter{opts: o, reg: newRegistry(maxPairs), peers: map[Peer]*Peer{}, services: map[Service]*Service{}}
}

// Tracing says whether exchanges of a plan need a place in a trace.
func (r *Reporter) Tracing(p *Plan) bool {
	if p != nil && p.Trace != nil {
		return p.Trace.Tracer != nil
	}
	return r.opts.Tracer != nil
}

// Place is Sampler.Place of the plan's sampler, or of the reporter's.
func (r *Reporter) Place(p *Plan, traceparent string) Trace {
	if p != nil && p.Trace != nil {
		return p.Trace.Sampler.Place(traceparent)
	}
	return r.opts.Sampler.Place(traceparent)
}

// Log is the access log, nil when off.
func (r *Reporter) Log() *AccessLog { return r.opts.Log }

// Peer returns the one pointer that stands for p. Call it once per tunnel or
// endpoint and keep the pointer. p's strings are kept: clone borrowed ones.
func (r *Reporter) Peer(p Peer) *Peer {
	r.mu.RLock()
	q := r.peers[p]
	r.mu.RUnlock()
	if q != nil {
		return q
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q = r.peers[p]; q != nil {
		return q
	}
	if len(r.peers) >= maxPairs {
		return nil
	}
	r.peers[p] = &p
	return &p
}

// Service is Peer for services.
func (r *Reporter) Service(s Service) *Service {
	r.mu.RLock()
	q := r.services[s]
	r.mu.RUnlock()
	if q != nil {
		return q
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q = r.services[s]; q != nil {
		return q
	}
	r.services[s] = &s
	return &s
}

// Begin counts an exchange or connection as under way; Done or TCPClosed ends it.
func (r *Reporter) Begin() { r.active.Add(1) }

// Active is how many exchanges and connections are under way.
func (r *Reporter) Active() int64 { return r.active.Load() }

// Total is how many exchanges have finished.
func (r *Reporter) Total() uint64 { return r.total.Load() }

// Done reports a finished HTTP exchange.
func (r *Reporter) Done(rec *Record) {
	r.active.Add(-1)
	r.total.Add(1)
	s := r.series(rec)
	sh := &s.http[rec.Shard%shards]
	sh.requests.Add(1)
	sh.duration.add(milliseconds(rec.Duration))
	sh.received.add(float64(rec.Received))
	sh.sent.add(float64(rec.Sent))
	if rec.Protocol == GRPC {
		sh.requestMessages.Add(uint64(rec.RequestMessages))
		sh.responseMessages.Add(uint64(rec.ResponseMessages))
	}
	r.emit(rec)
}

// TCPOpened reports an opened connection; bytes follow with TCPBytes.
func (r *Reporter) TCPOpened(rec *Record) {
	r.series(rec).tcp[rec.Shard%shards].opened.Add(1)
}

// TCPBytes adds bytes moved since the last call; proxies call it every 5 s
// (Istio's tcp_reporting_duration) and at the end.
func (r *Reporter) TCPBytes(rec *Record, received, sent int64) {
	sh := &r.series(rec).tcp[rec.Shard%shards]
	sh.received.Add(uint64(received))
	sh.sent.Add(uint64(sent))
}

// TCPClosed reports the end of a connection.
func (r *Reporter) TCPClosed(rec *Record) {
	r.active.Add(-1)
	r.series(rec).tcp[rec.Shard%shards].closed.Add(1)
	r.emit(rec)
}

func (r *Reporter) series(rec *Record) *series {
	k := pairKey{rec.Source, rec.Dest, rec.Service, rec.Protocol, rec.MutualTLS}
	o := outcome{code: uint16(rec.Code), grpc: int16(rec.GRPCStatus), flags: rec.Flags}
	if rec.Protocol == TCP {
		// A connection is counted under one series from open to close: its flags
		// are known only at the end and stand in the log.
		o = outcome{grpc: -1}
	}
	if p := rec.Plan; p != nil && p.Metrics != nil {
		var room [256]byte
		return r.reg.changedSeries(k, p.Metrics, p.Metrics.append(room[:0], rec), o)
	}
	p, k := r.reg.get(k, rec.Shard)
	return p.get(k, o)
}

func (r *Reporter) emit(rec *Record) {
	if rec.Denied {
		r.denied.add(rec.Policy, rec.Rule, rec.Reason)
	}
	if r.opts.Log != nil {
		r.opts.Log.write(rec)
	}
	if r.opts.Observer != nil {
		r.opts.Observer.Finish(rec)
	}
	if r.opts.Tracer != nil && rec.Trace.Sampled && (rec.Plan == nil || rec.Plan.Trace == nil) {
		r.opts.Tracer.Finish(rec)
	}
	rec.Plan.emit(rec)
}
