// Package attrs holds the borrowed view of a request that every policy reads.
//
// Data flow: the proxy fills one [Conn] per tunnel and one [Request] per
// exchange; routing, authz and resilience read them and never write.
//
// Ownership: every string in these types borrows a pooled buffer (it may be an
// unsafe view of bytes) and is valid until the exchange is released. Whoever
// keeps one longer clones it with strings.Clone.
//
// Concurrency: one goroutine owns a Request at a time; a Conn is read-only once
// its tunnel is accepted. Allocation: none of the methods allocates.
//
// This is a leaf: it imports the standard library only.
package attrs
