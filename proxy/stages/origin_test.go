package stages_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/proxy/stages"
)

// proxied is a listener behind a load balancer: each connection has to begin with
// version 2 of the PROXY protocol.
type proxied struct {
	net.Listener
	headers *atomic.Int32 // that were read
}

func (l proxied) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &proxiedConn{Conn: c, br: bufio.NewReader(c), headers: l.headers}, nil
}

// proxiedConn reads the header when it is first read from.
type proxiedConn struct {
	net.Conn
	br      *bufio.Reader
	seen    bool
	headers *atomic.Int32
}

func (c *proxiedConn) Read(p []byte) (int, error) {
	if !c.seen {
		c.seen = true
		h := make([]byte, 16)
		if _, err := io.ReadFull(c.br, h); err != nil {
			return 0, err
		}
		if string(h[:12]) != "\r\n\r\n\x00\r\nQUIT\n" {
			return 0, fmt.Errorf("no PROXY header: %q", h)
		}
		if _, err := c.br.Discard(int(binary.BigEndian.Uint16(h[14:]))); err != nil {
			return 0, err
		}
		c.headers.Add(1)
	}
	return c.br.Read(p)
}

// serverCert is a certificate for example.com that is its own authority, and the
// file of it.
func serverCert(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.TLS.Certificates[0], file
}

// Authorizers are called as their backend's configuration says: TLS, behind a PROXY
// header, within the tunnel. What cannot be verified is not asked, and denies.
func TestAuthorizerWithTLS(t *testing.T) {
	cert, ca := serverCert(t)
	for _, http1 := range []bool{false, true} {
		t.Run(fmt.Sprint("http=", http1), func(t *testing.T) {
			m := newMesh(t)
			var headers atomic.Int32
			a, key := m.authorizerBehind(http1, func(ln net.Listener) net.Listener {
				protos := []string{"http/1.1"}
				if !http1 {
					protos = []string{"h2"}
				}
				return tls.NewListener(proxied{ln, &headers}, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos})
			})
			ask := func(u *config.UpstreamTLS, version uint8) int {
				b := *m.model.Backends[key]
				b.TLS, b.ProxyProto = u, version
				m.model.Backends[key] = &b
				c := provider(key, http1)
				// Settings of a provider that changed make a new connection.
				c.StatusOnError = 500 + len(u.SNI)
				m.serve(func(d *config.Destination) { d.Stages = []config.Stage{custom(t, c)} })
				return m.ask("GET", "/ok", nil).code
			}
			if code := ask(&config.UpstreamTLS{SNI: "example.com", SANs: []string{"example.com"}, CA: ca}, 2); code != 200 {
				t.Errorf("%d", code)
			}
			if p := a.peers(); headers.Load() == 0 || p[waypoint] == 0 {
				t.Errorf("%d PROXY headers, called by %v", headers.Load(), p)
			}
			if code := ask(&config.UpstreamTLS{SNI: "other.example", SANs: []string{"other.example"}, CA: ca}, 2); code != 500+len("other.example") {
				t.Errorf("a certificate of another name: %d", code)
			}
			if code := ask(&config.UpstreamTLS{SNI: "a", SANs: []string{"example.com"}, CA: filepath.Join(t.TempDir(), "none")}, 2); code != 501 {
				t.Errorf("a CA file that is not there: %d", code)
			}
		})
	}
}

// Keys are fetched over the TLS of the backend, also for an https URL, which does
// not put a second TLS into it.
func TestKeysOverTLS(t *testing.T) {
	cert, ca := serverCert(t)
	for _, scheme := range []string{"http", "https"} {
		m := newMesh(t)
		key := newSigner(t, "k")
		var headers atomic.Int32
		peers := m.keyServerBehind(func(ln net.Listener) net.Listener {
			return tls.NewListener(proxied{ln, &headers}, &tls.Config{Certificates: []tls.Certificate{cert}})
		}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, key.jwks()) })
		b := m.model.Backends["keys.sys.svc.cluster.local|8000"]
		b.TLS, b.ProxyProto = &config.UpstreamTLS{SNI: "example.com", SANs: []string{"example.com"}, CA: ca}, 2
		m.serve(func(d *config.Destination) {
			d.Stages = []config.Stage{tokens(jwt.Provider{JWKSURI: scheme + "://keys.sys:8000/keys"})}
		})
		if a := m.ask("GET", "/", nil, "Authorization", "Bearer "+key.token(nil)); a.code != 200 {
			t.Errorf("%s: %d %q", scheme, a.code, a.body)
		}
		if p := peers(); headers.Load() == 0 || p[waypoint] == 0 {
			t.Errorf("%s: %d PROXY headers, called by %v", scheme, headers.Load(), p)
		}
	}
}

// An https key server without settings of its own has to have a certificate of its
// name by a trusted authority, inside of the mesh as outside.
func TestKeysOverHTTPS(t *testing.T) {
	cert, ca := serverCert(t)
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	m := newMesh(t, func(o *stages.Options) {
		o.Roots = x509.NewCertPool()
		o.Roots.AppendCertsFromPEM(pem)
	})
	key := newSigner(t, "k")
	m.keyServerBehind(func(ln net.Listener) net.Listener {
		return tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
	}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, key.jwks()) })
	named := *m.model.Backends["keys.sys.svc.cluster.local|8000"]
	named.Key = "example.com|8000"
	m.model.Backends[named.Key] = &named
	for _, tt := range []struct {
		host string
		code int
	}{{"example.com", 200}, {"keys.sys", 401}} {
		m.serve(func(d *config.Destination) {
			d.Stages = []config.Stage{tokens(jwt.Provider{JWKSURI: "https://" + tt.host + ":8000/keys"})}
		})
		if a := m.ask("GET", "/", nil, "Authorization", "Bearer "+key.token(nil)); a.code != tt.code {
			t.Errorf("%s: %d %q", tt.host, a.code, a.body)
		}
	}
}
