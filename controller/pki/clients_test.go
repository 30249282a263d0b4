package pki

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
)

// handshake connects with a certificate of a CA, nil for none, and returns how the
// server saw it.
func handshake(t *testing.T, server *tls.Config, ca *identity.CA) (verified bool, err error) {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if ca != nil {
		id, err := ca.Issue("shop", "waypoint", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{id.Certificate}
	}
	go func() {
		c := tls.Client(here, cfg)
		c.Handshake()
		c.Read(make([]byte, 1)) // a pipe holds nothing: what the server says must be taken
	}()
	c := tls.Server(there, server)
	if err := c.HandshakeContext(t.Context()); err != nil {
		return false, err
	}
	return len(c.ConnectionState().VerifiedChains) > 0, nil
}

func TestClients(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	one, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	two, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "roots.pem")
	write := func(b []byte, at time.Time) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewClients(path, quiet); err == nil {
		t.Error("a file that is not there is taken")
	}
	write([]byte("nothing"), noon)
	if _, err := NewClients(path, quiet); err == nil {
		t.Error("a file without a certificate is taken")
	}
	write(one.Bundle().PEM, noon.Add(time.Second))
	c, err := NewClients(path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	a := replica(server(t), time.Now)
	if err := a.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := ServerTLS(a, c)
	want := func(what string, ca *identity.CA, verified, refused bool) {
		t.Helper()
		if v, err := handshake(t, cfg, ca); v != verified || (err != nil) != refused {
			t.Errorf("%s: verified %t, %v", what, v, err)
		}
	}
	want("no certificate", nil, false, false)
	want("the mesh's", one, true, false)
	want("another's", two, false, true)
	write(two.Bundle().PEM, noon.Add(2*time.Second))
	want("new roots", two, true, false)
	want("the former roots", one, false, true)
	write([]byte("broken"), noon.Add(3*time.Second))
	want("the last good roots stay", two, true, false)
}
