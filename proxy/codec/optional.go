package codec

// Optional methods of a [Server] or [Client]. The pipeline asks for them once per
// exchange and works without them.

// Readier tells without blocking whether Read would return at once: data, an
// end or an error is already here. The pipeline writes a head and the body that
// came with it in one go, and sends a small request body without a second
// goroutine.
type Readier interface {
	Ready() bool
}

// Watcher is a Server that says when its client gave the exchange up: the stream
// was reset, or the connection below it ended. A half close is not that. f runs
// on the connection's reader and must not block; OnGone(nil) stops it, and after
// it returned f neither runs nor starts.
//
// Without it a request that waits for its backend learns that its client left
// only when it next writes.
type Watcher interface {
	OnGone(f func())
}
