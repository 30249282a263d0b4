// Package churn proves that a waypoint loses no request while everything around
// it changes.
//
// Its test runs mixed HTTP/1.1, HTTP/2 and gRPC load through real TLS tunnels,
// while pods come, go gracefully, die by RST and by silence, connections are cut,
// certificates and roots rotate, and the configuration is replaced ten times a
// second. Apps note the id of every request as soon as they have its head, and
// the clients' failures are held against these notes.
//
// `make churn` runs it for a minute; the ordinary tests for a few seconds.
package churn
