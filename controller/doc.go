// Package controller is the control plane of waypoints outside Istio's: it feeds
// them Kubernetes objects, runs them for Gateways of its class, and writes status.
//
// Data flow: one set of watches ([waypoint.dev/waypoint/controller/watch]) feeds
// three readers: the object feed that waypoints stream from (controller/feed, in
// every replica), and, in the replica that holds the Lease, the provisioner
// (controller/provision) and the status engine (controller/status). Waypoints prove
// themselves by a projected token (controller/token) and know the controller by a
// CA of its own (controller/pki).
//
// A restart, of this process or of the API server, drops no request: waypoints keep
// what they have and resume their stream where it was.
//
// Concurrency: [Run] owns all goroutines and returns when they have ended.
package controller
