// Package svc is kube-proxy for a lab: connections to cluster IPs that no node proxy took
// reach a ready endpoint. A redirect brings them to one listener of the node, which dials
// on; the endpoint sees the node's address.
//
// Concurrency: a Proxy has two goroutines a connection, which end with it.
package svc
