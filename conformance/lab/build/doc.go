// Package build makes the binaries that a lab runs and keeps them: the control plane, the
// echo application of the conformance suite, and the waypoint with its controller.
//
// The first two take minutes of CPU and change only with their modules, so they are kept
// under a hash of those modules' files; the waypoint is left to Go's own build cache. All
// are static: containers have no C library.
package build
