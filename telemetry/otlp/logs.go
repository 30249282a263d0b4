package otlp

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	logscol "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"

	"waypoint.dev/waypoint/telemetry"
)

const (
	// flushEvery is how long a record waits at most (Envoy: buffer_flush_interval).
	flushEvery = time.Second
	// maxBatch records are sent at once, and maxQueue wait: past it records are
	// dropped and counted, so that a collector that is away never slows a request.
	maxBatch = 512
	maxQueue = 4096
)

// LogOptions of a Logs. Dial is required.
type LogOptions struct {
	Dial      Dial
	Authority string
	Name      string // log_name of the resource; empty: none
	Service   string // service.name; empty: none
}

// Logs sends access log records to a collector, over OTLP/gRPC. Close flushes.
type Logs struct {
	// fixed after NewLogs
	conn     *grpc.ClientConn
	resource *resource.Resource
	wake     chan struct{}
	stop     chan struct{}
	done     chan struct{}
	lost     atomic.Uint64

	mu      sync.Mutex
	pending []*logs.LogRecord // guarded by mu
}

// NewLogs makes a Logs. The collector is dialed when the first record is sent.
func NewLogs(o LogOptions) (*Logs, error) {
	conn, err := grpcConn(o.Dial, o.Authority)
	if err != nil {
		return nil, err
	}
	l := &Logs{conn: conn, resource: &resource.Resource{}, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	for _, a := range [][2]string{{"log_name", o.Name}, {"service.name", o.Service}} {
		if a[1] != "" {
			l.resource.Attributes = append(l.resource.Attributes, stringValue(a[0], a[1]))
		}
	}
	go l.run()
	return l, nil
}

func stringValue(k, v string) *common.KeyValue {
	return &common.KeyValue{Key: k, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}}}
}

// Lost is how many records were dropped.
func (l *Logs) Lost() uint64 { return l.lost.Load() }

// Field is a named value of a record.
type Field struct {
	Name    string
	Pattern *telemetry.Pattern
}

// Sink is a telemetry.Sink that writes one kind of records to a Logs.
type Sink struct {
	To     *Logs
	Body   *telemetry.Pattern // nil: none
	Fields []Field
}

var _ telemetry.Sink = (*Sink)(nil)

// Log implements telemetry.Sink.
func (s *Sink) Log(r *telemetry.Record) {
	out := &logs.LogRecord{TimeUnixNano: uint64(r.Start.UnixNano())}
	var room [512]byte
	if s.Body != nil {
		b, _ := s.Body.AppendRaw(room[:0], r)
		out.Body = &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(b)}}
	}
	for _, f := range s.Fields {
		b, _ := f.Pattern.AppendRaw(room[:0], r)
		out.Attributes = append(out.Attributes, stringValue(f.Name, valid(b)))
	}
	if r.Trace.ID != [16]byte{} {
		out.TraceId, out.SpanId = append([]byte(nil), r.Trace.ID[:]...), append([]byte(nil), r.Trace.Span[:]...)
	}
	s.To.add(out)
}

func (l *Logs) add(r *logs.LogRecord) {
	l.mu.Lock()
	n := len(l.pending)
	if n < maxQueue {
		l.pending = append(l.pending, r)
	}
	l.mu.Unlock()
	switch n {
	case maxQueue:
		l.lost.Add(1)
	case 0, maxBatch - 1:
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// run sends what is pending when there is enough of it, or it has waited for long.
func (l *Logs) run() {
	defer close(l.done)
	t := time.NewTimer(flushEvery)
	t.Stop()
	for {
		select {
		case <-l.wake:
			l.mu.Lock()
			n := len(l.pending)
			l.mu.Unlock()
			if n < maxBatch {
				t.Reset(flushEvery)
				continue
			}
			t.Stop()
		case <-t.C:
		case <-l.stop:
			ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
			l.flush(ctx)
			cancel()
			return
		}
		l.flush(context.Background())
	}
}

// flush sends all that is pending. A batch that fails is lost: the next one finds the
// collector back, and memory stays bounded.
func (l *Logs) flush(parent context.Context) {
	l.mu.Lock()
	all := l.pending
	l.pending = nil
	l.mu.Unlock()
	client := logscol.NewLogsServiceClient(l.conn)
	for len(all) > 0 {
		batch := all[:min(maxBatch, len(all))]
		all = all[len(batch):]
		ctx, cancel := context.WithTimeout(parent, exportTimeout)
		_, err := client.Export(ctx, &logscol.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
			Resource: l.resource, ScopeLogs: []*logs.ScopeLogs{{LogRecords: batch}},
		}}})
		cancel()
		if err != nil {
			l.lost.Add(uint64(len(batch)))
		}
	}
}

// Close sends what is pending and ends the connection. Later records are lost.
func (l *Logs) Close() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	<-l.done
	l.conn.Close()
}
