package hbone

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

// stdServer is golang.org/x/net/http2's Server as a destination.
func (m *mesh) stdServer(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	ln, addr := listen(t)
	srv := &http2.Server{MaxConcurrentStreams: 200}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[nc] = true
			mu.Unlock()
			wg.Go(func() {
				defer nc.Close()
				if tc := tlsServer(nc, m.server); tc.Handshake() == nil {
					srv.ServeConn(tc, &http2.ServeConnOpts{Handler: h})
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for nc := range conns {
			nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return addr
}

type flushWriter struct{ w http.ResponseWriter }

func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.w.(http.Flusher).Flush()
	return n, err
}

// exchange sends n random bytes through an echo both ways at once.
func exchange(t *testing.T, w io.Writer, closeWrite func() error, r io.Reader, seed uint64, n int) {
	t.Helper()
	want := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rnd.Read(want)
	sent := make(chan error, 1)
	go func() {
		_, err := w.Write(want)
		if err == nil {
			err = closeWrite()
		}
		sent <- err
	}()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d, equal %v, %v", len(got), n, bytes.Equal(got, want), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestInteropServer(t *testing.T) {
	m := newMesh(t)
	addr := m.stdServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodConnect:
			w.WriteHeader(http.StatusBadRequest)
		case r.Host == "deny:1":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("baggage", r.Header.Get("baggage"))
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			_, _ = io.Copy(flushWriter{w}, r.Body)
		}
	})
	p := m.pool(t, PoolConfig{})
	if _, err := p.Dial(ctxT(t), Target{Addr: addr, Authority: "deny:1"}, nil); stageOf(t, err).Status != http.StatusUnauthorized {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			tun, err := p.Dial(ctxT(t), target(addr), []attrs.Field{{Name: "baggage", Value: "k=v"}})
			if err != nil {
				t.Error(err)
				return
			}
			defer tun.Close()
			if tun.Header("baggage") != "k=v" {
				t.Errorf("baggage of the answer: %q", tun.Header("baggage"))
			}
			exchange(t, tun, tun.CloseWrite, tun, uint64(i), 256<<10)
		})
	}
	wg.Wait()
	if st := p.Stats(); st.Tunnels != 0 || st.DialErrors != 0 {
		t.Errorf("%+v", st)
	}
}

func TestInteropTransport(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, echo)
	tr := &http2.Transport{DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
		nc, err := dialTCP(ctx, addr)
		if err != nil {
			return nil, err
		}
		tc := tls.Client(nc, identity.ClientTLS(m.client, []string{serverURI}))
		return tc, tc.HandshakeContext(ctx)
	}}
	defer tr.CloseIdleConnections()
	connect := func(authority string) (*http.Response, *io.PipeWriter, error) {
		pr, pw := io.Pipe()
		resp, err := tr.RoundTrip((&http.Request{
			Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: authority}, Host: authority, Header: http.Header{}, Body: pr,
		}).WithContext(ctxT(t)))
		return resp, pw, err
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			resp, pw, err := connect("10.0.0.1:80")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("status %d", resp.StatusCode)
			}
			exchange(t, pw, pw.Close, resp.Body, uint64(i), 256<<10)
		})
	}
	wg.Wait()
	// A request that is no CONNECT never reaches the handler.
	resp, err := tr.RoundTrip((&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "10.0.0.1:80", Path: "/"}, Header: http.Header{}}).WithContext(ctxT(t)))
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("GET: %d", resp.StatusCode)
		}
	} else if se := (http2.StreamError{}); !errors.As(err, &se) {
		t.Errorf("GET: %v", err)
	}
	if resp, pw, err := connect("127.1:80"); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("malformed authority: %v, %v", resp, err)
	} else {
		pw.Close()
		resp.Body.Close()
	}
	if st := s.Stats(); st.Tunnels < 100 || st.Panics != 0 {
		t.Errorf("%+v", st)
	}
}
