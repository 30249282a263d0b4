// Package hbone speaks HTTP CONNECT over HTTP/2 over mTLS, the tunnel of an
// Istio ambient mesh, in both directions.
//
// Data flow: [Server] accepts connections and calls its [Handler] once per
// CONNECT on a goroutine of that tunnel; [Pool] dials destinations and opens
// tunnels on pooled connections.
package hbone
