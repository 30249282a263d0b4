package identity

import (
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func newCA(t *testing.T, td string, aliases ...string) *CA {
	t.Helper()
	ca, err := NewCA(td, aliases...)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestIssue(t *testing.T) {
	ca := newCA(t, "cluster.local")
	svid, err := ca.Issue("shop", "cart", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaf := svid.Certificate.Leaf
	if svid.Principal.URI != "spiffe://cluster.local/ns/shop/sa/cart" || len(leaf.DNSNames)+len(leaf.IPAddresses) != 0 || leaf.IsCA {
		t.Errorf("unexpected leaf: %+v", svid.Principal)
	}
	for _, u := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Bundle().Roots, KeyUsages: []x509.ExtKeyUsage{u}}); err != nil {
			t.Errorf("usage %v: %v", u, err)
		}
	}
	for _, bad := range [][2]string{{"", "x"}, {"x", ""}, {"a/b", "x"}, {"a", "x%"}} {
		if _, err := ca.Issue(bad[0], bad[1], time.Hour); err == nil {
			t.Errorf("Issue(%q, %q) succeeded", bad[0], bad[1])
		}
	}
	if _, err := NewCA("a/b"); err == nil {
		t.Error("NewCA took a bad trust domain")
	}
}

func TestSourceRotatesAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "td")
		src := ca.Source("ns", "sa", time.Hour)
		defer src.Close()
		first, changed := src.SVID(), src.Changed()
		time.Sleep(29 * time.Minute)
		synctest.Wait()
		if src.SVID() != first || isClosed(changed) {
			t.Fatal("rotated before half life")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if src.SVID() == first || !isClosed(changed) {
			t.Fatal("did not rotate at half life")
		}
		for range 10 {
			time.Sleep(30 * time.Minute)
			synctest.Wait()
			if left := time.Until(src.SVID().NotAfter); left < 29*time.Minute {
				t.Fatalf("only %v of life left", left)
			}
		}
		src.Close()
		last := src.SVID()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if src.SVID() != last {
			t.Error("a closed source rotates")
		}
	})
}

func TestAnnouncedRootIsTrustedFirst(t *testing.T) {
	ca := newCA(t, "td")
	src := ca.Source("ns", "sa", time.Hour)
	defer src.Close()
	old := src.SVID()
	if err := ca.AnnounceRoot(); err != nil {
		t.Fatal(err)
	}
	announced := src.Bundle()
	if src.SVID() != old || strings.Count(string(announced.PEM), "BEGIN CERTIFICATE") != 2 {
		t.Fatalf("a new certificate, or a bundle of:\n%s", announced.PEM)
	}
	if err := ca.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	chain := src.SVID().Chain()
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: announced.Roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("the announced bundle does not know the root that signs: %v", err)
	}
	if len(src.Bundle().PEM) != len(announced.PEM) {
		t.Error("the announced root is not the one that was taken")
	}
}

func TestRootRotationOverlaps(t *testing.T) {
	ca := newCA(t, "td")
	src := ca.Source("ns", "sa", time.Hour)
	defer src.Close()
	verify := func(s *SVID) error {
		v := Verifier{Source: src, Usage: x509.ExtKeyUsageServerAuth}
		_, err := v.Verify(s.Chain())
		return err
	}
	old, changed := src.SVID(), src.Changed()
	if err := ca.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	if !isClosed(changed) || src.SVID() == old {
		t.Fatal("the source did not follow the new root")
	}
	if err := verify(old); err != nil {
		t.Errorf("old chain during the overlap: %v", err)
	}
	if err := verify(src.SVID()); err != nil {
		t.Errorf("new chain: %v", err)
	}
	ca.RetireRoots()
	if err := verify(old); err == nil {
		t.Error("old chain still trusted after the overlap")
	}
	if err := verify(src.SVID()); err != nil {
		t.Errorf("new chain after the overlap: %v", err)
	}
}

func TestCAWritesWhatFromFilesReads(t *testing.T) {
	ca, err := NewCA("td")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made", "on the way")
	file := func(n string) string { return filepath.Join(dir, n) }
	for _, sa := range []string{"first", "second"} { // the second time over what is there
		if err := ca.WriteFiles(dir, "ns", sa, time.Hour); err != nil {
			t.Fatal(err)
		}
		s, err := FromFiles(file("cert.pem"), file("key.pem"), file("roots.pem"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.SVID().Principal.URI; got != "spiffe://td/ns/ns/sa/"+sa || !s.Bundle().Trusts("td") {
			t.Errorf("%s", got)
		}
		s.Close()
	}
	if err := ca.WriteFiles(dir, "ns", "not/one", time.Hour); err == nil {
		t.Error("wrote an identity that is none")
	}
}
