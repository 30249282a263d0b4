package istiod

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// plumbing are the clusters by which an Envoy waypoint reaches its own listeners
// and the tunnels. The data path has tunnels of its own.
var plumbing = map[string]bool{
	"main_internal":           true,
	"encap":                   true,
	"connect_originate":       true,
	"inner_connect_originate": true,
	"outer_connect_originate": true,
	"forward_inner_connect":   true,
}

// encapCluster is the cluster that stands for the address the client asked for.
const encapCluster = "encap"

// Envoy's defaults where a cluster says nothing.
const (
	envoyConnectTimeout = 5 * time.Second
	envoyMaxConnections = 1024 // also pending requests and requests
	envoyMaxRetries     = 3
	envoyPanic          = 50 // percent
)

// cluster is a decoded Cluster. Its backend is assembled with the endpoints that
// come separately.
type cluster struct {
	name   string
	digest digest
	spec   config.Backend // without endpoints
	eds    string         // name of its assignment; empty: static
	static *assignment

	secrets  []string
	problems []config.Problem

	// What backend was made of, and the backend.
	from    *config.Backend
	backend *config.Backend
}

// clusterReader translates one cluster.
type clusterReader struct {
	c *cluster
}

func (r *clusterReader) note(s config.Severity, reason, field, msg string) {
	r.c.problems = append(r.c.problems, config.Problem{
		Severity: s, Kind: "Cluster", Name: r.c.name, Source: "Cluster", Field: field, Message: msg, Reason: reason,
	})
}

// fail makes the backend answer 503: it is taken, but nothing is sent to it in a
// way that it does not ask for.
func (r *clusterReader) fail(field, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if r.c.spec.Missing == "" {
		r.c.spec.Missing = msg
	}
	r.note(config.Error, ReasonUnsupported, field, msg+"; requests to it answer 503")
}

func (r *clusterReader) missing(field, what string) {
	r.note(config.Warning, ReasonNotImplemented, field, what+" is not implemented and has no effect")
}

// decodeCluster translates a Cluster. The error is that of a message that cannot
// be decoded.
func decodeCluster(b []byte) (*cluster, error) {
	var c clusterv3.Cluster
	if err := proto.Unmarshal(b, &c); err != nil {
		return nil, err
	}
	if c.GetName() == "" {
		return nil, errString("has no name")
	}
	out := &cluster{name: c.GetName(), digest: digestOf(b)}
	r := &clusterReader{c: out}
	s := &out.spec
	s.Key = c.GetName()
	if f := newerField(&c); f != "" {
		r.missing("", f)
	}
	for _, n := range unheeded(&c) {
		r.missing(n, n)
	}
	s.Service = r.service(&c)
	r.discovery(&c)
	r.balance(&c)
	r.limits(&c)
	r.protocol(&c)
	r.transport(&c)
	s.Settings.Outlier = r.outlier(c.GetOutlierDetection())
	s.Settings.ConnectTimeout = envoyConnectTimeout
	if c.GetConnectTimeout() != nil {
		s.Settings.ConnectTimeout = duration(c.GetConnectTimeout())
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"health_checks", len(c.GetHealthChecks()) > 0},
		{"preconnect_policy", c.GetPreconnectPolicy() != nil},
		{"lb_subset_config", c.GetLbSubsetConfig() != nil},
		{"upstream_bind_config", c.GetUpstreamBindConfig() != nil},
	} {
		if x.set {
			r.missing(x.name, x.name)
		}
	}
	for _, f := range c.GetFilters() {
		if kind := innerType(f.GetTypedConfig()); !harmlessNetwork[kind] { // it may guard the backend
			r.fail("filters", "the filter %s (%s) of connections to it is not known", f.GetName(), shortType(kind))
		}
	}
	if c.GetUpstreamConnectionOptions().GetTcpKeepalive() != nil {
		r.note(config.Info, ReasonNotImplemented, "upstream_connection_options.tcp_keepalive",
			"tcp_keepalive has no effect: tunnels are kept alive by PINGs, whatever a DestinationRule says")
	}
	return out, nil
}

// service says what a cluster belongs to: istiod notes it in the metadata, and in
// names such as inbound-vip|80|http|host.
func (r *clusterReader) service(c *clusterv3.Cluster) (s config.Service) {
	if _, port, host, ok := cutCluster(c.GetName()); ok {
		s.Port, s.Host = port, host
	}
	list := c.GetMetadata().GetFilterMetadata()["istio"].GetFields()["services"].GetListValue().GetValues()
	if len(list) > 0 {
		f := list[0].GetStructValue().GetFields()
		s.Host, s.Name, s.Namespace = f["host"].GetStringValue(), f["name"].GetStringValue(), f["namespace"].GetStringValue()
	}
	return s
}

// cutCluster reads direction|port|kind|host.
func cutCluster(name string) (kind string, port uint16, host string, ok bool) {
	p := strings.SplitN(name, "|", 4)
	if len(p) != 4 {
		return "", 0, "", false
	}
	n, err := strconv.ParseUint(p[1], 10, 16)
	return p[2], uint16(n), p[3], err == nil && p[3] != ""
}

// discovery says where the endpoints come from.
func (r *clusterReader) discovery(c *clusterv3.Cluster) {
	out := r.c
	if t := c.GetClusterType(); t != nil {
		switch innerType(t.GetTypedConfig()) {
		case "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig":
			r.dynamic(t.GetTypedConfig())
		case "envoy.extensions.clusters.dns.v3.DnsCluster":
			out.static = r.inline(c)
		default:
			r.fail("cluster_type", "cluster type %s is not supported", t.GetName())
		}
		return
	}
	switch c.GetType() {
	case clusterv3.Cluster_EDS:
		out.eds = c.GetEdsClusterConfig().GetServiceName()
		if out.eds == "" {
			out.eds = c.GetName()
		}
	case clusterv3.Cluster_STATIC, clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		out.static = r.inline(c)
	case clusterv3.Cluster_ORIGINAL_DST:
		o := c.GetOriginalDstLbConfig()
		if o.GetUseHttpHeader() && !plumbing[c.GetName()] {
			r.fail("original_dst_lb_config", "use_http_header is not supported: a client would choose the address")
		}
		out.spec.Balance.Port = uint16(o.GetUpstreamPortOverride().GetValue())
	default:
		r.fail("type", "cluster type %s is not supported", c.GetType())
	}
}

func (r *clusterReader) inline(c *clusterv3.Cluster) *assignment {
	return readAssignment(c.GetLoadAssignment())
}

// balance translates the load balancer.
func (r *clusterReader) balance(c *clusterv3.Cluster) {
	p := &r.c.spec.Balance
	if c.GetLoadBalancingPolicy() != nil {
		r.missing("load_balancing_policy", "load_balancing_policy")
	}
	switch c.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		p.Kind = balance.RoundRobin
		r.warmup(c.GetRoundRobinLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_LEAST_REQUEST:
		p.Kind = balance.LeastRequest
		r.warmup(c.GetLeastRequestLbConfig().GetSlowStartConfig())
		if b := c.GetLeastRequestLbConfig().GetActiveRequestBias(); b != nil {
			p.ActiveBias = b.GetDefaultValue()
		}
	case clusterv3.Cluster_RANDOM:
		p.Kind = balance.Random
	case clusterv3.Cluster_RING_HASH:
		p.Kind = balance.RingHash
		p.RingMin, p.RingMax = c.GetRingHashLbConfig().GetMinimumRingSize().GetValue(), c.GetRingHashLbConfig().GetMaximumRingSize().GetValue()
		if c.GetRingHashLbConfig().GetHashFunction() != clusterv3.Cluster_RingHashLbConfig_XX_HASH {
			r.missing("ring_hash_lb_config", "hash function "+c.GetRingHashLbConfig().GetHashFunction().String())
		}
	case clusterv3.Cluster_MAGLEV:
		p.Kind, p.TableSize = balance.Maglev, c.GetMaglevLbConfig().GetTableSize().GetValue()
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		p.Kind = balance.Passthrough
	default:
		r.missing("lb_policy", c.GetLbPolicy().String())
	}
	l := c.GetCommonLbConfig()
	p.PanicThreshold = envoyPanic
	if l.GetHealthyPanicThreshold() != nil {
		p.PanicThreshold = uint32(l.GetHealthyPanicThreshold().GetValue())
	}
	p.LocalityWeighted = l.GetLocalityWeightedLbConfig() != nil
}

func (r *clusterReader) warmup(s *clusterv3.Cluster_SlowStartConfig) {
	if s == nil {
		return
	}
	r.c.spec.Balance.Warmup = balance.Warmup{
		Duration: duration(s.GetSlowStartWindow()), Aggression: s.GetAggression().GetDefaultValue(),
		MinPercent: s.GetMinWeightPercent().GetValue(),
	}
}

// limits translates circuit breakers of the default priority.
func (r *clusterReader) limits(c *clusterv3.Cluster) {
	s := &r.c.spec.Settings
	var th *clusterv3.CircuitBreakers_Thresholds
	for _, x := range c.GetCircuitBreakers().GetThresholds() {
		if x.GetPriority() == corev3.RoutingPriority_DEFAULT {
			th = x
		}
	}
	s.MaxConnections = limit(th.GetMaxConnections(), envoyMaxConnections)
	s.MaxPending = limit(th.GetMaxPendingRequests(), envoyMaxConnections)
	s.MaxRequests = limit(th.GetMaxRequests(), envoyMaxConnections)
	s.MaxRetries = limit(th.GetMaxRetries(), envoyMaxRetries)
	if b := th.GetRetryBudget(); b != nil {
		s.RetryBudget = &resilience.RetryBudget{Percent: b.GetBudgetPercent().GetValue(), MinConcurrent: b.GetMinRetryConcurrency().GetValue(), Interval: duration(b.GetBudgetInterval())}
		if b.GetBudgetPercent() == nil {
			s.RetryBudget.Percent = 20
		}
		if b.GetMinRetryConcurrency() == nil {
			s.RetryBudget.MinConcurrent = 3
		}
	}
}

// limit reads a threshold; 2^32-1 is how Istio writes unlimited, 0 here.
func limit(v *wrapperspb.UInt32Value, byDefault uint32) uint32 {
	switch {
	case v == nil:
		return byDefault
	case v.GetValue() == math.MaxUint32:
		return 0
	}
	return v.GetValue()
}

// protocol translates the choice of the upstream protocol and its options.
func (r *clusterReader) protocol(c *clusterv3.Cluster) {
	s := &r.c.spec
	s.Protocol = config.ProtocolHTTP
	if c.GetHttp2ProtocolOptions() != nil { // where Envoy had it before
		s.Protocol = config.ProtocolHTTP2
		s.Settings.MaxConcurrentStreams = c.GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue()
	}
	s.Settings.MaxRequestsPerConn = c.GetMaxRequestsPerConnection().GetValue()
	r.common(c.GetCommonHttpProtocolOptions())
	names := sorted(c.GetTypedExtensionProtocolOptions())
	for _, n := range names {
		var o httpv3.HttpProtocolOptions
		if err := unpack(c.GetTypedExtensionProtocolOptions()[n], &o); err != nil {
			r.missing("typed_extension_protocol_options", n)
			continue
		}
		r.common(o.GetCommonHttpProtocolOptions())
		if len(o.GetHttpFilters()) > 0 {
			r.fail("typed_extension_protocol_options", "upstream http_filters are not supported")
		}
		switch u := o.GetUpstreamProtocolOptions().(type) {
		case *httpv3.HttpProtocolOptions_ExplicitHttpConfig_:
			if h2 := u.ExplicitHttpConfig.GetHttp2ProtocolOptions(); h2 != nil {
				s.Protocol = config.ProtocolHTTP2
				s.Settings.MaxConcurrentStreams = h2.GetMaxConcurrentStreams().GetValue()
			} else if u.ExplicitHttpConfig.GetHttp3ProtocolOptions() != nil {
				r.fail("typed_extension_protocol_options", "HTTP/3 is not supported")
			}
		case *httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
			s.Protocol = config.ProtocolAuto
			s.Settings.MaxConcurrentStreams = u.UseDownstreamProtocolConfig.GetHttp2ProtocolOptions().GetMaxConcurrentStreams().GetValue()
		case *httpv3.HttpProtocolOptions_AutoConfig:
			s.Protocol = config.ProtocolAuto
		}
	}
}

func (r *clusterReader) common(o *corev3.HttpProtocolOptions) {
	s := &r.c.spec.Settings
	if o.GetIdleTimeout() != nil {
		s.IdleTimeout = duration(o.GetIdleTimeout())
	}
	if o.GetMaxConnectionDuration() != nil {
		s.MaxConnectionDuration = duration(o.GetMaxConnectionDuration())
	}
	if o.GetMaxRequestsPerConnection() != nil {
		s.MaxRequestsPerConn = o.GetMaxRequestsPerConnection().GetValue()
	}
	if o.GetMaxStreamDuration() != nil {
		s.MaxStreamDuration = duration(o.GetMaxStreamDuration())
	}
}

// outlier translates outlier detection with Envoy's defaults.
func (r *clusterReader) outlier(o *clusterv3.OutlierDetection) *resilience.Outlier {
	if o == nil {
		return nil
	}
	or := func(v *wrapperspb.UInt32Value, d uint32) uint32 {
		if v == nil {
			return d
		}
		return v.GetValue()
	}
	enforced := func(count uint32, v *wrapperspb.UInt32Value, byDefault uint32, field string) uint32 {
		switch n := or(v, byDefault); {
		case n == 0:
			return 0
		case n < 100:
			r.missing("outlier_detection."+field, "enforcing only a share")
		}
		return count
	}
	out := &resilience.Outlier{
		Consecutive5xx:     enforced(or(o.GetConsecutive_5Xx(), 5), o.GetEnforcingConsecutive_5Xx(), 100, "enforcing_consecutive_5xx"),
		ConsecutiveGateway: enforced(or(o.GetConsecutiveGatewayFailure(), 5), o.GetEnforcingConsecutiveGatewayFailure(), 0, "enforcing_consecutive_gateway_failure"),
		SplitLocal:         o.GetSplitExternalLocalOriginErrors(),
		Interval:           10 * time.Second,
		BaseEjection:       30 * time.Second,
		MaxEjection:        300 * time.Second,
		MaxEjectionPercent: or(o.GetMaxEjectionPercent(), 10),
		AlwaysEjectOne:     o.GetAlwaysEjectOneHost().GetValue(),
		SuccessRate:        enforced(1, o.GetEnforcingSuccessRate(), 100, "enforcing_success_rate") > 0,

		SuccessRateMinHosts:    or(o.GetSuccessRateMinimumHosts(), 5),
		SuccessRateVolume:      or(o.GetSuccessRateRequestVolume(), 100),
		SuccessRateStdevFactor: or(o.GetSuccessRateStdevFactor(), 1900),
	}
	if out.SplitLocal {
		out.ConsecutiveLocal = enforced(or(o.GetConsecutiveLocalOriginFailure(), 5), o.GetEnforcingConsecutiveLocalOriginFailure(), 100, "enforcing_consecutive_local_origin_failure")
	}
	if o.GetInterval() != nil {
		out.Interval = duration(o.GetInterval())
	}
	if o.GetBaseEjectionTime() != nil {
		out.BaseEjection = duration(o.GetBaseEjectionTime())
	}
	if o.GetMaxEjectionTime() != nil {
		out.MaxEjection = duration(o.GetMaxEjectionTime())
	}
	out.MaxEjection = max(out.MaxEjection, out.BaseEjection)
	if or(o.GetEnforcingFailurePercentage(), 0) > 0 {
		r.missing("outlier_detection", "ejection by failure percentage")
	}
	return out
}
