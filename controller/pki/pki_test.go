package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"waypoint.dev/waypoint/controller/apitest"
)

var quiet = slog.New(slog.DiscardHandler)

func server(t *testing.T) kubernetes.Interface {
	t.Helper()
	s := apitest.New()
	t.Cleanup(s.Close)
	core, _ := s.Clients()
	return core
}

// verify reports whether a source's certificate is good for a client with the roots.
func verify(t *testing.T, s Source, roots []byte, at time.Time) error {
	t.Helper()
	cert, err := s.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		t.Fatal("no roots")
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "waypoint-controller.ns.svc", CurrentTime: at})
	return err
}

func replica(core kubernetes.Interface, now func() time.Time) *Authority {
	a := NewAuthority(core.CoreV1().Secrets("ns"), "ca", []string{"waypoint-controller.ns.svc"}, quiet)
	a.now = now
	return a
}

func TestReplicasShareOneCA(t *testing.T) {
	core := server(t)
	now := time.Now()
	clock := func() time.Time { return now }
	a, b := replica(core, clock), replica(core, clock)
	for _, x := range []*Authority{a, b} {
		if err := x.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := verify(t, a, b.Roots(), now); err != nil {
		t.Error(err)
	}
	if err := verify(t, b, a.Roots(), now); err != nil {
		t.Error(err)
	}
	s, err := core.CoreV1().Secrets("ns").Get(t.Context(), "ca", metav1.GetOptions{})
	if err != nil || s.Type != corev1.SecretTypeTLS || len(s.Data[keyKey]) == 0 {
		t.Fatalf("secret %v %v", s, err)
	}
}

// TestRotation walks through a CA's whole life with two replicas that look at
// different times: none ever shows a certificate that the roots of the other one
// half an overlap ago do not verify.
func TestRotation(t *testing.T) {
	core := server(t)
	now := time.Now()
	clock := func() time.Time { return now }
	a, b := replica(core, clock), replica(core, clock)
	ctx := t.Context()
	if err := a.step(ctx); err != nil {
		t.Fatal(err)
	}
	first := a.Roots()
	old := a.Roots()
	now = now.Add(caLife - 2*overlap - time.Hour)
	for range 24 {
		now = now.Add(overlap / 6)
		for _, x := range []*Authority{a, b} {
			if err := x.step(ctx); err != nil {
				t.Fatal(err)
			}
			if err := verify(t, x, old, now); err != nil {
				t.Fatalf("at %s: %v", now, err)
			}
		}
		old = a.Roots()
	}
	if err := verify(t, a, first, now); err == nil {
		t.Error("the CA was never turned over")
	}
}

func TestForeignSecretStays(t *testing.T) {
	core := server(t)
	_, err := core.CoreV1().Secrets("ns").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "ca"}, Data: map[string][]byte{keyCert: []byte("mine")}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	a := replica(core, time.Now)
	if err := a.Load(ctx); err == nil {
		t.Fatal("a CA was made over a Secret that cannot be read")
	}
	if _, err := a.Certificate(nil); err == nil {
		t.Error("a certificate without a CA")
	}
	s, err := core.CoreV1().Secrets("ns").Get(t.Context(), "ca", metav1.GetOptions{})
	if err != nil || string(s.Data[keyCert]) != "mine" {
		t.Errorf("%v %v", s, err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func() []byte {
		ca, err := newAuthority(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cert, key, err := ca.pem()
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": cert} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return cert
	}
	at := func(n string) string { return filepath.Join(dir, n) }
	if _, err := NewFiles(at("tls.crt"), at("tls.key"), at("ca.crt"), quiet); err == nil {
		t.Error("files that are not there")
	}
	first := write()
	f, err := NewFiles(at("tls.crt"), at("tls.key"), at("ca.crt"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if string(f.Roots()) != string(first) {
		t.Error("roots")
	}
	changed := f.Changed()
	second := write()
	if err := f.read(); err != nil {
		t.Fatal(err)
	}
	<-changed
	if string(f.Roots()) != string(second) {
		t.Error("new roots are not taken")
	}
	if err := os.WriteFile(at("tls.key"), []byte("no"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.read(); err == nil {
		t.Error("a broken key is taken")
	}
	if c, err := f.Certificate(nil); err != nil || c == nil {
		t.Error("the last certificate is gone")
	}
}

func TestServerTLS(t *testing.T) {
	core := server(t)
	a := replica(core, time.Now)
	if err := a.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := ServerTLS(a, nil)
	if c.MinVersion != tls.VersionTLS13 {
		t.Error("TLS below 1.3")
	}
}
