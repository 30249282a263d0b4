package identity

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// list makes a revocation list of ca's present root.
func list(t *testing.T, ca *CA, serials ...*big.Int) []byte {
	t.Helper()
	root := ca.roots[len(ca.roots)-1]
	tmpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now()})
	}
	issuer := *root.cert
	issuer.KeyUsage |= x509.KeyUsageCRLSign
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, &issuer, root.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func TestCRL(t *testing.T) {
	ca, err := NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	bad, _ := ca.Issue("shop", "bad", time.Hour)
	good, _ := ca.Issue("shop", "good", time.Hour)
	name := filepath.Join(t.TempDir(), "ca-crl.pem")
	os.WriteFile(name, nil, 0o600)
	synctest.Test(t, func(t *testing.T) {
		c, err := WatchCRL(name, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.Revoked(bad.Certificate.Leaf) {
			t.Error("an empty list revokes")
		}
		os.WriteFile(name, list(t, ca, bad.Certificate.Leaf.SerialNumber), 0o600)
		time.Sleep(pollInterval + time.Second)
		synctest.Wait()
		if !c.Revoked(bad.Certificate.Leaf) || c.Revoked(good.Certificate.Leaf) {
			t.Error("the list is not followed")
		}
		// A broken file keeps the last good list.
		os.WriteFile(name, []byte("x"), 0o600)
		time.Sleep(pollInterval + time.Second)
		synctest.Wait()
		if !c.Revoked(bad.Certificate.Leaf) {
			t.Error("a broken file lifts revocations")
		}
	})
	src := ca.Source("shop", "wp", time.Hour)
	defer src.Close()
	os.WriteFile(name, list(t, ca, bad.Certificate.Leaf.SerialNumber), 0o600)
	c, err := WatchCRL(name, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	v := Verifier{Source: src, Revoked: c.Revoked}
	if _, err := v.Verify(bad.Chain()); !errors.Is(err, ErrIdentity) {
		t.Errorf("a revoked peer: %v", err)
	}
	if _, err := v.Verify(good.Chain()); err != nil {
		t.Errorf("a peer that is not: %v", err)
	}
	none, err := WatchCRL(name+".none", nil, nil) // an optional mount
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if none.Revoked(bad.Certificate.Leaf) {
		t.Error("without a list somebody is revoked")
	}
}

func TestRestrict(t *testing.T) {
	ca, err := NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	src := ca.Source("shop", "wp", time.Hour)
	defer src.Close()
	if Restrict(src, nil) != src {
		t.Error("no restriction wraps")
	}
	r := Restrict(src, []tls.CurveID{tls.X25519MLKEM768})
	for _, c := range []*tls.Config{ServerTLS(r), ClientTLS(r, nil)} {
		if !slices.Equal(c.CurvePreferences, []tls.CurveID{tls.X25519MLKEM768}) {
			t.Errorf("key exchanges %v", c.CurvePreferences)
		}
	}
}

func FuzzParseCRL(f *testing.F) {
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	f.Add([]byte(" \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if set, err := parseCRL(b); err == nil && set == nil {
			t.Error("neither list nor error")
		}
	})
}
