// Package session keeps a client on one endpoint (Gateway API's session
// persistence, GEP-1619). It does no I/O and keeps no state: what is known of a
// session is in the token that the client carries.
//
// Data flow: a source writes a [Spec] for each rule that asks for sessions. For a
// request the proxy finds the token ([Spec.Find]), opens it ([Keeper.Open]) and asks
// each backend of the matched rule for an endpoint of that digest ([Token.Of]). If
// one is there and healthy the request goes to it, whatever the weights say; else
// one is picked as usual. Where the client has no good token, or one to be renewed
// ([Spec.Renew]), the response carries a new one ([Keeper.Seal], [Spec.AppendCookie]).
//
// A token is AES-256-GCM of two digests and two times, bound to its rule: a client
// can neither read nor make one, nor use one at another rule, and it names no
// address. A replica that has none of the keys takes it as no token.
//
// Concurrency: Spec and Keeper are immutable and safe for concurrent use.
// Allocation: Open and Seal allocate nothing in the steady state.
package session
