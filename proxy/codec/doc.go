// Package codec is what the pipeline sees of HTTP on either side: a [Server]
// is one request being answered to the client, a [Client] one request being
// sent to a backend. proxy/http1 and proxy/http2 implement both.
//
// Data flow: the pipeline reads a [RequestHead] from a Server, writes it to a
// Client, copies bodies both ways and writes the [ResponseHead] back.
//
// Ownership: heads and their strings are borrowed from the connection's buffer
// until the next head is read from it or the exchange ends. Concurrency: the
// request direction (Read of a Server, writes of a Client) and the response
// direction (writes of a Server, ReadHead and Read of a Client) may run on two
// goroutines. No method allocates for ordinary heads.
package codec
