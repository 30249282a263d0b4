// Package routing holds compiled routes: what a request matches and what is to
// be done with it (forward with weights, redirect, direct response, filters).
//
// Data flow: config turns HTTPRoute, GRPCRoute or Envoy route configuration into
// a list of [Rule]; [Compile] makes a [Table]; the proxy asks [Table.Match] once
// per request and applies the rule's filters.
//
// It imports only internal leaves. A Table is immutable and safe for concurrent
// use; Match does not allocate.
package routing
