// Package watch follows every kind that the model reads at the API server, and
// hands their objects to sinks as trimmed JSON.
//
// Data flow: a [Watcher] reflects the built-in kinds at once, and each kind of a
// CustomResourceDefinition from when that is established until it goes. An object
// becomes an [Item]: its JSON without managed fields, without what the model does
// not read of core kinds, and with its status apart, so that a status that is
// written back is no change of configuration. A watch that expired is listed anew
// and the difference told; an API server that is away is asked again within
// seconds, and until then all that was seen stays.
//
// Memory: only the items stay, which sinks share. Pods, Services, Nodes and slices
// are read as protobuf and cut down before they are kept; the first list is
// streamed, so the whole of a large cluster is never in memory uncut.
//
// Concurrency: a sink is called by one goroutine a kind, for different kinds at
// the same time. Items are immutable.
package watch
