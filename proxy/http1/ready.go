package http1

import "waypoint.dev/waypoint/proxy/codec"

var (
	_ codec.Readier = (*server)(nil)
	_ codec.Readier = (*client)(nil)
)

// Ready implements [codec.Readier].
func (x *server) Ready() bool { return x.body.done || x.in.ready() }

// Ready implements [codec.Readier].
func (x *client) Ready() bool { return x.body.done || x.in.ready() }

// ready reports whether a read brings something at once, as far as that can be
// told without a system call.
func (in *input) ready() bool {
	if in.buffered() > 0 || in.err != nil {
		return true
	}
	r, ok := in.c.(interface{ Readable() bool })
	return ok && r.Readable()
}
