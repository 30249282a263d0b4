package stages

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
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
	return &fetcher{http.Client{
		CheckRedirect: redirects,
		Transport: &http.Transport{
			// No proxy from the environment: it is not the mesh's.
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				n, err := strconv.ParseUint(port, 10, 16)
				if err != nil {
					return nil, err
				}
				m.settle(ctx)
				return m.dialHost(ctx, host, uint16(n))
			},
			TLSHandshakeTimeout:    dialTimeout,
			MaxIdleConns:           maxKeyServers,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second, // far below the interval of fetches
			MaxResponseHeaderBytes: maxHead,
			ForceAttemptHTTP2:      true,
		},
	}}
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
