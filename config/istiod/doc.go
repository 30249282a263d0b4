// Package istiod turns what istiod sends to a waypoint into a config.Model:
// Envoy's Listener, Cluster, ClusterLoadAssignment, TypedExtensionConfig and
// Secret, and istio.workload.Workload.
//
// Data flow: the xDS client hands resources to [World.Apply] as the serialized
// messages they arrived as; [World.Model] gives the model that config.Compile
// takes. [World.Wanted] names what the client has to subscribe to.
//
//	connect_terminate   limits of the tunnel server, policies of every tunnel
//	main_internal       matcher tree: addresses, ports, authorities -> filter chains
//	  filter chain      HCM: stages, routes, settings; TCP: policies, tcp_proxy
//	Cluster + EDS       config.Backend and its endpoints
//	Workload            identities of endpoints, workload destinations
//
// Incremental: istiod sends every cluster and the whole of main_internal again on
// any change. A filter chain is translated only if its bytes, or an extension it
// names, changed; a cluster likewise; an endpoint set when its assignment or a
// workload behind it changed. Whatever came out equal keeps its pointer, which is
// what config.Compile compares.
//
// Errors: Apply refuses only what cannot be decoded. A chain with a filter, a
// matcher or an option that decides about security and is not known here is
// taken with config.Destination.Broken set: it answers 503 and names the filter.
// A route rule that cannot be expressed is Broken alone. What does less than it
// says without opening anything is a config.Problem with the reason
// [ReasonNotImplemented].
//
// Concurrency: a World is owned by one goroutine; the models it returned are
// immutable and may be read by others.
package istiod
