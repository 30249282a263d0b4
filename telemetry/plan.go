package telemetry

// Plan is what the source of a destination asks for its exchanges, beyond the
// options of the reporter. It is immutable; nil asks for nothing.
type Plan struct {
	Logs    []Logger
	Metrics *Metrics // nil: Istio's metrics as they are
	Trace   *Tracing // nil: as the reporter's options say

	// Response: some of it reads headers of the response, which are to be in records.
	Response bool
}

// ReadsResponse reports whether records have to have the headers of the response.
func (p *Plan) ReadsResponse() bool { return p != nil && p.Response }

// Logger writes a line for the records that pass its filters.
type Logger struct {
	Sink Sink

	MinStatus int         // lowest response code; 0: any
	Flags     Flags       // one of which must be set; 0: any
	Where     *Expression // nil: any
}

// Sink takes the records that a logger passes on. It must neither keep r nor block.
type Sink interface {
	Log(r *Record)
}

// Tracing says which exchanges become spans, and of what kind.
type Tracing struct {
	Tracer  Tracer // nil: there are no spans, and no trace is told to backends
	Sampler Sampler
}

func (l *Logger) passes(r *Record) bool {
	return r.Code >= l.MinStatus && (l.Flags == 0 || r.Flags&l.Flags != 0) && (l.Where == nil || l.Where.Holds(r))
}

// emit logs and traces a record as its plan says.
func (p *Plan) emit(r *Record) {
	if p == nil {
		return
	}
	for i := range p.Logs {
		if l := &p.Logs[i]; l.passes(r) {
			l.Sink.Log(r)
		}
	}
	if t := p.Trace; t != nil && t.Tracer != nil && r.Trace.Sampled {
		t.Tracer.Finish(r)
	}
}

// Lines is a sink that writes lines of a pattern to a log, which it shares with
// others.
type Lines struct {
	To      *AccessLog
	Pattern *Pattern
}

// Log implements Sink.
func (l *Lines) Log(r *Record) { l.To.append(r, l.Pattern) }
