// Package admin serves the ports around the data path: 15000 (administration,
// loopback only), 15020 (metrics and agent paths), 15021 (readiness), 15090
// (metrics, where Envoy has them).
//
// Data flow: cmd/waypoint hands over functions ([Options]); each handler calls
// one and writes text or JSON. Nothing here reads the data path's own state.
//
// Concurrency: handlers run on net/http's goroutines; the functions handed over
// must be safe for concurrent use. No secret leaves here: dumps come redacted.
package admin
