package config

import (
	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/resilience/session"
	"waypoint.dev/waypoint/routing"
)

// Chain is a compiled [Destination]. It is immutable but for its targets. Users
// look it up per request through the [Store] and keep only *[Target] handles, so
// that long streams hold no old snapshot.
type Chain struct {
	// Fixed after Compile.
	Spec     *Destination
	Stages   []CompiledStage // before routing, in order
	Conn     *authz.Engine   // policies of connections; nil allows
	Default  *Target         // the default backend; nil for workloads, see Direct
	TCP      []CompiledTCP   // in order; empty: Default
	HTTPOnly bool            // undeclared bytes that are no HTTP are refused, never taken for TCP
	Broken   string          // when set, every request answers 503 and this says why
	Workload *Workload       // of a workload destination, when known
	Problems []Problem
	Reports  any // what Env.Reports made of Spec.Telemetry

	table     *routing.Table
	consumers map[string]*routing.Table
	byClient  map[string][]CompiledTCP
	targets   []*Target // by ref; Default last
	direct    *directTargets
	unheard   []Problem // of Reports; the same for all chains with that Telemetry
}

// CompiledStage is one step of a chain's HTTP pipeline.
type CompiledStage struct {
	Kind    StageKind
	Spec    *Stage
	Authz   *authz.Engine      // StageAuthz, StageCustom
	Headers *routing.HeaderOps // StageHeaders
	Run     any                // what Env.Stage made of Spec.Spec
}

// CompiledTCP is a [TCPRoute] with its backends picked by weight.
type CompiledTCP struct {
	Spec *TCPRoute
	Pick *routing.Compiled // Backends[i].Ref is for Chain.Target; Broken closes the connection
}

// Table returns the routes for a client of that namespace. It is never nil.
func (c *Chain) Table(clientNamespace string) *routing.Table {
	if len(c.consumers) > 0 {
		if t := c.consumers[clientNamespace]; t != nil {
			return t
		}
	}
	return c.table
}

// Target returns what a routing.Backend.Ref or Mirror.Ref of the chain's tables
// means, nil for a ref out of range (an invalid backend has -1) and in workload
// chains.
func (c *Chain) Target(ref int) *Target {
	if ref < 0 || ref >= len(c.targets) {
		return nil
	}
	return c.targets[ref]
}

// Retry returns the policy that routing.Rule.Retry indexes; nil stands for the default.
func (c *Chain) Retry(i int) *resilience.Retry {
	if i < 0 || i >= len(c.Spec.Retries) {
		return nil
	}
	return c.Spec.Retries[i]
}

// Hash returns the hash sources that routing.Rule.Hash indexes; nil stands for
// those of the backend.
func (c *Chain) Hash(i int) []balance.HashSource {
	if i < 0 || i >= len(c.Spec.Hashes) {
		return nil
	}
	return c.Spec.Hashes[i]
}

// Session returns what routing.Rule.Session indexes; nil stands for none.
func (c *Chain) Session(i int) *session.Spec {
	if i < 0 || i >= len(c.Spec.Sessions) {
		return nil
	}
	return c.Spec.Sessions[i]
}

// TCPRoutes returns the TCP routes for a client of that namespace, those of
// Chain.TCP unless the namespace has its own.
func (c *Chain) TCPRoutes(clientNamespace string) []CompiledTCP {
	if rs, ok := c.byClient[clientNamespace]; ok {
		return rs
	}
	return c.TCP
}

// RouteTCPFor is RouteTCP for a client of that namespace.
func (c *Chain) RouteTCPFor(clientNamespace, sni string) (r *CompiledTCP, ok bool) {
	return routeTCP(c.TCPRoutes(clientNamespace), sni)
}

// RouteTCP returns the first TCP route for the server name, "" when there is none;
// nil means the default backend. ok is false when routes exist and none matches.
func (c *Chain) RouteTCP(sni string) (r *CompiledTCP, ok bool) { return routeTCP(c.TCP, sni) }

func routeTCP(rs []CompiledTCP, sni string) (r *CompiledTCP, ok bool) {
	if len(rs) == 0 {
		return nil, true
	}
	for i := range rs {
		if s := rs[i].Spec.SNI; len(s) == 0 || routing.MatchSNI(s, sni) {
			return &rs[i], true
		}
	}
	return nil, false
}
