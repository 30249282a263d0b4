// Package extauthz asks an external authorizer about requests, over gRPC
// (envoy.service.auth.v3) or HTTP, as Envoy's ext_authz filter does for CUSTOM
// policies.
//
// Data flow: config makes a [Config] of each extension provider and [New] a
// [Client] that connects through the injected dial function (for a provider in
// the mesh: over HBONE with the waypoint's identity). The proxy calls
// [Client.Check] when a CUSTOM policy matches, then answers or applies the edits
// of the [Outcome].
//
// Only an answer that says so allows a request. A server that is down, slow,
// broken or says something that cannot be sent on is an error, which denies
// unless FailOpen is set. Dynamic metadata in answers is ignored.
//
// Concurrency: a Client is safe for concurrent use. Allocation: a check
// allocates; it costs a round trip anyway. Nothing borrowed from the request is
// kept after Check returns.
package extauthz
