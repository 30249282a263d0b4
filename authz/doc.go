// Package authz holds compiled authorization policies. A [Policy] is a list of
// rules over one expression tree ([Expr]); AuthorizationPolicy (through
// [RuleSpec]) and Envoy RBAC (through the constructors [And], [Header],
// [Principal] and so on) both compile to that tree.
//
// Data flow: config collects the policies of a destination; [Compile] makes an
// [Engine]; the proxy asks [Engine.Custom] and [Engine.Check] for each request or
// [Engine.CheckConn] for each connection and gets a [Decision] that names policy,
// rule and reason. [Engine.Explain] tells what each policy saw.
//
// An Engine keeps the rules of each action in an index by the facts that a rule
// cannot do without: peer identity, its namespace, path, leading directories of
// the path, host. A check evaluates only the rules that such a fact selects, so
// its cost follows the rules that could match, not those that exist.
//
// It imports only internal leaves. An Engine is immutable and safe for
// concurrent use; a check does not allocate.
package authz
