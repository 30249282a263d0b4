// Package spiffeapi takes the workload's identity from a SPIFFE Workload API
// socket, as SPIRE's agent offers it.
//
// Data flow: one stream to the socket, kept up by go-spiffe; each update becomes
// an SVID and a trust bundle in an identity.Store. While the socket is away the
// last values stay in use, and the stream is opened again with a backoff.
//
// Concurrency: a [Source] owns one goroutine until Close; reads are safe from
// anywhere. Keys never leave memory.
package spiffeapi
