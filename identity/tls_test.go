package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"testing"
	"time"
)

// handshake runs both sides over a loopback connection and one byte through it,
// so that the client sees what the server thinks of its certificate.
func handshake(t *testing.T, server, client *tls.Config) (cs, ss *tls.ConnectionState, cerr, serr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			serr = err
			return
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		tc := tls.Server(nc, server)
		if serr = tc.Handshake(); serr == nil {
			s := tc.ConnectionState()
			ss = &s
			_, serr = tc.Write([]byte{1})
			_, _ = tc.Read(make([]byte, 1)) // until the client has read
		}
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	tc := tls.Client(nc, client)
	if cerr = tc.Handshake(); cerr == nil {
		s := tc.ConnectionState()
		cs = &s
		_, cerr = tc.Read(make([]byte, 1))
	}
	_ = tc.Close()
	<-done
	return cs, ss, cerr, serr
}

// odd is a source with any certificate.
func odd(t *testing.T, ca *CA, edit func(*x509.Certificate)) Source {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := ca.roots[0]
	id, _ := url.Parse("spiffe://td/ns/ns/sa/odd")
	tmpl := &x509.Certificate{
		SerialNumber: serial(), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{id},
	}
	edit(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, root.cert, key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := &staticSource{}
	s.Set(&SVID{Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}, ca.Bundle())
	return s
}

type staticSource struct{ Store }

func (*staticSource) Close() error { return nil }

func TestHandshake(t *testing.T) {
	ca := newCA(t, "td", "alias")
	foreign := newCA(t, "td")
	srv := ca.Source("istio-system", "waypoint", time.Hour)
	cli := ca.Source("shop", "cart", time.Hour)
	out := foreign.Source("shop", "cart", time.Hour)
	for _, s := range []Source{srv, cli, out} {
		defer s.Close()
	}
	uris := func(list ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.URIs = nil
			for _, s := range list {
				u, err := url.Parse(s)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
		}
	}
	revoked := WithRevoked(func(c *x509.Certificate) bool { return !c.IsCA })
	me, you := "spiffe://td/ns/istio-system/sa/waypoint", "spiffe://td/ns/shop/sa/cart"
	for _, tt := range []struct {
		name       string
		server     *tls.Config
		client     *tls.Config
		clientFail bool // the client refuses the server
		serverFail bool // the server refuses the client
	}{
		{name: "any in the trust domain", server: ServerTLS(srv), client: ClientTLS(cli, nil)},
		{name: "the wanted", server: ServerTLS(srv), client: ClientTLS(cli, []string{"spiffe://td/ns/x/sa/y", me})},
		{name: "another than wanted", server: ServerTLS(srv), client: ClientTLS(cli, []string{"spiffe://td/ns/x/sa/y"}), clientFail: true},
		{name: "wanted is no prefix", server: ServerTLS(srv), client: ClientTLS(cli, []string{me + "2"}), clientFail: true},
		{name: "alias", server: ServerTLS(srv), client: ClientTLS(odd(t, ca, uris("spiffe://alias/ns/a/sa/b")), nil)},
		{name: "foreign domain", server: ServerTLS(srv), client: ClientTLS(odd(t, ca, uris("spiffe://evil/ns/a/sa/b")), nil), serverFail: true},
		{name: "server of a foreign domain", server: ServerTLS(odd(t, ca, uris("spiffe://evil/ns/a/sa/b"))), client: ClientTLS(cli, nil), clientFail: true},
		{name: "foreign root", server: ServerTLS(srv), client: ClientTLS(odd(t, foreign, uris(you)), nil), clientFail: true},
		{name: "no URI", server: ServerTLS(srv), client: ClientTLS(odd(t, ca, func(c *x509.Certificate) {
			c.URIs, c.DNSNames = nil, []string{"cart.shop"}
			c.Subject.CommonName = you
		}), nil), serverFail: true},
		{name: "two URIs", server: ServerTLS(srv), client: ClientTLS(odd(t, ca, uris(you, me)), nil), serverFail: true},
		{name: "URI of another form", server: ServerTLS(srv), client: ClientTLS(odd(t, ca, uris("spiffe://td/web")), nil), serverFail: true},
		{name: "expired", server: ServerTLS(srv), client: ClientTLS(odd(t, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil), serverFail: true},
		{name: "server only", server: ServerTLS(srv), client: ClientTLS(odd(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), nil), serverFail: true},
		{name: "client only", server: ServerTLS(odd(t, ca, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })), client: ClientTLS(cli, nil), clientFail: true},
		{name: "revoked client", server: ServerTLS(srv, revoked), client: ClientTLS(cli, nil), serverFail: true},
		{name: "revoked server", server: ServerTLS(srv), client: ClientTLS(cli, nil, revoked), clientFail: true},
		{name: "no certificate", server: ServerTLS(srv), client: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, serverFail: true},
		{name: "no ALPN", server: ServerTLS(srv), client: func() *tls.Config {
			c := ClientTLS(cli, nil)
			c.NextProtos, c.VerifyConnection = nil, nil
			return c
		}(), serverFail: true},
		{name: "TLS 1.2", server: ServerTLS(srv), client: func() *tls.Config {
			c := ClientTLS(cli, nil)
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return c
		}(), serverFail: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cs, ss, cerr, serr := handshake(t, tt.server, tt.client)
			switch {
			case tt.clientFail:
				if !errors.Is(cerr, ErrIdentity) {
					t.Errorf("client: %v, want ErrIdentity", cerr)
				}
			case tt.serverFail:
				if serr == nil || cerr == nil {
					t.Errorf("server: %v, client: %v; want both to fail", serr, cerr)
				}
			case cerr != nil || serr != nil:
				t.Errorf("client: %v, server: %v", cerr, serr)
			default:
				p, err := PeerPrincipal(cs)
				if err != nil || p.URI != me {
					t.Errorf("client sees %q, %v", p.URI, err)
				}
				if _, err := PeerPrincipal(ss); err != nil || cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "h2" {
					t.Errorf("server: %v, version %x, protocol %q", err, cs.Version, cs.NegotiatedProtocol)
				}
			}
		})
	}
}

// A session ticket must not outlive the root of the certificate it stands for.
func TestResumptionVerifiesAgain(t *testing.T) {
	ca := newCA(t, "td")
	srv := ca.Source("istio-system", "waypoint", time.Hour)
	defer srv.Close()
	old, err := ca.Issue("shop", "cart", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cli := &staticSource{}
	cli.Set(old, ca.Bundle())

	server := ServerTLS(srv)
	client := ClientTLS(cli, nil)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1) // a peer that resumes
	client.ServerName = "x"
	client.VerifyConnection = nil // and believes anything
	if _, _, cerr, serr := handshake(t, server, client); cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	cs, _, cerr, serr := handshake(t, server, client)
	if cerr != nil || serr != nil || !cs.DidResume {
		t.Fatalf("no resumption: %v, %v, %+v", cerr, serr, cs)
	}
	if err := ca.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	ca.RetireRoots()
	if _, _, _, serr := handshake(t, server, client); !errors.Is(serr, ErrIdentity) {
		t.Errorf("resumed under a retired root: %v", serr)
	}
}

func TestNewestCertificateIsShown(t *testing.T) {
	ca := newCA(t, "td")
	srv := ca.Source("istio-system", "waypoint", time.Hour)
	cli := ca.Source("shop", "cart", time.Hour)
	defer srv.Close()
	defer cli.Close()
	server, client := ServerTLS(srv), ClientTLS(cli, nil)
	for range 3 {
		if err := ca.RotateRoot(); err != nil {
			t.Fatal(err)
		}
		cs, ss, cerr, serr := handshake(t, server, client)
		if cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
		if !cs.PeerCertificates[0].Equal(srv.SVID().Certificate.Leaf) || !ss.PeerCertificates[0].Equal(cli.SVID().Certificate.Leaf) {
			t.Fatal("a handshake used an old certificate")
		}
	}
}
