// Package grpcweb translates between gRPC-Web clients and gRPC backends, as
// Envoy's envoy.filters.http.grpc_web does.
//
// Data flow: the pipeline asks [Is] about a request's content type, wraps its
// codec.Server in a [Server] and goes on as if the request were gRPC. The body of
// a -text request is decoded from base64 as it is read. A gRPC response is passed
// on as it comes; its trailers become a last frame of the body, and for clients
// that accept text all of it is base64. A response that is no gRPC becomes one
// without messages: its status mapped to grpc-status, its body (up to
// [MaxMessage] bytes) the grpc-message.
//
// A Server is for one exchange, with the concurrency of the codec.Server in it:
// one goroutine reads, one writes. No message is held back: base64 keeps at most
// two bytes of an unfinished one. Apart from pooled buffers nothing is allocated
// but for responses that are no gRPC.
package grpcweb
