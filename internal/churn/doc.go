// Package churn proves that a waypoint loses no request while everything around
// it changes.
//
// Its test runs mixed HTTP/1.1, HTTP/2 and gRPC load through real TLS tunnels,
// while pods come, go gracefully, die by RST and by silence, node proxies leave,
// connections are cut, certificates and roots rotate, and the configuration is
// replaced ten times a second. Apps note the id of every request as soon as they have its head, and
// the clients' failures are held against these notes.
//
// # What is held against the waypoint
//
// A POST that arrives twice; a GET that fails before its answer has begun, since
// its route retries resets; a failure with an id that no app noted; and a failure
// while the pod that the request went to kept its connections. There is no
// allowance: one of them fails the test. What is left are requests that died with
// their pod, which an app had noted or half answered.
//
// # What a pod has seen
//
// A request that lies unread in the socket of a dying pod looks to its sender like
// one that an app is working on, so no proxy could tell the two apart. Here no pod
// dies with unread bytes. The test has both ends of each connection between
// waypoint and pod, and a mutex joins them: the waypoint's end holds it while the
// kernel takes bytes, a pod's death from before the last read until behind the RST.
// So a pod first reads every byte that was handed over, and a write behind that
// fails whole, as a write does that meets the RST. The inside of the pod outlives
// its connections: what its node proxy has read still reaches the app, which notes
// it, and whose answers go nowhere. A pod that falls silent goes on noting what it
// hears, so silence hides nothing either. The clients' node proxy loses nothing of an
// answer that had come to it.
//
// TestUnsentIsUnseen holds this to account: of pods that die under load, the apps
// have noted exactly the requests that the tunnels do not call unsent.
//
// # Two fleets
//
// Of the six pods of one, two may be away at a time. Its POSTs have the default
// policy, which makes three tries, each on another host; a third dead one would use
// them up rightly. So no third pod goes before every request has ended that may have
// met the first two, however slow the machine. Of the six pods of the other, all but
// one may be away, and mostly are; its routes say to try for longer.
//
// `make churn` runs it for a minute; the ordinary tests for a few seconds.
package churn
