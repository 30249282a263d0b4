// Package stages makes what the steps of a request pipeline run: token
// verification, external authorization and local rate limits.
//
// Data flow: [Stages.Compile] is the Stage hook of config.Env. It takes the plain
// settings that sources put into config.Stage.Spec and returns what package proxy
// calls for each request:
//
//	StageJWT        *jwt.Config                              a proxy.TokenVerifier
//	StageCustom     *extauthz.Config, []*extauthz.Config     a proxy.ExtAuthorizer
//	StageRateLimit  *resilience.RateLimit                    a proxy.RateLimiter
//
// Key sets are fetched by one jwt.KeyStore, and destinations that name equal
// providers share one client. Key servers and providers that are backends of the
// snapshot are reached as any other backend, in the mesh through HBONE with the
// waypoint's identity; all others directly.
//
// Concurrency: Compile is called by one goroutine at a time, the results by any
// number. [Stages.Watch] closes what no snapshot uses any more, behind its
// successors; a request that still holds an old chain is served by it.
// Allocation: verifying a request without a token, or with one in the cache, and
// rate limits allocate nothing; a check by an external authorizer does.
package stages
