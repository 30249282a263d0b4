// Package view renders what a waypoint serves for people and tools: the
// configuration dump, backends with the state of their endpoints, certificates.
//
// Data flow: the administration port calls one function, which reads a
// snapshot and returns a plain value to marshal. Keys, tokens and policy secrets
// never enter these values. Nothing here is on the data path, so it may allocate;
// every function is safe for concurrent use.
package view
