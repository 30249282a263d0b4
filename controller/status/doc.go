// Package status writes what became of routes and policies into their status.
//
// Data flow: an [Engine] follows, for each Gateway of ours, the objects that its
// waypoint gets (controller/feed), makes the build that the waypoint makes of them
// (config/kube), and takes the conditions from that: what a status says is what the
// proxy does. A change is judged by the Gateways that it concerns, which find by a
// comparison with their last build of which objects they now say something else. What
// all Gateways say of such an object is merged, compared with the status that stands,
// and written where it differs.
//
// Writing: statuses are applied server-side, as one field manager. The entries of
// several controllers share lists that the API declares atomic (status.parents of
// routes, status.ancestors of policies, the conditions of Istio's policies): an
// apply replaces such a list as a whole. So the whole list is applied, with the
// entries of others as they stood at the resourceVersion that goes with it; if
// anyone has written since, the API server refuses, and the list is read and
// merged again. Writes are limited in rate, and none is made that changes nothing.
//
// Memory: a decoded object is shared by all Gateways that it concerns; each of these
// has the tables of its build.
//
// Concurrency: events may come from any goroutine; one goroutine builds, a few
// write. Run is for the elected replica; between runs the engine goes on listening.
package status
