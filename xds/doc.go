// Package xds is the delta ADS client that both network sources of configuration
// use: istiod, and our own controller.
//
// Data flow: [Client.Run] keeps one stream to the server, subscribes to the
// configured types in their order, hands every response to the [Handler], and
// acknowledges it, or refuses it with the handler's reason. A broken stream is
// opened again with a jittered backoff; what was received stays in force
// meanwhile, for as long as it takes.
//
// Concurrency: Run's goroutine calls the handler, one call at a time. Subscribe
// may be called from any goroutine, the handler's included. Nothing here is on
// the request path.
package xds
