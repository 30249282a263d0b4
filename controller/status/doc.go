// Package status writes what became of routes and policies into their status.
//
// Data flow: an [Engine] is fed the same objects as waypoints, builds for each
// Gateway of ours what its waypoint builds (package config/kube), and takes the
// conditions from that: what a status says is what the proxy does. Entries of all
// Gateways are merged by object, compared with the status that stands, and written
// where they differ.
//
// Writing: statuses are applied server-side, as one field manager. The entries of
// several controllers share lists that the API declares atomic (status.parents of
// routes, status.ancestors of policies, the conditions of Istio's policies): an
// apply replaces such a list as a whole. So the whole list is applied, with the
// entries of others as they stood at the resourceVersion that goes with it; if
// anyone has written since, the API server refuses, and the list is read and
// merged again. Writes are limited in rate, and none is made that changes nothing.
//
// Concurrency: events may come from any goroutine; one goroutine builds, a few
// write. Run is for the elected replica; between runs the engine goes on listening.
package status
