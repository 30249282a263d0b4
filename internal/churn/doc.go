// Package churn proves that a waypoint loses no request while everything around
// it changes.
//
// Its test runs mixed HTTP/1.1, HTTP/2 and gRPC load through real TLS tunnels,
// while pods come, go gracefully, die by RST and by silence, connections are cut,
// certificates and roots rotate, and the configuration is replaced ten times a
// second. Apps note the id of every request as soon as they have its head, and
// the clients' failures are held against these notes.
//
// A POST may arrive once at most, and a failed one must have arrived, with one
// exception that no proxy can avoid: its bytes were handed to the socket of a pod
// that lived, whose connections were reset before its app read them. Each of these
// is held against the waypoint's record: the pod it went to was reset between the
// request's begin and its end. They are counted and bounded, two a reset. A pod that
// falls silent goes on noting what it hears, so silence excuses nothing. A pod that
// is deleted in order loses nothing at all.
//
// At most two of six pods are away at a time: the default policy makes three tries,
// each on another host, and a third dead one would use them up rightly.
//
// `make churn` runs it for a minute; the ordinary tests for a few seconds.
package churn
