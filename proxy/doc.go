// Package proxy takes one request through the waypoint: from an accepted tunnel
// to the endpoint that answers it and back.
//
// Data flow, each arrow a function call: [Proxy.ServeTunnel] looks the CONNECT
// authority up, accepts or refuses -> the protocol is declared or sniffed -> the
// codec gives a request head, an exchange is taken from the pool -> sanitize and
// normalize -> the stages of the chain -> route -> attempts: pick an endpoint,
// take a pooled connection to it, write the head, copy the bodies both ways ->
// response edits -> one telemetry record -> the exchange goes back to the pool.
// What is not HTTP is copied as bytes (tcp.go); a WebSocket becomes such a copy
// behind its 101 (upgrade.go).
//
// The snapshot is loaded for the head and dropped once that is decided: an
// exchange keeps its route and target only, so a long stream holds no old world
// alive. When the snapshot changes, open connections, upgrades and streams that
// the new policies deny are cut.
//
// Concurrency: a goroutine per tunnel (the caller's), one more per open HTTP/2
// stream, and one from a pool of workers while a request body is being sent. A
// request without a body is served by the one goroutine that read its head. An
// HTTP/2 connection to an endpoint is dialed on a goroutine of its own, for all who
// wait for it.
//
// Allocation: none for a request without a body on warm connections. An idle
// tunnel keeps its goroutine and a small record, no buffer and no exchange.
package proxy
