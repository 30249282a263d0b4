package ztunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/identity"
)

// pool keeps one HTTP/2 connection for each peer of a pod, as ztunnel does.
type pool struct {
	// Fixed after newPool.
	x *pod
	t *http2.Transport

	mu     sync.Mutex
	conns  map[route]*http2.ClientConn // guarded by mu; the key has no authority
	closed bool                        // guarded by mu
}

func newPool(x *pod) *pool {
	return &pool{x: x, t: &http2.Transport{}, conns: map[route]*http2.ClientConn{}}
}

// attempts is how often opening a tunnel is tried: a connection that its peer is draining
// takes no new stream, and nothing of the application's has been sent yet.
const attempts = 3

// tunnel carries an application's connection.
func (p *pool) tunnel(ctx context.Context, r route, app *net.TCPConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	for range attempts {
		var retry bool
		if retry, err = p.try(ctx, r, app); err == nil || !retry || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (p *pool) try(ctx context.Context, r route, app *net.TCPConn) (retry bool, err error) {
	cc, err := p.conn(ctx, r)
	if err != nil {
		return false, err
	}
	body, feed := io.Pipe()
	defer body.Close()
	req := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: r.authority}, Host: r.authority,
		Header: http.Header{"Forwarded": {`for="` + app.RemoteAddr().String() + `"`}},
		Body:   body, ContentLength: -1,
	}).WithContext(ctx)
	res, err := cc.RoundTrip(req)
	if err != nil {
		p.drop(r, cc)
		return true, fmt.Errorf("CONNECT %s by %v: %w", r.authority, r.to, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return false, fmt.Errorf("CONNECT %s by %v: %s", r.authority, r.to, res.Status)
	}
	// The application's bytes are read only now, so that a failed attempt has lost none.
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := io.Copy(feed, app)
		_ = feed.CloseWithError(err) // nil: the end of the stream
	}()
	_, err = io.Copy(app, res.Body)
	if err != nil {
		_ = app.SetLinger(0)
		_ = app.Close()
	} else {
		_ = app.CloseWrite()
	}
	<-done
	return false, nil
}

func key(r route) route { return route{to: r.to, want: r.want} }

// conn returns a connection that takes one more stream.
func (p *pool) conn(ctx context.Context, r route) (*http2.ClientConn, error) {
	p.mu.Lock()
	cc := p.conns[key(r)]
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	if cc != nil && cc.CanTakeNewRequest() {
		return cc, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	nc, err := p.x.net.Dial(ctx, r.to, mark)
	if err != nil {
		return nil, err
	}
	cfg := identity.ClientTLS(p.x.source, []string{r.want})
	cfg.NextProtos = []string{"h2"}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS with %v: %w", r.to, err)
	}
	cc, err = p.t.NewClientConn(tc)
	if err != nil {
		_ = tc.Close()
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = cc.Close()
		return nil, net.ErrClosed
	}
	// The one it replaces ends by itself with its last stream.
	p.conns[key(r)] = cc
	return cc, nil
}

// drop forgets a connection that failed.
func (p *pool) drop(r route, cc *http2.ClientConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[key(r)] == cc {
		delete(p.conns, key(r))
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, cc := range p.conns {
		_ = cc.Close()
	}
}

// splice copies both ways with half close.
func splice(a, b *net.TCPConn) {
	var wg sync.WaitGroup
	wg.Go(func() { pour(a, b) })
	pour(b, a)
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}

// pour copies src to dst and passes on its end: a FIN, or a reset.
func pour(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil && !errors.Is(err, net.ErrClosed) {
		for _, c := range []*net.TCPConn{dst, src} {
			_ = c.SetLinger(0)
			_ = c.Close()
		}
		return
	}
	_ = dst.CloseWrite()
}
