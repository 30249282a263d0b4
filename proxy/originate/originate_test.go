package originate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHeader(t *testing.T) {
	four, six := netip.MustParseAddrPort("10.0.0.1:1234"), netip.MustParseAddrPort("[fd00::2]:80")
	dst := netip.MustParseAddrPort("10.0.0.2:80")
	tests := []struct {
		version  uint8
		src, dst netip.AddrPort
		want     string
	}{
		{1, four, dst, "PROXY TCP4 10.0.0.1 10.0.0.2 1234 80\r\n"},
		{1, four, six, "PROXY TCP6 ::ffff:10.0.0.1 fd00::2 1234 80\r\n"},
		{1, netip.AddrPort{}, dst, "PROXY UNKNOWN\r\n"},
		{2, netip.AddrPort{}, dst, unhex("0d0a0d0a000d0a515549540a20000000")},
		{2, four, dst, unhex("0d0a0d0a000d0a515549540a2111000c0a0000010a00000204d20050")},
		{2, four, six, unhex("0d0a0d0a000d0a515549540a21210024" + "00000000000000000000ffff0a000001" + "fd000000000000000000000000000002" + "04d20050")},
	}
	for _, tt := range tests {
		if got := string(header(tt.version, tt.src, tt.dst)); got != tt.want {
			t.Errorf("%d %v %v: %q, want %q", tt.version, tt.src, tt.dst, got, tt.want)
		}
	}
}

func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// ca is an authority whose files are in dir.
type ca struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCA(t *testing.T) *ca {
	c := &ca{t: t, dir: t.TempDir()}
	c.key, c.cert = c.sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, "root")
	return c
}

func (c *ca) sign(tmpl *x509.Certificate, file string) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(c.t, err)
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c.cert, c.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	check(c.t, err)
	cert, err := x509.ParseCertificate(der)
	check(c.t, err)
	kb, err := x509.MarshalPKCS8PrivateKey(key)
	check(c.t, err)
	c.write(file+".pem", "CERTIFICATE", der)
	c.write(file+".key", "PRIVATE KEY", kb)
	return key, cert
}

func (c *ca) write(file, kind string, der []byte) {
	check(c.t, os.WriteFile(c.file(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (c *ca) file(n string) string { return filepath.Join(c.dir, n) }

func (c *ca) leaf(serial int64, name string) tls.Certificate {
	key, cert := c.sign(&x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, name)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (c *ca) revoke(serials ...int64) {
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, c.cert, c.key)
	check(c.t, err)
	c.write("crl.pem", "X509 CRL", der)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echoServer answers each TLS connection with what it sends; it reports the
// state of each session on the channel.
func echoServer(t *testing.T, conf *tls.Config) (netip.AddrPort, <-chan tls.ConnectionState) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	states := make(chan tls.ConnectionState, 8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := tls.Server(nc, conf)
			if c.Handshake() == nil {
				states <- c.ConnectionState()
				_, _ = io.Copy(c, c)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().(*net.TCPAddr).AddrPort(), states
}

func dial(t *testing.T, o *Origin, addr netip.AddrPort, use Use) (hbone.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := hbone.DialPlain(ctx, addr)
	check(t, err)
	return o.Wrap(ctx, c, use)
}

func backend(u config.UpstreamTLS) *config.Backend {
	return &config.Backend{TLS: &u, Service: config.Service{Host: "api.example.com"}}
}

func TestTLS(t *testing.T) {
	root := newCA(t)
	other := newCA(t)
	server := root.leaf(7, "api.example.com")
	root.leaf(8, "me.example.com")
	root.revoke(9)
	good := root.file("root.pem")
	conf := &tls.Config{Certificates: []tls.Certificate{server}, NextProtos: []string{"h2", "http/1.1"}, ClientAuth: tls.RequestClientCert}
	addr, states := echoServer(t, conf)
	tests := []struct {
		name string
		u    config.UpstreamTLS
		use  Use
		ok   bool
		sni  string
		alpn string
		mine bool // a client certificate is sent
	}{
		{"service name", config.UpstreamTLS{CA: good}, Use{}, true, "api.example.com", "", false},
		{"http/2", config.UpstreamTLS{CA: good}, Use{Protocols: HTTP(true)}, true, "api.example.com", "h2", false},
		{"http/1", config.UpstreamTLS{CA: good}, Use{Protocols: HTTP(false)}, true, "api.example.com", "http/1.1", false},
		{"sni and san", config.UpstreamTLS{CA: good, SNI: "x.example.com", SANs: []string{"no", "api.example.com"}}, Use{}, true, "x.example.com", "", false},
		{"mutual", config.UpstreamTLS{CA: good, Cert: root.file("me.example.com.pem"), Key: root.file("me.example.com.key")}, Use{}, true, "api.example.com", "", true},
		{"listed others", config.UpstreamTLS{CA: good, CRL: root.file("crl.pem")}, Use{}, true, "api.example.com", "", false},
		{"any certificate", config.UpstreamTLS{CA: other.file("root.pem"), SkipVerify: true}, Use{}, true, "api.example.com", "", false},
		{"wrong san", config.UpstreamTLS{CA: good, SANs: []string{"b.example.com"}}, Use{}, false, "", "", false},
		{"wrong root", config.UpstreamTLS{CA: other.file("root.pem")}, Use{}, false, "", "", false},
		{"roots of the system", config.UpstreamTLS{CA: System}, Use{}, false, "", "", false},
		{"no file of roots", config.UpstreamTLS{CA: root.file("none.pem")}, Use{}, false, "", "", false},
		{"no key", config.UpstreamTLS{CA: good, Cert: root.file("me.example.com.pem")}, Use{}, false, "", "", false},
		{"no list", config.UpstreamTLS{CA: good, CRL: root.file("none.pem")}, Use{}, false, "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := dial(t, New(backend(tt.u), nil, nil, nil), addr, tt.use)
			if !tt.ok {
				var de *hbone.DialError
				if !errors.As(err, &de) || de.Stage != hbone.StageTLS {
					t.Fatalf("%v, want a failure of TLS", err)
				}
				return
			}
			check(t, err)
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			check(t, err)
			check(t, c.CloseWrite())
			if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
				t.Errorf("%q %v", b, err)
			}
			s := <-states
			if s.ServerName != tt.sni || s.NegotiatedProtocol != tt.alpn || len(s.PeerCertificates) > 0 != tt.mine {
				t.Errorf("sni %q, alpn %q, %d certificates", s.ServerName, s.NegotiatedProtocol, len(s.PeerCertificates))
			}
		})
	}
}

// A file that changes counts from the next connection on.
func TestFilesChange(t *testing.T) {
	root := newCA(t)
	addr, _ := echoServer(t, &tls.Config{Certificates: []tls.Certificate{root.leaf(7, "api.example.com")}})
	root.revoke()
	o := New(backend(config.UpstreamTLS{CA: root.file("root.pem"), CRL: root.file("crl.pem")}), nil, nil, nil)
	try := func(want bool, when string) {
		t.Helper()
		c, err := dial(t, o, addr, Use{})
		if (err == nil) != want {
			t.Fatalf("%s: %v", when, err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	try(true, "at first")
	root.revoke(7)
	try(false, "revoked")
	root.revoke()
	try(true, "no more revoked")
	check(t, os.Remove(root.file("root.pem")))
	try(true, "without roots: those read before serve")
}

// A rotation that goes wrong does not cut the backend off: the pair read before
// serves until a whole one is there, and the log says so once.
func TestBrokenRotationKeepsTheLastPair(t *testing.T) {
	root := newCA(t)
	server := root.leaf(7, "api.example.com")
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	addr, states := echoServer(t, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	var log bytes.Buffer
	root.leaf(100, "client")
	o := New(backend(config.UpstreamTLS{CA: root.file("root.pem"), Cert: root.file("client.pem"), Key: root.file("client.key")}), nil, nil,
		slog.New(slog.NewTextHandler(&log, nil)))
	try := func(want int64, when string) {
		t.Helper()
		c, err := dial(t, o, addr, Use{})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer c.Close()
		if got := (<-states).PeerCertificates[0].SerialNumber.Int64(); got != want {
			t.Errorf("%s: certificate %d, want %d", when, got, want)
		}
	}
	try(100, "at first")
	oldKey, err := os.ReadFile(root.file("client.key"))
	check(t, err)
	root.leaf(101, "client")
	newKey, err := os.ReadFile(root.file("client.key"))
	check(t, err)
	check(t, os.WriteFile(root.file("client.key"), oldKey, 0o600))
	try(100, "the new certificate, the old key")
	check(t, os.WriteFile(root.file("client.key"), []byte("half a k"), 0o600))
	try(100, "half a key")
	try(100, "half a key, again")
	check(t, os.Remove(root.file("client.pem")))
	try(100, "no certificate")
	if n := strings.Count(log.String(), "cannot be read"); n != 3 {
		t.Errorf("%d lines for three different troubles:\n%s", n, log.String())
	}
	check(t, os.WriteFile(root.file("client.key"), newKey, 0o600))
	root.leaf(102, "client")
	try(102, "a whole pair")

	never := New(backend(config.UpstreamTLS{CA: root.file("root.pem"), Cert: root.file("none.pem"), Key: root.file("none.key")}), nil, nil, nil)
	if _, err := dial(t, never, addr, Use{}); err == nil {
		t.Error("connected without the certificate that never was there")
	}
}

// A server that says nothing holds a connection up for the time of a connect.
func TestTimeout(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c, err := hbone.DialPlain(ctx, ln.Addr().(*net.TCPAddr).AddrPort())
	check(t, err)
	var de *hbone.DialError
	if _, err := New(backend(config.UpstreamTLS{}), nil, nil, nil).Wrap(ctx, c, Use{}); !errors.As(err, &de) || de.Stage != hbone.StageTimeout {
		t.Errorf("%v, want a timeout", err)
	}
}

// The header comes first, then TLS.
func TestHeaderThenTLS(t *testing.T) {
	root := newCA(t)
	conf := &tls.Config{Certificates: []tls.Certificate{root.leaf(7, "api.example.com")}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer ln.Close()
	const want = "PROXY TCP4 10.0.0.1 10.0.0.2 1234 80\r\n"
	got := make(chan string, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		b := make([]byte, len(want))
		_, _ = io.ReadFull(nc, b)
		_ = tls.Server(nc, conf).Handshake()
		got <- string(b)
	}()
	b := backend(config.UpstreamTLS{CA: root.file("root.pem")})
	b.ProxyProto = 1
	c, err := dial(t, New(b, nil, nil, nil), ln.Addr().(*net.TCPAddr).AddrPort(), Use{Source: netip.MustParseAddrPort("10.0.0.1:1234"), Dest: netip.MustParseAddrPort("10.0.0.2:80")})
	check(t, err)
	defer c.Close()
	if s := <-got; s != want {
		t.Errorf("%q", s)
	}
}

func TestSame(t *testing.T) {
	b := backend(config.UpstreamTLS{CA: "a", SANs: []string{"b"}})
	o := New(b, nil, nil, nil)
	if New(backend(*b.TLS), o, nil, nil) != o {
		t.Error("the same configuration gives another origin")
	}
	b.TLS.SNI = "c"
	if New(b, o, nil, nil) == o {
		t.Error("another configuration gives the same origin")
	}
	if New(&config.Backend{}, o, nil, nil) != nil {
		t.Error("nothing to do gives an origin")
	}
}

// TestSecrets shakes hands with certificates that the model carries, and with the
// waypoint's own.
func TestSecrets(t *testing.T) {
	root := newCA(t)
	server := root.leaf(2, "db.example")
	root.leaf(3, "client.example")
	pool := x509.NewCertPool()
	pool.AddCert(root.cert)
	addr, seen := echoServer(t, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	file := func(n string) []byte {
		b, err := os.ReadFile(root.file(n))
		check(t, err)
		return b
	}
	pair := &config.Secret{Chain: file("client.example.pem"), Key: file("client.example.key")}
	roots := &config.Secret{Roots: file("root.pem")}
	u := config.UpstreamTLS{SNI: "db.example", CA: "ca", Cert: "pair", Secrets: map[string]*config.Secret{"ca": roots, "pair": pair}}
	o := New(backend(u), nil, nil, nil)
	c, err := dial(t, o, addr, Use{})
	check(t, err)
	c.Close()
	if cs := <-seen; cs.PeerCertificates[0].DNSNames[0] != "client.example" {
		t.Errorf("the server saw %v", cs.PeerCertificates[0].DNSNames)
	}
	if New(backend(u), o, nil, nil) != o {
		t.Error("the same secrets make another origin")
	}
	root.revoke(2)
	for name, other := range map[string]map[string]*config.Secret{
		"roots not sent":   {"ca": nil, "pair": pair},
		"pair not sent":    {"ca": roots, "pair": nil},
		"no certificate":   {"ca": {Roots: []byte("x")}, "pair": pair},
		"no key":           {"ca": roots, "pair": {Chain: pair.Chain, Key: []byte("x")}},
		"server's revoked": {"ca": {Roots: roots.Roots, CRL: file("crl.pem")}, "pair": pair},
	} {
		v := u
		v.Secrets = other
		n := New(backend(v), o, nil, nil)
		if n == o {
			t.Errorf("%s: a change is none", name)
		}
		if c, err := dial(t, n, addr, Use{}); err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		}
	}
	// Without an identity there is nothing to show.
	if c, err := dial(t, New(backend(config.UpstreamTLS{CA: config.SecretRoots, Cert: config.SecretOwn}), nil, nil, nil), addr, Use{}); err == nil {
		c.Close()
		t.Error("connected without an identity")
	}
}

// TestOwnIdentity is the mutual TLS of a mesh's workloads.
func TestOwnIdentity(t *testing.T) {
	mesh, err := identity.NewCA("cluster.local")
	check(t, err)
	own, peer := mesh.Source("shop", "waypoint", time.Hour), mesh.Source("shop", "bank", time.Hour)
	defer own.Close()
	defer peer.Close()
	addr, seen := echoServer(t, &tls.Config{Certificates: []tls.Certificate{peer.SVID().Certificate}, ClientAuth: tls.RequireAnyClientCert})
	for _, tt := range []struct {
		sans []string
		ok   bool
	}{{nil, true}, {[]string{"spiffe://cluster.local/ns/shop/sa/bank"}, true}, {[]string{"spiffe://cluster.local/ns/shop/sa/other"}, false}} {
		c, err := dial(t, New(backend(config.UpstreamTLS{CA: config.SecretRoots, Cert: config.SecretOwn, SANs: tt.sans}), nil, own, nil), addr, Use{})
		if (err == nil) != tt.ok {
			t.Errorf("%q: %v", tt.sans, err)
		}
		if err != nil {
			continue
		}
		c.Close()
		if cs := <-seen; cs.PeerCertificates[0].URIs[0].String() != "spiffe://cluster.local/ns/shop/sa/waypoint" {
			t.Errorf("showed %v", cs.PeerCertificates[0].URIs)
		}
	}
}
