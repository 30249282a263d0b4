// Package e2e holds the end-to-end tests of routes: manifests become a model, a
// waypoint in this process serves it, and requests travel through real TLS tunnels
// to applications that tell what they saw. For each request that a test makes,
// package proxy's Explain has to say what the data path then logs.
//
// It has no code of its own but tests, which use loopback addresses in 127.60.0.0/16.
package e2e
