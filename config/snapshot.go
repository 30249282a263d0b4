package config

import (
	"net/netip"
	"strings"
)

// Snapshot is one compiled model. It is immutable, and safe for concurrent use;
// the nil Snapshot serves nothing.
type Snapshot struct {
	// Fixed after Compile.
	Version  uint64 // one more than that of the previous snapshot
	Mesh     Mesh
	Problems []Problem // of the model, then of compiling it

	chains    []*Chain // in the order of the model
	byKey     map[string]*Chain
	byAddr    map[netip.AddrPort]*Chain // port 0: any port of that address
	byPrefix  prefixTable
	byHost    map[hostPort]*Chain
	bySuffix  map[hostPort]*Chain // ".example.com" for "*.example.com"
	workloads map[netip.Addr]*Workload
	byUID     map[string]*Workload
	source    []*Workload // what the two were made of
	addresses int         // of all of source
	targets   map[string]*Target

	direct  bool      // some chains are of workloads
	found   []Problem // by compiling
	doubled bool      // two destinations had one key, so that chains are not all of them

	// What Store.Swap makes visible; owned by the goroutine that compiles.
	pending []update
	closing []*directTargets
}

type hostPort struct {
	host string
	port uint16
}

// Lookup finds the destination of a tunnel. With a valid addr it tries, in this
// order: service address and port, the longest service prefix with the port, the
// address of a workload. Otherwise, or when that finds nothing, host and port.
// It returns nil for an unknown destination.
func (s *Snapshot) Lookup(addr netip.AddrPort, host string, port uint16) *Chain {
	if s == nil {
		return nil
	}
	if addr.IsValid() {
		ip := addr.Addr().Unmap().WithZone("")
		if c := s.byAddr[netip.AddrPortFrom(ip, addr.Port())]; c != nil {
			return c
		}
		if c := s.byPrefix.lookup(ip, addr.Port()); c != nil {
			return c
		}
		if c := s.byAddr[netip.AddrPortFrom(ip, 0)]; c != nil {
			return c
		}
	}
	if host == "" {
		return nil
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".") // ToLower copies only if there is something to lower
	if c := s.byHost[hostPort{host, port}]; c != nil {
		return c
	}
	// The longest wildcard wins.
	for rest := host; len(s.bySuffix) > 0; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			return nil
		}
		if c := s.bySuffix[hostPort{rest[i:], port}]; c != nil {
			return c
		}
		rest = rest[i+1:]
	}
	return nil
}

// WorkloadByAddr returns the workload that has the address, or nil.
func (s *Snapshot) WorkloadByAddr(a netip.Addr) *Workload {
	if s == nil {
		return nil
	}
	return s.workloads[a.Unmap().WithZone("")]
}

// Chains returns all compiled destinations in the order of the model. Read only.
func (s *Snapshot) Chains() []*Chain {
	if s == nil {
		return nil
	}
	return s.chains
}

// Chain returns the chain of the destination key, or nil.
func (s *Snapshot) Chain(key string) *Chain {
	if s == nil {
		return nil
	}
	return s.byKey[key]
}

// Target returns the target of a backend key, or nil.
func (s *Snapshot) Target(key string) *Target {
	if s == nil {
		return nil
	}
	return s.targets[key]
}

// Targets calls f for every target until it returns false, in no order.
func (s *Snapshot) Targets(f func(*Target) bool) {
	if s == nil {
		return
	}
	for _, t := range s.targets {
		if !f(t) {
			return
		}
	}
}

// Workloads calls f for every address and workload until it returns false, in no order.
func (s *Snapshot) Workloads(f func(netip.Addr, *Workload) bool) {
	if s == nil {
		return
	}
	for a, w := range s.workloads {
		if !f(a, w) {
			return
		}
	}
}
