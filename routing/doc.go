// Package routing holds compiled routes: what a request matches and what is to
// be done with it (forward with weights, redirect, direct response, filters).
//
// Data flow: config turns HTTPRoute, GRPCRoute or Envoy route configuration into
// a list of [Rule]; [Compile] makes a [Table]; the proxy asks [Table.Match] once
// per request and acts on the [Compiled] rule it gets:
//
//	Broken set            500
//	Redirect              Code, AppendLocation
//	Direct                Status, Body
//	Pick(rand) == nil     500: no backend with a weight
//	Backend.Invalid set   Backend.Status
//	Backend.Redirect set  Code, AppendLocation
//	else                  RequestHeaders, Rewrite, mirror, forward, ReplyHeaders
//
// Where Compiled.BackendCORS is set, Pick comes before CORSPolicy.Check.
//
// No match is the proxy's 404. [Table.Explain] says why each candidate won or lost,
// [Table.Dump] what the table compares.
//
// The index: every match of every rule is a candidate, numbered by precedence.
// Exact paths are found by hash, all others at their literal prefix in a radix tree
// (regular expressions and templates at the text they must start with). Many
// candidates of one path are grouped by a header, parameter, authority or method that
// they ask for exactly. Of the candidates found, the one with the least number that
// holds wins, so the index never changes an answer.
//
// It imports only internal leaves. A Table is immutable and safe for concurrent
// use. Match, Pick, CORSPolicy.Check, header ops and rewrites do not allocate beyond
// growth of the caller's slice; a rewrite by a general regular expression does.
package routing
