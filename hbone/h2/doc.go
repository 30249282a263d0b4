// Package h2 is one HTTP/2 connection engine for both roles, built on the
// framer and hpack of golang.org/x/net/http2 (not on its Server or Transport).
//
// It carries HBONE tunnels (CONNECT over mTLS, package hbone) and the HTTP/2
// spoken inside them (package proxy/http2).
//
// Data flow: [Conn.Serve] runs the only reader; it hands a received head or
// DATA chunk straight to its [Stream], which is read by the goroutine that owns
// the stream. Writers append frames to the connection's buffer under one mutex
// and the last writer flushes.
package h2
