package telemetry

import (
	"net/netip"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// Protocol of an exchange, as the request_protocol label says it.
type Protocol uint8

const (
	HTTP Protocol = iota
	GRPC
	TCP
)

func (p Protocol) String() string { return [...]string{"http", "grpc", "tcp"}[p] }

// Record is what one exchange leaves behind. Strings are borrowed: Done copies
// what it keeps. The zero value is an unfinished HTTP exchange; Reset reuses it.
type Record struct {
	Start        time.Time
	Duration     time.Duration // until the last byte was handed downstream
	UpstreamTime time.Duration // from the request's first byte upstream to the response head; negative: none
	Protocol     Protocol
	Version      string // "HTTP/1.1", "HTTP/2"; empty for TCP

	Method, Path, Authority         string // Path with its query, as the client sent it
	UserAgent, RequestID, Forwarded string // Forwarded is x-forwarded-for

	Code             int // 0: none was sent (client gone, TCP)
	GRPCStatus       int // -1: none
	Flags            Flags
	Details          string // response_code_details
	Termination      string // connection_termination_details
	TransportFailure string // upstream_transport_failure_reason

	Received, Sent                    int64 // body bytes from and to the client
	RequestMessages, ResponseMessages int64 // gRPC

	Route string // route name as configured; "default" without one

	// What decided, for log, trace and explain.
	Denied bool
	Policy string // "namespace/name"
	Rule   string
	Reason string
	Audit  string // "namespace/name" of the first AUDIT policy that matched

	// What policies with istio.io/dry-run would have done: "allowed" or "denied",
	// and which decided, if one did. Empty: there are none.
	DryRun, DryRunPolicy string

	Upstream        netip.AddrPort // endpoint that answered, or was tried last
	UpstreamLocal   netip.AddrPort
	UpstreamCluster string // "inbound-vip|80|http|cart.shop.svc.cluster.local"
	DownstreamLocal netip.AddrPort
	Downstream      netip.AddrPort
	SNI             string
	Attempts        int

	Source, Dest *Peer    // interned by Reporter.Peer; nil: unknown
	Service      *Service // interned by Reporter.Service; nil: unknown
	MutualTLS    bool

	// The heads as policies and the client saw them, borrowed; for formats and
	// expressions.
	RequestHeaders, ResponseHeaders []attrs.Field

	Plan *Plan // what the source asks for this exchange; nil: the reporter's options alone

	Trace Trace // zero while tracing is off

	Shard uint32 // any number that spreads tunnels over counters
}

// Reset makes the record ready for the next exchange.
func (r *Record) Reset() { *r = Record{GRPCStatus: -1, UpstreamTime: -1} }

// Peer is a workload as metrics name it. Empty strings are reported as "unknown".
type Peer struct {
	Workload, Namespace                 string
	CanonicalService, CanonicalRevision string
	App, Version, Cluster, Principal    string
	WorkloadType, Instance              string
}

// Service is a destination service as metrics name it.
type Service struct {
	Host, Name, Namespace string
}
