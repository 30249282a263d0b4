package reports

import (
	"context"
	"net"
	"os"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/telemetry"
	"waypoint.dev/waypoint/telemetry/otlp"
)

// log adds an access logger to a plan. What of it is not understood is told, and the
// log then has more than was asked for, never less.
func (r *Reports) log(m *made, c *config.AccessLog) {
	field := "accessLogging[" + c.Name + c.Path + "]"
	l := telemetry.Logger{MinStatus: c.MinStatus, Flags: telemetry.ParseFlags(c.Flags)}
	if c.Expression != "" {
		e, err := telemetry.CompileExpression(c.Expression)
		if err != nil {
			m.problem(field+".filter", "%v; everything is logged", err)
		} else {
			l.Where = e
			m.plan.Response = m.plan.Response || e.ReadsResponse()
		}
	}
	switch c.Kind {
	case "file":
		l.Sink = r.file(m, c, field)
	case "otel":
		l.Sink = r.records(m, c, field)
	default:
		m.problem(field, "access logs of the kind %q are not implemented; nothing is logged there", c.Kind)
	}
	if l.Sink != nil {
		m.plan.Logs = append(m.plan.Logs, l)
	}
}

// format compiles a text format and tells of what it has in vain.
func (m *made) format(text, field string) *telemetry.Pattern {
	p, unknown := telemetry.CompileText(text)
	m.unknown(unknown, field)
	m.plan.Response = m.plan.Response || p.ReadsResponse()
	return p
}

func (m *made) unknown(ops []string, field string) {
	if len(ops) > 0 {
		m.problem(field, "%s: not known here, so that \"-\" is written", strings.Join(ops, ", "))
	}
}

// file writes lines to a file that all loggers of its path share. nil: it cannot be
// opened.
func (r *Reports) file(m *made, c *config.AccessLog, field string) telemetry.Sink {
	s := r.files[c.Path]
	if s == nil {
		f, err := r.opts.Open(c.Path)
		if err != nil {
			m.problem(field, "%v; nothing is logged there", err)
			return nil
		}
		s = &shared[*logFile]{of: &logFile{telemetry.NewAccessLog(f, telemetry.Text), f}}
		r.files[c.Path] = s
	}
	s.users++
	m.release = append(m.release, func() {
		if s.users--; s.users == 0 {
			delete(r.files, c.Path)
			r.lost += s.of.log.Lost()
			_ = s.of.log.Close()
			_ = s.of.file.Close()
		}
	})
	out := &telemetry.Lines{To: s.of.log}
	switch {
	case c.JSON != "":
		p, unknown, err := telemetry.CompileJSON(c.JSON)
		m.unknown(unknown, field)
		if err != nil {
			m.problem(field, "%v; Istio's text format is written", err)
			break
		}
		m.plan.Response = m.plan.Response || p.ReadsResponse()
		out.Pattern = p
	case c.Text != "":
		out.Pattern = m.format(c.Text, field)
	}
	return out
}

func (r *Reports) dial(backend string, h2 bool) otlp.Dial {
	return func(ctx context.Context) (net.Conn, error) { return r.opts.Dial(ctx, backend, h2) }
}

// records sends log records to a collector, which all loggers of it share.
func (r *Reports) records(m *made, c *config.AccessLog, field string) telemetry.Sink {
	key := otlpKey{c.Backend, c.Authority, c.Name, r.opts.Service}
	s := r.logs[key]
	if s == nil {
		l, err := otlp.NewLogs(otlp.LogOptions{Dial: r.dial(c.Backend, true), Authority: authority(c.Authority, c.Backend), Name: c.Name, Service: r.opts.Service})
		if err != nil {
			m.problem(field, "%v; nothing is logged there", err)
			return nil
		}
		s = &shared[*otlp.Logs]{of: l}
		r.logs[key] = s
	}
	s.users++
	m.release = append(m.release, func() {
		if s.users--; s.users == 0 {
			delete(r.logs, key)
			r.lost += s.of.Lost()
			r.closing.Go(s.of.Close)
		}
	})
	out := &otlp.Sink{To: s.of}
	if c.Text != "" {
		out.Body = m.format(c.Text, field)
	}
	for _, a := range c.Attributes {
		out.Fields = append(out.Fields, otlp.Field{Name: a.Name, Pattern: m.format(a.Format, field+"."+a.Name)})
	}
	return out
}

// authority is what a collector is called: the host of its backend unless the source
// says otherwise.
func authority(said, backend string) string {
	if said != "" {
		return said
	}
	return backend[strings.LastIndexByte(backend, '|')+1:]
}

// trace adds the sampling and the tracer to a plan. Without a provider the options of
// the reporter hold, as those of its bootstrap do in Envoy.
func (r *Reports) trace(m *made, c *config.Tracing) {
	if c == nil || c.Kind == "" {
		return
	}
	t := &telemetry.Tracing{Sampler: telemetry.NewSampler(min(c.Random, c.Overall))}
	m.plan.Trace = t
	if c.Kind != "opentelemetry" {
		m.problem("tracing", "spans of the kind %q are not implemented: there are none, and callers' contexts pass as they are. Use an OpenTelemetry provider", c.Kind)
		return
	}
	o := otlp.Options{
		Dial: r.dial(c.Backend, c.Path == ""), Authority: authority(c.Authority, c.Backend), Path: c.Path, Service: c.Service, Node: r.opts.Node, Headers: map[string]string{},
	}
	if o.Service == "" {
		o.Service = r.opts.Service
	}
	for _, h := range c.Headers {
		o.Headers[h.Name] = h.Format
	}
	for _, tag := range c.Tags {
		o.Tags = append(o.Tags, m.tag(tag))
	}
	tr, err := otlp.New(context.Background(), o)
	if err != nil {
		m.problem("tracing", "%v; there are no spans", err)
		return
	}
	t.Tracer, m.tracer = tr, tr
}

// tag compiles a custom tag.
func (m *made) tag(c config.TraceTag) otlp.Tag {
	text := strings.ReplaceAll(c.Literal, "%", "%%")
	switch {
	case c.Header != "":
		text = "%REQ(" + c.Header + ")%"
	case c.Env != "":
		if v := os.Getenv(c.Env); v != "" {
			text = strings.ReplaceAll(v, "%", "%%")
		}
	case c.Format != "":
		text = c.Format
	}
	return otlp.Tag{Name: c.Name, Value: m.format(text, "tracing.customTags["+c.Name+"]"), Default: c.Default}
}
