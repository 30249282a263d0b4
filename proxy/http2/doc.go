// Package http2 gives the proxy HTTP/2 on top of the engine in hbone/h2:
// [ServerConn] serves a codec.Server per stream, [ClientConn] opens a
// codec.Client per exchange.
//
// Data flow: the engine decodes a head and hands over the stream on a goroutine
// of its own; this package validates the head (RFC 9113 section 8), converts it
// to the form both codecs share, and passes bodies straight through.
//
// Concurrency: as package codec says, per exchange. Allocation: none per request
// of its own; exchanges are pooled.
package http2
