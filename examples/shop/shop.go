// Package shop is the example that `waypoint demo` runs: a cart service in two
// versions behind a waypoint, with a route and two policies. The files beside
// it are ordinary Kubernetes manifests; Files holds them for the binary.
package shop

import "embed"

// Files are the manifests of the example.
//
//go:embed *.yaml
var Files embed.FS
