package balance

import (
	"net/netip"
	"sync/atomic"
)

// Health is an endpoint's state as its source reports it.
type Health uint8

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
	// Authority is the CONNECT authority when it differs from Addr (double HBONE, another waypoint: VIP:port).
	Authority string
	Weight    uint32 // 0 counts as 1
	Priority  uint32 // 0 is best
	Locality  Locality
	Health    Health
	Labels    map[string]string // subsets, failoverPriority

	Host     *Host // runtime state; set by config.Compile, kept by Key
	Workload any   // *config.Workload for telemetry, nil if unknown
}

// Locality is where an endpoint runs.
type Locality struct {
	Region, Zone, Subzone string
	Weight                uint32
}

// Host is the runtime state of an endpoint that survives configuration changes.
// The zero value is ready for use.
type Host struct {
	Active  atomic.Int64 // requests in flight
	Ejected atomic.Bool  // by outlier detection
	Gone    atomic.Bool  // no longer in any Set: pools drain

	// Pool belongs to the proxy: its connections to this endpoint.
	Pool atomic.Value
}

// The surface that the package's other files define:
//
//	type Policy struct { Kind Kind; ... } // least request (zero value), round robin, random, ring hash, maglev, passthrough; warm-up, locality, panic threshold, hash key source
//	func NewSet(p Policy, endpoints []*Endpoint, prev *Set) *Set
//	// Pick returns nil when no endpoint can serve. hash is 0 when there is no key; skip lists hosts already tried.
//	func (s *Set) Pick(hash uint64, skip []*Endpoint, attempt int) *Endpoint
//	func (s *Set) Endpoints() []*Endpoint
