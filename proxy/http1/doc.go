// Package http1 is the HTTP/1 codec of the proxy: [ServerConn] answers requests
// that arrive on one connection, [ClientConn] sends requests on one. Both give
// out the interfaces of package codec.
//
// Data flow: bytes are read into one pooled buffer per connection; the parser
// validates them, lower-cases names in place and fills a head with unsafe views;
// bodies go from the connection to the caller's slice; the serializer appends a
// head to a pooled buffer and writes it with the small body that follows.
//
// Strictness: what RFC 9112 lets a recipient repair, this package refuses, since
// two readers that repair differently are a request smuggled. Every refusal is
// a [ProtocolError] with the status to answer, and the connection then closes.
//
// Concurrency: one exchange at a time on a connection. Reading the message and
// writing its answer may happen on two goroutines; Abort, SetDraining and Close
// may be called from any. Next, Client and Release belong to the owner, while
// no other method runs.
//
// Allocation: none per request on a warm connection. A connection that waits
// for its next head with nothing buffered owns no buffer.
package http1
