// Package authz holds compiled authorization policies. A [Policy] is a list of
// rules over one expression tree ([Expr]); AuthorizationPolicy (through
// [RuleSpec]) and Envoy RBAC both compile to that tree.
//
// Data flow: config collects the policies of a destination; [Compile] makes an
// [Engine]; the proxy asks [Engine.Check] for each request or [Engine.CheckConn]
// for each connection and gets a [Decision] that names policy, rule and reason.
//
// It imports only internal leaves. An Engine is immutable and safe for
// concurrent use; a check does not allocate.
package authz
