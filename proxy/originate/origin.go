package originate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
)

// Origin wraps connections to one backend. A nil Origin leaves them alone.
type Origin struct {
	// fixed after New
	spec  config.UpstreamTLS
	tls   bool
	proxy uint8
	host  string          // of the service: server name when the configuration has none
	own   identity.Source // what config.SecretOwn and SecretRoots stand for; nil: there is none

	backend string       // its key, for the log
	log     *slog.Logger // nil: none

	mu     sync.Mutex
	files  *material // guarded by mu: what was read last, nil before
	broken string    // guarded by mu: why they could not be read since
}

// Use is what one connection is for.
type Use struct {
	// Protocols to offer by ALPN; nil: those of the configuration.
	Protocols []string
	// Host is the server name where the configuration has none, of a backend whose
	// endpoints are named by requests. Empty: that of the service.
	Host string
	// Source and Dest are the ends of the client's connection. The zero value says
	// that the connection is for many clients: the header then names none.
	Source, Dest netip.AddrPort
}

// New returns what b asks for, nil if that is nothing. prev, which may be nil, is
// returned when nothing differs from it, so that pointers tell whether a
// connection is still made as configured. own is the waypoint's identity, which b
// may ask to show, and whose compliance policy holds here too; nil: it has none.
// log, which may be nil, hears of files that cannot be read.
func New(b *config.Backend, prev *Origin, own identity.Source, log *slog.Logger) *Origin {
	if b.TLS == nil && b.ProxyProto == 0 {
		return nil
	}
	o := &Origin{tls: b.TLS != nil, proxy: b.ProxyProto, host: b.Service.Host, own: own, backend: b.Key, log: log}
	if o.tls {
		o.spec = *b.TLS
	}
	if prev != nil && o.same(prev) {
		return prev
	}
	return o
}

func (o *Origin) same(p *Origin) bool {
	a, b := &o.spec, &p.spec
	return o.tls == p.tls && o.proxy == p.proxy && o.host == p.host && o.own == p.own &&
		maps.Equal(a.Secrets, b.Secrets) && slices.Equal(a.Curves, b.Curves) && slices.Equal(a.Ciphers, b.Ciphers) &&
		a.SNI == b.SNI && slices.Equal(a.SANs, b.SANs) && a.SkipVerify == b.SkipVerify && a.CRL == b.CRL &&
		a.CA == b.CA && a.Cert == b.Cert && a.Key == b.Key && slices.Equal(a.ALPN, b.ALPN) &&
		a.MinMinor == b.MinMinor && a.MaxMinor == b.MaxMinor
}

// Wrap sends the header and shakes hands on c, until ctx ends. It takes c over:
// on failure c is closed and the error is a *hbone.DialError.
func (o *Origin) Wrap(ctx context.Context, c hbone.Conn, use Use) (hbone.Conn, error) {
	if o == nil {
		return c, nil
	}
	out, err := o.wrap(ctx, c, use)
	if err == nil {
		return out, nil
	}
	c.Reset()
	_ = c.Close()
	de := &hbone.DialError{Stage: hbone.StageTLS, Err: err}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		de.Stage = hbone.StageCanceled
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		de.Stage = hbone.StageTimeout
	}
	return nil, de
}

func (o *Origin) wrap(ctx context.Context, c hbone.Conn, use Use) (hbone.Conn, error) {
	var conf *tls.Config
	if o.tls {
		// First, so that a backend does not hear of what cannot become a connection.
		var err error
		if conf, err = o.config(use.Protocols, use.Host); err != nil {
			return nil, err
		}
	}
	if limit, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(limit); err != nil {
			return nil, err
		}
	}
	if o.proxy != 0 {
		if _, err := c.Write(header(o.proxy, use.Source, use.Dest)); err != nil {
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
	out := c
	if conf != nil {
		t := tls.Client(&below{Conn: c}, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		out = &conn{Conn: t, under: c}
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return out, nil
}

// HTTP gives the protocols to offer for HTTP/2 or HTTP/1. A server that answers
// without ALPN gets the offered version all the same, as from Envoy.
func HTTP(multiplexed bool) []string {
	if multiplexed {
		return h2Only
	}
	return h1Only
}

var (
	h2Only = []string{"h2"}
	h1Only = []string{"http/1.1"}
)
