// Package pki makes the certificate by which waypoints know the controller.
//
// Data flow: an [Authority] reads a self-signed CA from a Secret, or makes it if
// there is none, and signs a short-lived server certificate from it; every replica
// does so from the same Secret. [Files] serves a certificate that is mounted
// instead, from cert-manager for one. Both tell what roots waypoints must trust,
// which the provisioner writes beside each waypoint.
//
// Rotation: a CA's successor is published as a root well before it signs, so no
// waypoint meets a certificate that it cannot verify. The key never leaves the
// Secret but for the controller's memory.
//
// Concurrency: everything may be called from any goroutine.
package pki
