package config

import (
	"crypto/tls"
	"net/netip"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/resilience/session"
	"waypoint.dev/waypoint/routing"
)

// Model is everything a waypoint serves, as one source sees it.
type Model struct {
	Mesh         Mesh
	Destinations []*Destination
	Backends     map[string]*Backend // by Backend.Key
	Workloads    []*Workload         // not changed once given: the same slice again stands for the same workloads
	Problems     []Problem           // what was refused, ignored or not applied, for log, metric, check and admin
}

// Mesh is what holds for all destinations.
type Mesh struct {
	TrustDomain   string   // "cluster.local"
	TrustAliases  []string //
	RootNamespace string   // "istio-system"
	ClusterID     string   // "Kubernetes"
	Network       string
	MeshID        string
	Domain        string // "cluster.local", DNS suffix
	Normalization Normalization
	Waypoint      Owner // the waypoint these destinations belong to
}

// Owner names the Gateway that a waypoint runs for.
type Owner struct{ Namespace, Name, Class string }

// Normalization is Istio's meshConfig.pathNormalization.
type Normalization uint8

const (
	NormalizeBase Normalization = iota // Istio's default
	NormalizeNone
	NormalizeMergeSlashes
	NormalizeDecodeAndMergeSlashes
)

// Protocol is what a port was declared to speak.
type Protocol uint8

const (
	ProtocolAuto  Protocol = iota // undeclared: sniffed
	ProtocolHTTP                  // HTTP/1.1 upstream
	ProtocolHTTP2                 // http2, grpc: h2 upstream
	ProtocolGRPC
	ProtocolGRPCWeb
	ProtocolTCP // never sniffed
	ProtocolTLS // https, tls: passed through, SNI read
)

// Destination is one thing a tunnel can address: a service port or a workload.
// Sources may share Destination pointers between models: an unchanged pointer
// is not compiled again, so a Destination is immutable once in a Model.
type Destination struct {
	Key      string         // stable: "cart.shop.svc.cluster.local:80", "workload/<uid>"
	Workload bool           // addressed by pod IP
	Addrs    []netip.Prefix // VIPs or pod addresses (single addresses as /32, /128)
	Port     uint16         // service port; 0 for workloads: any port
	Hosts    []string       // names of a host:port authority
	Protocol Protocol
	Service  Service

	Stages []Stage        // HTTP request stages before routing, in order
	Conn   []authz.Policy // the policies of connections (TCP chains); HTTP policies stand in a Stage

	Routes    []routing.Rule            // empty: the default route to Backend
	Order     routing.Order             // how Routes and Consumers are ordered
	Consumers map[string][]routing.Rule // by client namespace, replaces Routes for those clients
	RouteKind string                    // kind that won the port under GEP-1294, else empty
	Retries   []*resilience.Retry       // what Rule.Retry indexes
	Faults    []*resilience.Fault       // what Rule.Fault indexes; also the Spec of a StageFault
	Hashes    [][]balance.HashSource    // what Rule.Hash indexes: takes the place of the backend's own
	Sessions  []*session.Spec           // what Rule.Session indexes
	Implicit  bool                      // Routes are the implicit default rule: they guard nothing, so undeclared bytes may still be TCP
	Refs      []string                  // backend keys that Backend.Ref and Mirror.Ref index
	Backend   string                    // key of the default backend; empty for workloads: the address itself
	TCPRoutes []TCPRoute
	// ConsumerTCP are TCP routes by client namespace; they replace TCPRoutes for
	// those clients.
	ConsumerTCP map[string][]TCPRoute

	Telemetry *Telemetry // what the source says of logs and traces; nil: nothing

	HTTPOnly bool // a route, JWT, HTTP authorization or rate limit guards it: undeclared bytes never fall back to TCP
	Settings HTTPSettings

	// Broken, when set, makes every request answer 503 and says why (a chain with
	// an unknown security filter).
	Broken string
}

// HTTPSettings are switches of the HTTP codec and header handling.
type HTTPSettings struct {
	Normalization Normalization
	AllowHTTP10   bool
	XFCC          bool // write x-forwarded-client-cert from the tunnel's peer; else it is removed
	XFF           bool // append the client pod's address to x-forwarded-for
	KeepServer    bool // leave the backend's server header, and write none
	MaxHeadBytes  int  // 0: 60 KiB (Envoy)

	ServerName  string      // server header of answers; empty: "istio-envoy"
	NoRequestID bool        // make no x-request-id where there is none
	Quiet       bool        // write none of the x-envoy-* headers
	MaxFields   int         // of a request's head, up to 100, which is what 0 means too (Envoy); above: 431
	Underscores Underscores // fields of requests with an underscore in their names
}

// Underscores says what becomes of request fields that some servers take for others,
// since they read an underscore as a hyphen.
type Underscores uint8

const (
	UnderscoresPass Underscores = iota
	UnderscoresReject
	UnderscoresDrop
)

// Service names what a destination or backend belongs to, for telemetry.
type Service struct {
	Host, Name, Namespace string
	Port                  uint16
	PortName              string
}

// StageKind is one kind of request stage.
type StageKind uint8

const (
	StageCustom StageKind = iota // external authorization
	StageJWT
	StageAuthz // AUDIT, DENY, ALLOW
	StageFault
	StageCORS
	StageRateLimit
	StageHeaders // header mutation
	StageGRPCWeb // gRPC-Web requests are translated to gRPC
)

// Stage is one step of a destination's HTTP pipeline.
type Stage struct {
	Kind     StageKind
	Policies []authz.Policy     // StageAuthz, StageCustom
	Headers  *routing.HeaderOps // StageHeaders
	Spec     any                // the kind's own settings (JWT rules, providers, limits): a plain struct of the package that runs it
}

// Telemetry is what a source asks of the records of a destination. It is shared
// by many destinations.
type Telemetry struct {
	Logs    []AccessLog
	Tracing *Tracing         // nil: none
	Metrics []MetricOverride // Istio's standard metrics, in order
}

// AccessLog is one access logger.
type AccessLog struct {
	Kind       string         // "file", "otel", "grpc"
	Path       string         // file: "/dev/stdout"
	Text       string         // format text, in Envoy's command operators
	JSON       string         // format as a JSON object, instead of Text
	Backend    string         // key of the backend that takes the records; otel and grpc
	Authority  string         // of that backend
	Name       string         // of the log
	Attributes []LogAttribute // otel: beside the text
	Expression string         // CEL filter; empty: all
	MinStatus  int            // only responses of this status and above; 0: all
	Flags      []string
}

// LogAttribute is a named value of a log record.
type LogAttribute struct {
	Name   string
	Format string // Envoy's command operators
}

// Tracing says where spans go and how many are made.
type Tracing struct {
	Kind      string // "opentelemetry", "zipkin", ...; empty: no provider, spans go nowhere
	Backend   string // key of the collector's backend
	Authority string
	Path      string         // of OTLP over HTTP; empty: gRPC
	Headers   []LogAttribute // of OTLP over HTTP, literal
	Service   string         // service.name; empty: the waypoint's
	Random    float64        // percent of the requests that carry no decision
	Client    float64        // percent of the requests that ask for a trace
	Overall   float64        // percent, upper bound of both
	Tags      []TraceTag
}

// TraceTag is a custom tag of spans; one source is set.
type TraceTag struct {
	Name    string
	Literal string
	Header  string // request header, lower case
	Env     string // environment variable
	Format  string // Envoy's command operators
	Default string // when the source has no value
}

// MetricOverride changes one of Istio's standard metrics.
type MetricOverride struct {
	Metric string            // "requests_total"; empty: all
	Drop   bool              //
	Set    map[string]string // tag and expression
	Remove []string          // tags
}

// UpstreamTLS is TLS between the waypoint and a backend, inside the tunnel if
// there is one.
type UpstreamTLS struct {
	SNI  string
	SANs []string // exact subject alternative names, one of which must be there; empty: any
	// SkipVerify takes any certificate, though CA may be set.
	SkipVerify bool
	CRL        string // file of revoked certificates; empty: none
	CA         string // "system", a file, or the name of a secret; empty: not verified
	Cert       string // file or secret of the client certificate; empty: none
	Key        string // file, when Cert is one
	// Secrets has every name of CA and Cert that is a secret and no file. nil: the
	// source has not sent that one, and no connection is made without it.
	Secrets  map[string]*Secret
	ALPN     []string
	MinMinor uint8 // 2 or 3 for TLS 1.2 and 1.3; 0: 1.2
	MaxMinor uint8
	Curves   []tls.CurveID // key exchanges to offer; nil: Go's choice
	Ciphers  []uint16      // cipher suites of TLS 1.2; nil: Go's choice
}

// TCPRoute sends connections onwards; the first whose SNI matches wins.
type TCPRoute struct {
	Route    string
	Rule     string   // name, or index in the route; not known of istiod's
	SNI      []string // exact or "*.suffix"; empty: any
	Backends []routing.Backend
	Idle     time.Duration // silence after which a connection ends; 0: the backend's, else 1 h
	Max      time.Duration // longest life of a connection; 0: the backend's, else none
}

// Backend is a set of endpoints with its settings: a service port, or a subset.
type Backend struct {
	Key       string // "host|port" or "host|port|subset"
	Service   Service
	Protocol  Protocol // upstream choice: HTTP, HTTP2; Auto: the client's
	Endpoints []*balance.Endpoint
	Unlisted  bool // nothing says which endpoints there are: a Service without any EndpointSlice
	Balance   balance.Policy
	Settings  resilience.Settings
	Missing   string // why it does not exist (answers Status 500 or 503 NC)

	// Dynamic, when set, takes the endpoint from the name in each request; there
	// are no others.
	Dynamic *Dynamic

	TLS        *UpstreamTLS // nil: plain text
	ProxyProto uint8        // version of the PROXY protocol header to send; 0: none
}

// Dynamic says how a backend's endpoints are named by requests: by the authority
// of HTTP, by the server name of TLS.
type Dynamic struct {
	Host     string // names that may be asked for: "*.example.com", or "*" for any
	Port     uint16 // of connections without HTTP; a request says it, or means 80, with TLS 443
	MaxHosts int    // names remembered at a time; 0: 1024 (Envoy)
}

// Workload is a pod or WorkloadEntry.
type Workload struct {
	UID, Name, Namespace             string
	Addrs                            []netip.Addr
	TrustDomain, ServiceAccount      string
	Tunnel                           bool // reachable by HBONE
	WorkloadName, WorkloadType       string
	CanonicalName, CanonicalRevision string
	ClusterID, Network, Node         string
	Locality                         balance.Locality
	Labels                           map[string]string
	Healthy                          bool
}

// Severity of a Problem.
type Severity uint8

const (
	Info    Severity = iota // a choice worth knowing
	Warning                 // does less than it seems to
	Error                   // refused; the last good version serves, or it fails closed
)

// Problem is something a user should know about one object.
type Problem struct {
	Severity        Severity
	Kind, Namespace string
	Name            string
	Source          string // file:line, or the xDS resource
	Field           string // JSON path
	Message         string // what is wrong and what to do
	Reason          string // Gateway API or Istio reason, stable
}
