package otlp

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"waypoint.dev/waypoint/telemetry"
)

// exportTimeout bounds one batch (OTLP's default is 10 s).
const exportTimeout = 5 * time.Second

// Options of a Tracer. Endpoint or Dial is required.
type Options struct {
	Endpoint string // host:port of an OTLP/gRPC collector, in plaintext
	Service  string // service.name: "waypoint.shop"
	Node     Node

	Dial      Dial              // connects to the collector, in place of Endpoint
	Authority string            // of the collector, with Dial
	Path      string            // with Dial: of OTLP over HTTP, "/v1/traces"; empty: gRPC
	Headers   map[string]string // further ones of OTLP over HTTP

	Tags []Tag // of every span, after Istio's
}

// Tag is a tag of the user's own.
type Tag struct {
	Name    string
	Value   *telemetry.Pattern
	Default string // where there is no value; empty: the tag is left out
}

// Node is the waypoint itself, as Istio's tags name it. Empty parts are left out.
type Node struct {
	ID, Namespace, ClusterID, MeshID    string
	CanonicalService, CanonicalRevision string
}

// Tracer exports spans. Close flushes.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	own      []attribute.KeyValue
	tags     []Tag
	conn     *grpc.ClientConn // nil: the exporter has its own
}

var _ telemetry.Tracer = (*Tracer)(nil)

// New makes a tracer. The collector is dialed when the first span is sent.
func New(ctx context.Context, o Options) (*Tracer, error) {
	t := &Tracer{tags: o.Tags}
	exp, err := t.exporter(ctx, o)
	if err != nil {
		return nil, err
	}
	res := resource.NewSchemaless(attribute.String("service.name", o.Service))
	t.provider = sdk.NewTracerProvider(
		sdk.WithBatcher(exp), sdk.WithResource(res), sdk.WithSampler(sdk.AlwaysSample()), sdk.WithIDGenerator(ids{}),
	)
	t.tracer = t.provider.Tracer("waypoint")
	for _, kv := range []struct{ k, v string }{
		{"node_id", o.Node.ID}, {"istio.namespace", o.Node.Namespace}, {"istio.cluster_id", o.Node.ClusterID}, {"istio.mesh_id", o.Node.MeshID},
		{"istio.canonical_service", o.Node.CanonicalService}, {"istio.canonical_revision", o.Node.CanonicalRevision},
	} {
		if kv.v != "" {
			t.own = append(t.own, attribute.String(kv.k, kv.v))
		}
	}
	return t, nil
}

func (t *Tracer) exporter(ctx context.Context, o Options) (sdk.SpanExporter, error) {
	// A batch that fails is lost: the next one finds the collector back, and memory
	// and shutdown stay bounded.
	opts := []otlptracegrpc.Option{otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}), otlptracegrpc.WithTimeout(exportTimeout)}
	switch {
	case o.Dial == nil:
		return otlptracegrpc.New(ctx, append(opts, otlptracegrpc.WithEndpoint(o.Endpoint), otlptracegrpc.WithInsecure())...)
	case o.Path != "":
		return otlptrace.New(ctx, newHTTP(o))
	}
	conn, err := grpcConn(o.Dial, o.Authority)
	if err != nil {
		return nil, err
	}
	t.conn = conn
	return otlptracegrpc.New(ctx, append(opts, otlptracegrpc.WithGRPCConn(conn))...)
}

// Close sends what is pending, within ctx.
func (t *Tracer) Close(ctx context.Context) error {
	err := t.provider.Shutdown(ctx)
	if t.conn != nil {
		t.conn.Close()
	}
	return err
}

// ids gives the span the ids that the record already carried upstream.
type ids struct{}

type idKey struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	r := ctx.Value(idKey{}).(*telemetry.Record)
	return r.Trace.ID, r.Trace.Span
}

func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return ctx.Value(idKey{}).(*telemetry.Record).Trace.Span
}

// Finish implements telemetry.Tracer. What it keeps of r is copied: r's strings
// die with the exchange.
func (t *Tracer) Finish(r *telemetry.Record) {
	ctx := context.WithValue(context.Background(), idKey{}, r)
	if r.Trace.Parent != [8]byte{} {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: r.Trace.ID, SpanID: r.Trace.Parent, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	_, span := t.tracer.Start(ctx, name(r), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Start), trace.WithAttributes(t.attributes(r)...))
	if r.Code >= 500 || r.Code == 0 {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(r.Start.Add(r.Duration)))
}

// valid is text as protobuf takes it: clients send any bytes.
func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// name is Istio's route decorator: "<service host>:<port>/*".
func name(r *telemetry.Record) string {
	if r.Service == nil || r.Service.Host == "" {
		return "waypoint"
	}
	port := strconv.Itoa(int(r.DownstreamLocal.Port()))
	return r.Service.Host + ":" + port + "/*"
}

// attributes are Envoy's HTTP tags, Istio's peers, and what decided.
func (t *Tracer) attributes(r *telemetry.Record) []attribute.KeyValue {
	a := make([]attribute.KeyValue, 0, 40)
	a = append(a, t.own...)
	str := func(k, v string) {
		if v != "" {
			a = append(a, attribute.String(k, strings.ToValidUTF8(strings.Clone(v), "\uFFFD")))
		}
	}
	str("component", "proxy")
	str("http.method", r.Method)
	if r.Authority != "" {
		str("http.url", "http://"+r.Authority+r.Path)
	}
	str("http.protocol", r.Version)
	str("user_agent", r.UserAgent)
	str("guid:x-request-id", r.RequestID)
	str("http.status_code", strconv.Itoa(r.Code))
	if r.GRPCStatus >= 0 {
		str("grpc.status_code", strconv.Itoa(r.GRPCStatus))
	}
	str("response_flags", r.Flags.String())
	str("request_size", strconv.FormatInt(r.Received, 10))
	str("response_size", strconv.FormatInt(r.Sent, 10))
	str("upstream_cluster", r.UpstreamCluster)
	if r.Upstream.IsValid() {
		str("upstream_address", r.Upstream.String())
	}
	if r.Downstream.IsValid() {
		str("peer.address", r.Downstream.Addr().String())
	}
	if r.Code >= 500 {
		str("error", "true")
	}
	str("waypoint.route", r.Route)
	str("waypoint.policy", r.Policy)
	str("waypoint.policy_rule", r.Rule)
	str("waypoint.policy_reason", r.Reason)
	str("waypoint.audit_policy", r.Audit)
	str("waypoint.dry_run", r.DryRun)
	str("waypoint.dry_run_policy", r.DryRunPolicy)
	for _, p := range []struct {
		side string
		peer *telemetry.Peer
	}{{"source", r.Source}, {"destination", r.Dest}} {
		if p.peer == nil {
			continue
		}
		pre := "istio." + p.side + "_"
		str(pre+"workload", p.peer.Workload)
		str(pre+"namespace", p.peer.Namespace)
		str(pre+"cluster_id", p.peer.Cluster)
		str(pre+"canonical_service", p.peer.CanonicalService)
		str(pre+"canonical_revision", p.peer.CanonicalRevision)
		str(pre+"app", p.peer.App)
		str(pre+"app_version", p.peer.Version)
		str(pre+"workload_type", p.peer.WorkloadType)
		str(pre+"instance_name", p.peer.Instance)
	}
	var room [256]byte
	for _, tag := range t.tags {
		if b, ok := tag.Value.AppendRaw(room[:0], r); ok {
			str(tag.Name, valid(b))
		} else {
			str(tag.Name, tag.Default)
		}
	}
	return a
}
