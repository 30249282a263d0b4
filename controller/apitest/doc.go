// Package apitest is a Kubernetes API server for tests: it keeps objects in memory
// and speaks enough of the API over HTTP for client-go's real clients, down to
// watches that stream their first list, expire with 410 and break with a restart.
//
// Data flow: a request names a resource, a namespace and a name; a write gives the
// object the next resourceVersion and tells the watches. Server-side apply merges
// maps and replaces lists, which is what it does to lists that are atomic; it
// refuses an apply whose resourceVersion or uid is not the object's, and takes fields
// away that nobody applies any more. All that was asked is kept, as rights
// are named.
//
// Concurrency: one lock; safe for concurrent use. Only tests use it.
package apitest
