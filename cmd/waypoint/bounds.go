package main

import (
	"github.com/spf13/pflag"

	"waypoint.dev/waypoint/resilience"
)

// bounds are what the process takes on at once. Over them work is refused at the
// door, with a counted 503, rather than given up in the middle.
type bounds struct {
	conns                             int
	tunnels, requests, pending, bytes int64
}

func (b *bounds) register(fs *pflag.FlagSet) {
	fs.IntVar(&b.conns, "max-connections", 10000, "HBONE connections at once; more are closed, and counted")
	fs.Int64Var(&b.tunnels, "max-tunnels", 100000, "tunnels at once; more are answered 503; 0: unlimited")
	fs.Int64Var(&b.requests, "max-requests", 100000, "requests at once; more are answered 503; 0: unlimited")
	fs.Int64Var(&b.pending, "max-pending-requests", 10000, "requests that wait for a connection to their backend; more are answered 503; 0: unlimited")
	fs.Int64Var(&b.bytes, "max-buffered-bytes", 64<<20, "request bodies held for external authorizers; more are answered 503; 0: unlimited")
}

func (b *bounds) apply(o *resilience.Overload) {
	o.SetLimit(resilience.Streams, b.tunnels)
	o.SetLimit(resilience.Requests, b.requests)
	o.SetLimit(resilience.Pending, b.pending)
	o.SetLimit(resilience.Bytes, b.bytes)
}
