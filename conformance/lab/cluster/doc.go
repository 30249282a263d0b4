// Package cluster is what node components know of a cluster: which Service an address
// belongs to, what endpoints it has, which pod has an address, and through which waypoint
// traffic goes. It answers as istiod and ztunnel do of the same objects, and is written
// without the waypoint's own code: a lab must not share the mistakes of what it tests.
//
// Data flow: informers of the lab's client keep listers up to date; every question is
// answered from them at once, nothing is cached.
//
// Concurrency: a View is safe for concurrent use.
package cluster
