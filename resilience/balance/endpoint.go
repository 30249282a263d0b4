package balance

import (
	"net/netip"
	"sync/atomic"
)

// Health is an endpoint's state as its source reports it.
type Health uint8

// The states that EDS and EndpointSlices can tell apart. Only Healthy endpoints
// are picked, unless panic mode is on.
const (
	Healthy Health = iota
	Unhealthy
	Draining
)

// Endpoint is one place that serves a backend. It is immutable once in a Set.
type Endpoint struct {
	Key      string         // stable name, unique in its backend: usually "ip:port"
	Addr     netip.AddrPort // pod address and target port
	Tunnel   netip.AddrPort // HBONE address, ip:15008; invalid: plain TCP
	Identity string         // expected SPIFFE URI behind the tunnel; empty: unknown
	Hostname string         // DNS endpoints: name to resolve when Addr is invalid
	Named    bool           // a request gave Hostname, so that TLS is for it too
	// Authority is the CONNECT authority when it differs from Addr (double HBONE, another waypoint: VIP:port).
	Authority string
	// Double asks for a tunnel to Authority inside one to Tunnel, the gateway of another network.
	Double bool
	// HashKey is what ring hash and Maglev place the endpoint by. Empty: the text
	// Envoy hashes in a waypoint, "envoy://connect_originate/" and Key for a
	// tunnelled endpoint, Key for a plain one.
	HashKey  string
	Weight   uint32 // 0 counts as 1
	Priority uint32 // 0 is best
	Locality Locality
	Health   Health
	Labels   map[string]string // subsets, failoverPriority

	Host     *Host // runtime state; set by config.Compile, kept by Key
	Workload any   // *config.Workload for telemetry, nil if unknown
}

// weight is the effective load balancing weight.
func (e *Endpoint) weight() uint32 {
	if e.Weight == 0 {
		return 1
	}
	return e.Weight
}

// hashKey is the text that the hashing balancers place the endpoint by.
func (e *Endpoint) hashKey() string {
	switch {
	case e.HashKey != "":
		return e.HashKey
	case e.Tunnel.IsValid():
		return "envoy://connect_originate/" + e.Key
	default:
		return e.Key
	}
}

// Locality is where an endpoint runs.
type Locality struct {
	Region, Zone, Subzone string
	Weight                uint32 // of the locality in its priority, with Policy.LocalityWeighted; 0 gets nothing
}

// Host is the runtime state of an endpoint that survives configuration changes.
// The zero value is ready for use. A Host must not be copied.
type Host struct {
	Active  atomic.Int64 // requests in flight
	Ejected Ejection     // by outlier detection
	Gone    atomic.Bool  // no longer in any Set: pools drain

	// Faults belongs to outlier detection: package resilience counts there.
	Faults Faults

	// Pool belongs to the proxy: its connections to this endpoint.
	Pool atomic.Value

	since atomic.Int64 // Unix nanoseconds of the first Set it was in: start of the warm-up
}

// Faults is what outlier detection remembers of a host. All fields but the last
// three are written by any request; those are guarded by the detector's mutex.
type Faults struct {
	Consecutive5xx, ConsecutiveGateway, ConsecutiveLocal atomic.Uint32

	// Requests and good ones of the running interval, by origin of the failure.
	Total, Good, LocalTotal, LocalGood atomic.Uint32

	Ejections    uint32 // multiplier of the ejection time
	EjectedAt    int64  // Unix nanoseconds
	EjectedUntil int64  // Unix nanoseconds
}
