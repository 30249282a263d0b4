package testmesh

import (
	"context"
	"net"

	logscol "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	v1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// Collector is an OTLP/gRPC receiver that keeps the spans and log records it gets.
type Collector struct {
	v1.UnimplementedTraceServiceServer

	// Fixed after NewCollector.
	Addr string // host:port
	srv  *grpc.Server
	done chan struct{}
	got  chan *tracev1.Span
	logs chan *logsv1.LogRecord
}

// NewCollector listens on a free port of loopback until Close.
func NewCollector() (*Collector, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Collector{Addr: ln.Addr().String(), srv: grpc.NewServer(), done: make(chan struct{}), got: make(chan *tracev1.Span, 64), logs: make(chan *logsv1.LogRecord, 64)}
	v1.RegisterTraceServiceServer(c.srv, c)
	logscol.RegisterLogsServiceServer(c.srv, logReceiver{c: c})
	go func() { defer close(c.done); _ = c.srv.Serve(ln) }()
	return c, nil
}

// Export implements the OTLP service. It waits while 64 spans are unread.
func (c *Collector) Export(ctx context.Context, r *v1.ExportTraceServiceRequest) (*v1.ExportTraceServiceResponse, error) {
	for _, rs := range r.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				select {
				case c.got <- s:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}
	}
	return &v1.ExportTraceServiceResponse{}, nil
}

// Next waits for a span that Next has not returned yet; nil when ctx ends first.
func (c *Collector) Next(ctx context.Context) *tracev1.Span {
	select {
	case s := <-c.got:
		return s
	case <-ctx.Done():
		return nil
	}
}

// logReceiver is a Collector as the service for logs.
type logReceiver struct {
	logscol.UnimplementedLogsServiceServer
	c *Collector
}

// Export implements the OTLP service. It waits while 64 records are unread.
func (l logReceiver) Export(ctx context.Context, r *logscol.ExportLogsServiceRequest) (*logscol.ExportLogsServiceResponse, error) {
	for _, rs := range r.GetResourceLogs() {
		for _, ss := range rs.GetScopeLogs() {
			for _, rec := range ss.GetLogRecords() {
				select {
				case l.c.logs <- rec:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		}
	}
	return &logscol.ExportLogsServiceResponse{}, nil
}

// NextLog waits for a log record that NextLog has not returned yet; nil when ctx ends
// first.
func (c *Collector) NextLog(ctx context.Context) *logsv1.LogRecord {
	select {
	case r := <-c.logs:
		return r
	case <-ctx.Done():
		return nil
	}
}

// Tags are the text attributes of a span.
func Tags(s *tracev1.Span) map[string]string {
	tags := make(map[string]string, len(s.GetAttributes()))
	for _, kv := range s.GetAttributes() {
		tags[kv.GetKey()] = kv.GetValue().GetStringValue()
	}
	return tags
}

// Close stops listening.
func (c *Collector) Close() {
	c.srv.Stop()
	<-c.done
}
