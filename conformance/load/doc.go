// Package load is an HBONE client that makes load and asks questions: it opens
// exactly as many connections and tunnels as it is told, sends raw HTTP/1.1
// bytes, HTTP/2 requests or gRPC calls through them, and measures latency from the moment a request was meant
// to be sent.
//
// Data flow: [Dial] makes connections under a client identity, [Conn.Tunnel] a
// tunnel, [Run] a workload over all of them, and returns a [Result].
//
// A Conn is safe for concurrent use, a tunnel belongs to one goroutine. The
// closed and open loops allocate only before they start, over HTTP/1.1.
package load
