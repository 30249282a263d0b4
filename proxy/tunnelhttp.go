package proxy

import (
	"errors"
	"strings"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/proxy/http2"
	"waypoint.dev/waypoint/telemetry"
)

// serveHTTP1 answers the requests of an HTTP/1 connection, one by one.
func (t *tunnel) serveHTTP1(c *config.Chain) {
	sc := t.startHTTP1(c)
	defer t.endHTTP1()
	for {
		srv, err := sc.Next()
		if err != nil {
			t.badHead(sc, err)
			return
		}
		if !t.watching {
			t.watchEnd()
		}
		if !t.exchange(srv) {
			return
		}
	}
}

// startHTTP1 has a frame of its own, which is gone while the tunnel idles.
//
//go:noinline
func (t *tunnel) startHTTP1(c *config.Chain) *http1.ServerConn {
	set := &c.Spec.Settings
	sc := http1.NewServerConn(t.in, http1.ServerOptions{
		MaxHead:     set.MaxHeadBytes,
		AllowHTTP10: set.AllowHTTP10,
		IdleTimeout: t.p.opts.IdleTimeout,
		HeadTimeout: t.p.opts.HeadTimeout,
		Sniffed:     t.first.bytes(),
	})
	t.first.release()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.h1 = sc
	if t.draining {
		sc.SetDraining()
	}
	return sc
}

// watchEnd looks out for the end of the client's side, from the first request on: an
// end that came with that is taken for a half close.
//
//go:noinline
func (t *tunnel) watchEnd() {
	t.watching = true
	if w, ok := t.in.(watched); ok {
		w.OnEnd(func() { t.p.workers.do((*endedTunnel)(t)) })
	}
}

// endedTunnel tells the request under way on an HTTP/1 connection that its client has
// closed: one that is gone cannot be told from one that only has no more to ask, so
// both are, as in Envoy (ConnectionImpl closes at the end of stream). Bytes behind an
// upgrade may end each way on their own.
type endedTunnel tunnel

func (e *endedTunnel) run() {
	t := (*tunnel)(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hijacked {
		return
	}
	for x := t.live; x != nil; x = x.next {
		if !x.answered.Load() { // who has all of it may close before we are through
			x.clientLeft()
		}
	}
}

func (t *tunnel) endHTTP1() {
	t.linger()
	t.mu.Lock()
	sc := t.h1
	t.mu.Unlock()
	sc.Close()
}

// linger ends an HTTP/1 connection behind its last response: what the client
// still sends is read away for a while, so that it sees the response and not a
// reset. It returns at once when the client has ended its side, or nothing works
// any more.
func (t *tunnel) linger() {
	t.mu.Lock()
	raw := t.hijacked
	t.mu.Unlock()
	if raw || t.in.CloseWrite() != nil || t.in.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	b := buf.Take(buf.MinPooled)
	defer b.Release()
	for left := lingerBytes; left > 0; {
		n, err := t.in.Read(b.B)
		if err != nil {
			return
		}
		left -= n
	}
}

// badHead answers a head that could not be read.
//
//go:noinline
func (t *tunnel) badHead(sc *http1.ServerConn, err error) {
	var pe *http1.ProtocolError
	if !errors.As(err, &pe) {
		return
	}
	r := &telemetry.Record{}
	r.Reset()
	t.base(r)
	r.Version, r.Code, r.Flags = "HTTP/1.1", pe.Status, telemetry.FlagDPE
	r.Details = malformedDetails(pe)
	if c := t.p.opts.Store.Load().Lookup(t.conn.Dest, t.conn.DestHost, t.conn.DestPort); c != nil {
		r.Service, r.Plan = t.serviceOf(c), planOf(c)
	}
	t.p.opts.Telemetry.Begin()
	_ = sc.WriteError(pe.Status, malformedBody(pe.Status),
		attrs.Field{Name: "date", Value: t.p.dates.at(r.Start)}, attrs.Field{Name: "server", Value: serverName})
	r.Duration = time.Since(r.Start)
	t.p.opts.Telemetry.Done(r)
}

func malformedDetails(pe *http1.ProtocolError) string {
	return "http1." + strings.ReplaceAll(pe.Reason, " ", "_")
}

// malformedBody is what Envoy's codec says, the reason being in the log only.
func malformedBody(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 426:
		return "Upgrade Required"
	case 431:
		return "Request Header Fields Too Large"
	case 501:
		return "Not Implemented"
	}
	return ""
}

// serveHTTP2 serves an HTTP/2 connection, each stream on a goroutine of its own.
//
//go:noinline
func (t *tunnel) serveHTTP2() {
	nc := newNetConn(t.in, append([]byte(nil), t.first.bytes()...))
	t.first.release()
	sc := http2.NewServerConn(nc, t.p.opts.H2, func(srv codec.Server) { t.exchange(srv) })
	t.mu.Lock()
	t.h2 = sc
	if t.draining {
		sc.SetDraining()
	}
	t.mu.Unlock()
	_ = sc.Serve()
	_ = t.in.CloseWrite() // behind the GOAWAY comes an end, not a reset
	_ = t.in.Close()
	// The connection's end has failed the streams that were left; their exchanges
	// are the tunnel's to the last.
	t.mu.Lock()
	t.ended = make(chan struct{})
	if t.live == nil {
		close(t.ended)
	}
	t.mu.Unlock()
	<-t.ended
}
