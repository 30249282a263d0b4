package proxy

import (
	"errors"
	"io"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/telemetry"
)

func (t *tunnel) runTLS(c *config.Chain) {
	sn, err := t.sniff(false)
	if err != nil && err != errSilent {
		sn.release()
		return
	}
	t.conn.SNI = sn.sni
	t.serveTCP(c, sn, false)
}

// runHTTP serves what is declared HTTP or not declared at all. An idle tunnel
// waits below it, see serve.
func (t *tunnel) runHTTP(c *config.Chain) {
	auto := c.Spec.Protocol == config.ProtocolAuto
	if (!auto || c.HTTPOnly) && !t.await() {
		_ = t.in.CloseWrite() // an end, not a reset; of a tunnel that was reset it does nothing
		return
	}
	switch t.identify(c, auto) {
	case protoHTTP1:
		t.serveHTTP1(c)
	case protoHTTP2:
		t.serveHTTP2()
	}
}

// await waits for a tunnel's first byte, with as little on the stack as can be:
// most tunnels spend most of their life here or waiting for a next request. It
// reports whether there is something to read, or the way to learn is to read.
//
//go:noinline
func (t *tunnel) await() bool {
	w, ok := t.in.(interface{ WaitReadable() error })
	return !ok || t.awaited(t.startAwait() || w.WaitReadable() != nil)
}

// startAwait notes that nothing is decided yet. It reports a tunnel that is gone.
//
//go:noinline
func (t *tunnel) startAwait() (gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sniffing = true
	// Accepted while its connection drained: what it was opened for may come.
	return t.draining && t.in.SetReadDeadline(time.Now().Add(firstGrace)) != nil
}

// awaited looks at how the wait ended. A request that had arrived before the
// drain did is served.
//
//go:noinline
func (t *tunnel) awaited(failed bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sniffing = false
	if !failed {
		return true
	}
	r, ok := t.in.(interface{ Readable() bool })
	return t.draining && ok && r.Readable() && t.in.SetReadDeadline(time.Time{}) == nil
}

// identify finds out what the tunnel speaks and leaves its first bytes in t.first.
// What is no HTTP is served or closed here.
//
//go:noinline
func (t *tunnel) identify(c *config.Chain, auto bool) protocol {
	sn, err := t.sniff(!auto || c.HTTPOnly)
	if err != nil && err != errSilent {
		sn.release()
		_ = t.in.CloseWrite()
		return protoUnknown
	}
	t.first = sn
	switch {
	case sn.proto == protoHTTP2:
		return protoHTTP2
	case sn.proto == protoHTTP1, !auto:
		return protoHTTP1
	case c.HTTPOnly:
		t.closeNotHTTP(c, sn)
	default:
		t.conn.SNI = sn.sni
		t.serveTCP(c, sn, false)
	}
	return protoUnknown
}

// sniff reads the first bytes. A drain in the meantime ends it: the tunnel is idle.
func (t *tunnel) sniff(patient bool) (sniffed, error) {
	t.mu.Lock()
	if t.draining {
		// Accepted while its connection drained: what it was opened for may come.
		if err := t.in.SetReadDeadline(time.Now().Add(http1.DrainGrace)); err != nil {
			t.mu.Unlock()
			return sniffed{}, err
		}
	}
	t.sniffing = true
	t.mu.Unlock()
	sn, err := sniff(t.in, t.p.opts.DetectTimeout, patient)
	t.mu.Lock()
	t.sniffing = false
	drained := t.draining
	t.mu.Unlock()
	if drained && sn.n == 0 {
		r, ok := t.in.(interface{ Readable() bool })
		if !ok || !r.Readable() || t.in.SetReadDeadline(time.Time{}) != nil {
			return sn, io.EOF
		}
		// A request had arrived before the drain did: it is served.
		sn.release()
		return sniff(t.in, t.p.opts.DetectTimeout, patient)
	}
	if errors.Is(err, errSilent) && patient {
		return sn, io.EOF
	}
	return sn, err
}

func notHTTP(r *telemetry.Record) {
	r.Flags, r.Termination, r.Reason = telemetry.FlagDPE, "not_http_on_http_port", "not_http"
}

// closeNotHTTP ends a tunnel whose bytes would pass beside the policies and
// routes of the port.
//
//go:noinline
func (t *tunnel) closeNotHTTP(c *config.Chain, sn sniffed) {
	t.p.log.Info("connection closed: not HTTP on a port with HTTP policy", "peer", t.conn.Peer.URI, "destination", t.in.Authority(), "protocol", sn.proto.String())
	sn.release()
	t.recordTCP(c, notHTTP)
	t.in.Reset()
}
