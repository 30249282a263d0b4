package istiod

import (
	"encoding/json"
	"fmt"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"waypoint.dev/waypoint/config"
)

// interner shares what most chains have in common.
type interner struct {
	byBytes map[string]*config.Telemetry
	marshal proto.MarshalOptions
}

func newInterner() *interner {
	return &interner{byBytes: make(map[string]*config.Telemetry), marshal: proto.MarshalOptions{Deterministic: true}}
}

// telemetry translates loggers and tracing; equal ones are shared. The overrides of
// a chain's metrics, read before, join them.
func (n *interner) telemetry(t *translator, logs []*accesslogv3.AccessLog, tr *hcmv3.HttpConnectionManager_Tracing) *config.Telemetry {
	var metrics []config.MetricOverride
	if t.p.telemetry != nil {
		metrics = t.p.telemetry.Metrics
	}
	if len(logs) == 0 && tr == nil && len(metrics) == 0 {
		return nil
	}
	var key []byte
	for _, l := range logs {
		key, _ = n.marshal.MarshalAppend(append(key, 'l'), l)
	}
	if tr != nil {
		key, _ = n.marshal.MarshalAppend(append(key, 't'), tr)
	}
	for _, m := range metrics {
		key = fmt.Appendf(key, "m%q", fmt.Sprint(m))
	}
	if have := n.byBytes[string(key)]; have != nil {
		for _, l := range have.Logs {
			t.backendOf(l.Backend)
		}
		if have.Tracing != nil {
			t.backendOf(have.Tracing.Backend)
		}
		return have
	}
	out := &config.Telemetry{Metrics: metrics}
	for _, l := range logs {
		if a, ok := t.accessLog(l); ok {
			out.Logs = append(out.Logs, a)
			t.backendOf(a.Backend)
		}
	}
	if tr != nil {
		out.Tracing = t.tracing(tr)
		t.backendOf(out.Tracing.Backend)
	}
	n.byBytes[string(key)] = out
	return out
}

// backendOf keeps a provider's cluster among the references of the chain.
func (t *translator) backendOf(cluster string) {
	if cluster != "" {
		t.ref(cluster)
	}
}

// accessLog translates one access logger.
func (t *translator) accessLog(l *accesslogv3.AccessLog) (out config.AccessLog, ok bool) {
	field := "access_log[" + l.GetName() + "]"
	switch innerType(l.GetTypedConfig()) {
	case "envoy.extensions.access_loggers.file.v3.FileAccessLog":
		var c filev3.FileAccessLog
		if err := unpack(l.GetTypedConfig(), &c); err != nil {
			t.missing(field, err.Error()+", so it")
			return out, false
		}
		out.Kind, out.Path = "file", c.GetPath()
		switch f := c.GetAccessLogFormat().(type) {
		case *filev3.FileAccessLog_LogFormat:
			out.Text = f.LogFormat.GetTextFormatSource().GetInlineString()
			if j := f.LogFormat.GetJsonFormat(); j != nil {
				out.JSON = compactJSON(j)
			}
		case *filev3.FileAccessLog_Format:
			out.Text = f.Format
		case *filev3.FileAccessLog_JsonFormat:
			out.JSON = compactJSON(f.JsonFormat)
		case *filev3.FileAccessLog_TypedJsonFormat:
			out.JSON = compactJSON(f.TypedJsonFormat)
		}
	case "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig":
		var c otelv3.OpenTelemetryAccessLogConfig
		if err := unpack(l.GetTypedConfig(), &c); err != nil {
			t.missing(field, err.Error()+", so it")
			return out, false
		}
		g := c.GetCommonConfig().GetGrpcService()
		if g == nil {
			g = c.GetGrpcService()
		}
		out.Kind, out.Name, out.Text = "otel", c.GetCommonConfig().GetLogName(), c.GetBody().GetStringValue()
		out.Backend, out.Authority = grpcTarget(g)
		for _, kv := range c.GetAttributes().GetValues() {
			out.Attributes = append(out.Attributes, config.LogAttribute{Name: kv.GetKey(), Format: kv.GetValue().GetStringValue()})
		}
	case "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig":
		var c alsv3.HttpGrpcAccessLogConfig
		if err := unpack(l.GetTypedConfig(), &c); err != nil {
			t.missing(field, err.Error()+", so it")
			return out, false
		}
		out.Kind, out.Name = "grpc", c.GetCommonConfig().GetLogName()
		out.Backend, out.Authority = grpcTarget(c.GetCommonConfig().GetGrpcService())
	case "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig":
		var c alsv3.TcpGrpcAccessLogConfig
		if err := unpack(l.GetTypedConfig(), &c); err != nil {
			t.missing(field, err.Error()+", so it")
			return out, false
		}
		out.Kind, out.Name = "grpc", c.GetCommonConfig().GetLogName()
		out.Backend, out.Authority = grpcTarget(c.GetCommonConfig().GetGrpcService())
	default:
		t.missing(field, "this access logger")
		return out, false
	}
	return t.logFilter(out, l.GetFilter(), field)
}

// logFilter translates the filters that istiod sends.
func (t *translator) logFilter(out config.AccessLog, f *accesslogv3.AccessLogFilter, field string) (config.AccessLog, bool) {
	switch x := f.GetFilterSpecifier().(type) {
	case nil:
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		c := x.StatusCodeFilter.GetComparison()
		if c.GetOp() != accesslogv3.ComparisonFilter_GE {
			t.missing(field, "a status filter other than GE")
			return out, false
		}
		out.MinStatus = int(c.GetValue().GetDefaultValue())
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		out.Flags = x.ResponseFlagFilter.GetFlags()
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		var e celv3.ExpressionFilter
		if err := unpack(x.ExtensionFilter.GetTypedConfig(), &e); err != nil {
			t.missing(field, "filter "+x.ExtensionFilter.GetName())
			return out, false
		}
		out.Expression = e.GetExpression()
	default:
		t.missing(field, "a filter by "+oneof(x, "AccessLogFilter_"))
		return out, false
	}
	return out, true
}

func grpcTarget(g *corev3.GrpcService) (cluster, authority string) {
	return g.GetEnvoyGrpc().GetClusterName(), g.GetEnvoyGrpc().GetAuthority()
}

// compactJSON writes a struct in one form: protojson varies its spaces on purpose.
func compactJSON(m proto.Message) string {
	b, err := protojson.Marshal(m)
	if err != nil {
		return ""
	}
	var v any
	if json.Unmarshal(b, &v) != nil {
		return ""
	}
	b, _ = json.Marshal(v)
	return string(b)
}

// tracing translates sampling, tags and the provider. The tags that istiod adds to
// every span say what telemetry knows of itself.
func (t *translator) tracing(tr *hcmv3.HttpConnectionManager_Tracing) *config.Tracing {
	out := &config.Tracing{
		Random:  percent(tr.GetRandomSampling()),
		Client:  percent(tr.GetClientSampling()),
		Overall: percent(tr.GetOverallSampling()),
	}
	for _, c := range tr.GetCustomTags() {
		if strings.HasPrefix(c.GetTag(), "istio.") {
			continue
		}
		if tag, ok := traceTag(c); ok {
			out.Tags = append(out.Tags, tag)
		} else {
			t.missing("tracing.custom_tags["+c.GetTag()+"]", "this kind of tag")
		}
	}
	p := tr.GetProvider()
	if p == nil {
		return out
	}
	switch innerType(p.GetTypedConfig()) {
	case "envoy.config.trace.v3.OpenTelemetryConfig":
		var c tracev3.OpenTelemetryConfig
		if err := unpack(p.GetTypedConfig(), &c); err == nil {
			out.Kind = "opentelemetry"
			out.Backend, out.Authority = grpcTarget(c.GetGrpcService())
			out.Service = c.GetServiceName()
			if h := c.GetHttpService(); h != nil {
				t.otlpHTTP(out, h)
			}
			if len(c.GetResourceDetectors()) > 0 {
				t.missing("tracing.provider", "a resource detector")
			}
			if c.GetSampler() != nil {
				t.missing("tracing.provider", "a sampler of the provider's own")
			}
		}
	case "envoy.config.trace.v3.ZipkinConfig":
		var c tracev3.ZipkinConfig
		if err := unpack(p.GetTypedConfig(), &c); err == nil {
			out.Kind, out.Backend, out.Authority = "zipkin", c.GetCollectorCluster(), c.GetCollectorHostname()
		}
	}
	if out.Kind == "" {
		out.Kind = p.GetName() // named by what compiles it
	}
	return out
}

// otlpHTTP reads a collector that takes spans over HTTP.
func (t *translator) otlpHTTP(out *config.Tracing, h *corev3.HttpService) {
	_, rest, _ := strings.Cut(h.GetHttpUri().GetUri(), "://")
	host, path, _ := strings.Cut(rest, "/")
	out.Backend, out.Authority, out.Path = h.GetHttpUri().GetCluster(), host, "/"+path
	for _, x := range h.GetRequestHeadersToAdd() {
		v, err := literal(x.GetHeader().GetValue())
		if err != nil {
			t.missing("tracing.provider", err.Error()+", so the header "+x.GetHeader().GetKey())
			continue
		}
		out.Headers = append(out.Headers, config.LogAttribute{Name: x.GetHeader().GetKey(), Format: v})
	}
}

func percent(p *typev3.Percent) float64 { return p.GetValue() }

func traceTag(c *tracingv3.CustomTag) (out config.TraceTag, ok bool) {
	out.Name = c.GetTag()
	switch x := c.GetType().(type) {
	case *tracingv3.CustomTag_Literal_:
		out.Literal = x.Literal.GetValue()
	case *tracingv3.CustomTag_RequestHeader:
		out.Header, out.Default = strings.ToLower(x.RequestHeader.GetName()), x.RequestHeader.GetDefaultValue()
	case *tracingv3.CustomTag_Environment_:
		out.Env, out.Default = x.Environment.GetName(), x.Environment.GetDefaultValue()
	case *tracingv3.CustomTag_Value:
		out.Format = x.Value
	default:
		return out, false
	}
	return out, true
}

// Field numbers of stats.PluginConfig and its MetricConfig (istio/api).
const (
	statsMetrics       = 8
	metricName         = 2
	metricDimensions   = 1
	metricTagsToRemove = 3
	metricDrop         = 5
	mapKey, mapValue   = 1, 2
	statsDefinitions   = 9
)

// stats reads the overrides of Istio's standard metrics.
func (n *interner) stats(t *translator, cfg *anyMessage) {
	var over []config.MetricOverride
	ok := fields(cfg.GetValue(), func(num protowire.Number, b []byte, _ uint64) {
		switch num {
		case statsMetrics:
			over = append(over, metricOverride(b))
		case statsDefinitions:
			t.missing("istio.stats", "a metric definition")
		}
	})
	if !ok {
		t.missing("istio.stats", "a configuration that cannot be decoded")
		return
	}
	if len(over) > 0 {
		t.p.telemetry = &config.Telemetry{Metrics: over}
	}
}

func metricOverride(b []byte) (m config.MetricOverride) {
	fields(b, func(num protowire.Number, v []byte, n uint64) {
		switch num {
		case metricName:
			m.Metric = string(v)
		case metricTagsToRemove:
			m.Remove = append(m.Remove, string(v))
		case metricDrop:
			m.Drop = n != 0
		case metricDimensions:
			var key, val string
			fields(v, func(num protowire.Number, b []byte, _ uint64) {
				switch num {
				case mapKey:
					key = string(b)
				case mapValue:
					val = string(b)
				}
			})
			if m.Set == nil {
				m.Set = make(map[string]string)
			}
			m.Set[key] = val
		}
	})
	return m
}

// fields calls f for each field of a serialized message: with its bytes, or its
// number when it is one. It reports whether the message is well formed.
func fields(b []byte, f func(num protowire.Number, b []byte, n uint64)) bool {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return false
			}
			f(num, v, 0)
			b = b[n:]
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return false
			}
			f(num, nil, v)
			b = b[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return false
			}
			b = b[n:]
		}
	}
	return true
}
