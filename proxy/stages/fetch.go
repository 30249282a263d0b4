package stages

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"waypoint.dev/waypoint/proxy/originate"
)

const (
	maxRedirects  = 3
	maxKeyServers = 64       // kept connections in all
	maxHead       = 64 << 10 // bytes of a response head
)

// fetcher is the HTTP client that key sets are fetched with. What it may read is
// bounded by the key store, how long by the provider's timeout.
type fetcher struct{ client http.Client }

func newFetcher(m *mesh) *fetcher {
	dial := func(ctx context.Context, addr string) (net.Conn, string, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, "", err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, "", err
		}
		m.settle(ctx)
		c, err := m.dialHost(ctx, host, uint16(n), originate.HTTP(false))
		return c, host, err
	}
	return &fetcher{http.Client{
		CheckRedirect: redirects,
		Transport: &http.Transport{
			// No proxy from the environment: it is not the mesh's.
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				c, _, err := dial(ctx, addr)
				return c, err
			},
			DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				c, host, err := dial(ctx, addr)
				if err != nil {
					return nil, err
				}
				return secure(ctx, c, host, m.roots)
			},
			MaxIdleConns:           maxKeyServers,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second, // far below the interval of fetches
			MaxResponseHeaderBytes: maxHead,
		},
	}}
}

// secure makes the TLS that an https URL asks for. A backend whose configuration has
// TLS of its own is spoken to as that says: c is TLS already, to a peer that was
// verified by it.
func secure(ctx context.Context, c net.Conn, host string, roots *x509.CertPool) (net.Conn, error) {
	if _, done := c.(interface{ ConnectionState() tls.ConnectionState }); done {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	t := tls.Client(c, &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: originate.HTTP(false)})
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return t, nil
}

// redirects follows a few, never from https to http.
func redirects(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	switch last := via[len(via)-1].URL.Scheme; {
	case req.URL.Scheme != "http" && req.URL.Scheme != "https", last == "https" && req.URL.Scheme != "https":
		return fmt.Errorf("redirect from %s to %s", last, req.URL.Scheme)
	}
	return nil
}

// Do implements jwt.HTTPClient.
func (f *fetcher) Do(r *http.Request) (*http.Response, error) { return f.client.Do(r) }

func (f *fetcher) close() { f.client.CloseIdleConnections() }
