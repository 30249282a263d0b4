// Package load is an HBONE client that makes load and asks questions: it opens
// exactly as many connections and tunnels as it is told, sends raw HTTP/1.1 bytes,
// HTTP/2 requests or gRPC calls through them, and measures latency from the moment
// a request was meant to be sent.
//
// Data flow: [Open] makes the connections of a [Workload] and their tunnels, and
// [Session.Run] sends its requests over all of them and returns a [Result]. A
// [Crowd] is users who each come with a connection of their own. [Dial] and
// [Conn.Tunnel] are what both are made of, [Backend] is who answers.
//
// A Conn is safe for concurrent use, a tunnel belongs to one goroutine. The
// closed and open loops allocate only before they start, over HTTP/1.1.
package load
