// Package jwt verifies JSON Web Tokens as Istio's RequestAuthentication asks.
//
// Data flow: config makes a [Config] (from RequestAuthentication or from Envoy's
// jwt_authn filter) and [New] compiles it; the proxy calls
// [Authenticator.Check] for each request, answers a denial or applies the edits
// of the [Result]: headers removed and set, query and cookies without the token,
// and the claims that authz reads.
//
// Keys are inline or fetched in the background by a [KeyStore], which
// authenticators share, so that they survive a change of configuration. Fetching
// keeps the last good keys; a request waits only for the first ones, or for one
// early fetch when its key id is new.
//
// Concurrency: an Authenticator and a KeyStore are safe for concurrent use; a
// Result belongs to one request and is reused. Allocation: a request without a
// token, and one whose token is in the cache, allocate nothing once the Result's
// slices have grown.
//
// A key fixes its algorithms by its type; "none" does not exist here, and HMAC
// keys count only when they are inline. Signatures are checked by jwx.
package jwt
