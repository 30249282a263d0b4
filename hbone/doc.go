// Package hbone speaks HTTP CONNECT over HTTP/2 over mTLS, the tunnel of an
// Istio ambient mesh, in both directions.
//
// Data flow: [Server] accepts connections and calls its [Handler] once per
// CONNECT on a goroutine of that tunnel; [Pool] dials destinations and opens
// tunnels on pooled connections. A [Tunnel] and a [Plain] connection both are a
// [Conn], which is what the HTTP codecs run on.
//
// Identity: both sides prove a SPIFFE identity (package identity). When roots
// change, connections whose own or peer chain the newest bundle no longer
// vouches for drain: they take no new tunnels and end behind their last one.
//
// Draining: [Tunnel.Draining] is closed when the connection below goes away, for
// any reason (shutdown, age, changed roots, the peer's GOAWAY), so that the
// codec inside can end at a message boundary.
//
// Concurrency: Server and Pool are safe for concurrent use. Of a tunnel one
// goroutine may read while another writes; Close and Reset are safe from
// anywhere. Allocation: reading and writing a tunnel allocates nothing; opening
// one costs its stream, its goroutine and the Tunnel.
package hbone
