// Package kube turns Kubernetes objects into a [config.Model]: Gateway API routes,
// Istio security and traffic policies, services, endpoints and workloads.
//
// Data flow: a source (a directory here, the controller elsewhere) decodes
// manifests into an [Objects] store. Core kinds are read leniently, as clients of
// the API server read them; policies and routes strictly, with the API server's
// defaults and validation, so that a file is judged as the API server would judge
// it. A [Builder] decides what one waypoint serves, attaches and merges routes and
// policies and returns a Model that shares every unchanged Destination and Backend
// with the one before. [Watch] does all of it whenever a file changes. For a feed
// that sends objects, [LinksOf] tells which of them a waypoint needs, and [Trim]
// makes them small.
//
// A build is kept, as tables of the objects and units computed from them. Changes of
// services, endpoints, workloads, routes, policies and DestinationRules spoil the units
// that they touch, which alone are computed again; a unit notes which services it
// looked for, also in vain. A namespace that means something else to what is in it, a
// Gateway or the mesh configuration acts everywhere and builds anew. Both give the same.
//
// Nothing fails as a whole: an object that cannot be read keeps its last good
// version, a security policy without one denies its targets, a broken route rule
// answers 500 for its own matches. Each is a [config.Problem].
//
// Concurrency: Objects and Builder belong to one goroutine; the Model is
// immutable. None of this runs while requests are served, so it may allocate.
package kube
