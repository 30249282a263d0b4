// Package testmesh is a whole small ambient mesh in one process: applications
// that record what they saw, node proxies that speak HBONE as ztunnel does, and
// a CA. The demo and the end-to-end tests run the real waypoint between them.
//
// Data flow: a [Capture] accepts plain connections of one client and tunnels
// them to the waypoint under the client's identity; the waypoint tunnels to a
// [Node], which delivers to an [App].
//
// Every type is safe for concurrent use and stops everything it started in
// Close. It is for loopback only.
package testmesh
