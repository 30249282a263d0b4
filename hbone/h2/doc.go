// Package h2 is one HTTP/2 connection engine for both roles, built on the
// framer and the HPACK decoder of golang.org/x/net/http2 (not on its Server or
// Transport).
//
// It carries HBONE tunnels (CONNECT over mTLS, package hbone) and the HTTP/2
// spoken inside them (package proxy/http2).
//
// # Data flow
//
// [Conn.Serve] runs the only reader of a connection. It hands a received head or
// DATA payload straight to its [Stream]; a stream that the peer opened gets one
// goroutine, which runs the [Handler]. Writers append frames to the connection's
// buffer under one mutex, and a writer that finds no flush under way flushes
// what it and the others left there. There is no writer goroutine and no timer
// in the write path.
//
// # Backpressure
//
// WINDOW_UPDATE is sent for bytes that the application consumed (a Read
// returned, or the Write below WriteTo did), so a slow consumer stops its sender
// end to end. Windows start small and double while the consumer keeps up.
//
// # Ownership
//
// DATA lies in pooled chunks that exist only while they hold bytes: an idle
// stream holds none, and an idle connection no write buffer. What WriteTo lends
// is valid until that Write returns. A Head is valid until its stream is
// released; its strings are ordinary Go strings.
//
// # Concurrency
//
// All methods of Conn are safe for concurrent use. Of a Stream one goroutine may
// read while another writes; Close, Reset, the deadlines and the counters are
// safe from anywhere. A call that finds the network stalled may block in it
// longer than a deadline says, but no longer than 1.5 times KeepaliveTimeout:
// then the connection is closed.
//
// # Allocation
//
// Exchanging DATA on an open stream allocates nothing. Opening a stream costs
// its Stream, its goroutine and the strings and fields of its head.
//
// # TLS
//
// Set tls.Config.DynamicRecordSizingDisabled, since the engine already gathers
// its writes, and put a [Cork] below the tls.Conn, so that a large flush is one
// write to the kernel and not one a record.
package h2
