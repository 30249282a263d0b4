// Package balance picks endpoints. It does no I/O; its only clock is the age of
// endpoints that warm up.
//
// Data flow: config ranks the endpoints of a service ([Prioritize]) and builds a
// [Set] from them and a [Policy]; [HashKey] finds a request's place on a ring;
// [Set.Pick] chooses an endpoint for a try; the proxy counts the request on the
// endpoint's [Host] while it lasts, and outlier detection ejects hosts.
//
// Concurrency: a Set is immutable but for the internal view of who is available,
// which the first pick after an ejection rebuilds in O(n) while others go on. Host
// is shared by successive Sets under the same key and safe for concurrent use.
// Weighted round robin and least request take a short lock for O(log n) steps;
// all other kinds pick without one in O(1), ring hash in O(log n).
//
// Allocation: Pick and HashKey do not allocate.
package balance
