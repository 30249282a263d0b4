package ztunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"waypoint.dev/waypoint/conformance/lab/cluster"
	"waypoint.dev/waypoint/identity"
)

// serveInbound takes HBONE for the pod.
func (x *pod) serveInbound(ctx context.Context) error {
	ln, err := x.net.Listen(ctx, cluster.HBONE)
	if err != nil {
		return err
	}
	cfg := identity.ServerTLS(x.source)
	cfg.NextProtos = []string{"h2"}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Handler: http.HandlerFunc(x.inbound), TLSConfig: cfg, Protocols: protocols,
		ErrorLog:    slog.NewLogLogger(x.p.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	x.wg.Go(func() { _ = srv.ServeTLS(ln, "", "") })
	return nil
}

// inbound is one tunnel, answered as ztunnel answers: 400 for an address that is not the
// pod's, 503 where the application does not take the connection.
func (x *pod) inbound(w http.ResponseWriter, r *http.Request) {
	to, err := netip.ParseAddrPort(r.Host)
	if r.Method != http.MethodConnect || err != nil || to.Addr() != x.net.IP {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	peer, err := identity.PeerPrincipal(r.TLS)
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	x.mu.Lock()
	x.peers[peer.URI]++
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), dialLimit)
	defer cancel()
	up, err := x.net.Dial(ctx, to, mark)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer up.Close()
	app := up.(*net.TCPConn)
	stop := context.AfterFunc(r.Context(), func() { _ = app.Close() })
	defer stop()
	rc := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return
	}
	// This goroutine alone writes to w: nothing may once the handler has returned.
	go func() {
		if _, err := io.Copy(app, r.Body); err != nil {
			_ = app.SetLinger(0)
			_ = app.Close()
			return
		}
		_ = app.CloseWrite()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := app.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			if rc.Flush() != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the peer sees a reset, as it was one
		}
	}
}
