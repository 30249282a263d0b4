package config

// The surface that the package's other files define:
//
//	func Compile(m *Model, prev *Snapshot, env Env) (*Snapshot, []Problem) // never fails as a whole
//
//	// Lookup finds the destination of a tunnel: workload or service by address and port, or by host and port.
//	func (s *Snapshot) Lookup(addr netip.AddrPort, host string, port uint16) *Chain
//	func (s *Snapshot) WorkloadByAddr(a netip.Addr) *Workload
//
//	// Chain is a compiled Destination. Conns hold it across snapshots? No: they
//	// look it up per request through the Store, and keep only *Target handles.
//	type Chain struct {
//	    Spec     *Destination
//	    Stages   []CompiledStage
//	    Conn     *authz.Engine
//	    Default  *Target
//	    ...
//	}
//	func (c *Chain) Table(clientNamespace string) *routing.Table
//	func (c *Chain) Target(ref int) *Target
//
//	// Target is a compiled Backend: shared by key across snapshots.
//	type Target struct {
//	    Spec atomic.Pointer[Backend]
//	    Set  atomic.Pointer[balance.Set]
//	    Limits, Breaker, Outlier state of package resilience
//	}
//
//	type Store struct { ... } // atomic.Pointer[Snapshot], Load, Swap, Watch(func(old, new)) for pools and open tunnels
