// Package objects is the proxy's end of the object feed: Kubernetes objects that
// the controller sends over delta ADS, one resource an object, become the same
// [kube.Objects] that files fill.
//
// Data flow: [xds.Client] hands responses to a [Feed], which decodes them and
// keeps them aside until the server says that the state is complete; Run then
// applies them all at once, builds a model and publishes it. What cannot be
// decoded is refused with the object and the field in the reason, and its last
// good version stays in force.
//
// Concurrency: Apply, Held and the readers may be called from any goroutine; Run
// owns the store of objects and the builder. Nothing here is on the request path.
// The wire's names stand here for both ends; nothing of client-go is linked.
package objects
