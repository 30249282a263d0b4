// Package feed serves Kubernetes objects to waypoints over delta ADS, one resource
// an object: the first half of the second transport into config/kube.
//
// Data flow: watches put objects into a [Store] as JSON; a [Server] keeps for each
// waypoint the set of objects that concern it, by an index of what refers to what,
// and sends each of its streams what changed of that set. What a waypoint may see
// is decided here: a caller proves its service account, and gets what config/kube
// needs to serve the Gateway of that account, never a Secret.
//
// Memory: each object is held once, as it is sent, whatever the number of waypoints;
// a waypoint costs its set, some 100 bytes an object, shared by its replicas; a stream
// has one response of about 1 MB in flight and the names of what changed since.
// Streams are bounded in number and age. [Server.Stats] and the metrics report all of
// it.
//
// Concurrency: everything may be called from any goroutine. One lock guards the
// store with its index; work under it is in proportion to what a change touches,
// not to what there is.
package feed
