// Package balance picks endpoints. It is pure: no I/O, no clock of its own.
//
// Data flow: config builds a [Set] from the endpoints of a service and a
// [Policy]; [Set.Pick] chooses one for a request; the proxy counts the request
// on the endpoint's [Host] while it lasts.
//
// A Set is immutable; Host is shared by successive Sets under the same key and
// safe for concurrent use. Pick does not allocate.
package balance
