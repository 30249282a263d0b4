package istioca

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pb "istio.io/api/security/v1alpha1"

	"waypoint.dev/waypoint/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCA answers as istiod's CA, from a function call instead of a network.
type fakeCA struct {
	ca    *identity.CA
	ttl   time.Duration
	calls atomic.Int32

	mu   sync.Mutex
	fail []error // taken one a call
	edit func([]string) []string
}

func (f *fakeCA) CreateCertificate(_ context.Context, r *pb.IstioCertificateRequest) (*pb.IstioCertificateResponse, error) {
	f.calls.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fail) > 0 {
		err := f.fail[0]
		f.fail = f.fail[1:]
		return nil, err
	}
	block, _ := pem.Decode([]byte(r.Csr))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, err
	}
	der, err := f.ca.Sign(csr.PublicKey, "shop", "waypoint", f.ttl)
	if err != nil {
		return nil, err
	}
	chain := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(f.ca.Bundle().PEM)}
	if f.edit != nil {
		chain = f.edit(chain)
	}
	return &pb.IstioCertificateResponse{CertChain: chain}, nil
}

// wire is a fakeCA behind a real server.
type wire struct {
	pb.UnimplementedIstioCertificateServiceServer
	fake *fakeCA
}

func (w *wire) CreateCertificate(ctx context.Context, r *pb.IstioCertificateRequest) (*pb.IstioCertificateResponse, error) {
	return w.fake.CreateCertificate(ctx, r)
}

// Invoke makes fakeCA a grpc.ClientConnInterface.
func (f *fakeCA) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	res, err := f.CreateCertificate(ctx, args.(*pb.IstioCertificateRequest))
	if err != nil {
		return err
	}
	reply.(*pb.IstioCertificateResponse).CertChain = res.CertChain
	return nil
}

func (f *fakeCA) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("no streams")
}

func newCA(t *testing.T) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func options(f *fakeCA) Options {
	return Options{Conn: f, TrustDomain: "cluster.local", TrustAliases: []string{"old.local"}, Namespace: "shop", Account: "waypoint", TTL: f.ttl}
}

func TestRenewsAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeCA{ca: newCA(t), ttl: time.Hour}
		s, err := New(t.Context(), options(f))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.SVID().Principal.URI != "spiffe://cluster.local/ns/shop/sa/waypoint" || !s.Bundle().Trusts("old.local") {
			t.Fatalf("%v trusting %v", s.SVID().Principal, s.Bundle().TrustDomains)
		}
		first := s.SVID().Certificate.Leaf.SerialNumber
		changed := s.Changed()
		time.Sleep(28 * time.Minute)
		if f.calls.Load() != 1 {
			t.Fatalf("renewed early: %d calls", f.calls.Load())
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		<-changed
		if f.calls.Load() != 2 || s.SVID().Certificate.Leaf.SerialNumber.Cmp(first) == 0 {
			t.Errorf("not renewed after half its life: %d calls", f.calls.Load())
		}
	})
}

// TestRenewsAsTold: the share of its life that is left at renewal is the user's to set.
func TestRenewsAsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeCA{ca: newCA(t), ttl: time.Hour}
		o := options(f)
		o.Grace = Grace{Ratio: 0.9, Jitter: 0.05}
		s, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i, at := range []time.Duration{2 * time.Minute, 8 * time.Minute} { // 3 to 9 minutes of the hour
			time.Sleep(at)
			synctest.Wait()
			if n := int(f.calls.Load()); (n > 1) != (i > 0) {
				t.Errorf("%d calls after step %d", n, i)
			}
		}
	})
}

// TestRenewsShortLives: a certificate of seconds, dated back by more than that,
// is not past its half when it comes.
func TestRenewsShortLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeCA{ca: newCA(t), ttl: 40 * time.Second}
		s, err := New(t.Context(), options(f))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for i, at := range []time.Duration{19 * time.Second, 2 * time.Second} {
			time.Sleep(at)
			synctest.Wait()
			if n := int(f.calls.Load()); n != i+1 {
				t.Fatalf("%d calls after step %d, want %d", n, i, i+1)
			}
		}
	})
}

func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeCA{ca: newCA(t), ttl: time.Hour}
		for range 4 {
			f.fail = append(f.fail, status.Error(codes.Unavailable, "starting"))
		}
		start := time.Now()
		s, err := New(t.Context(), options(f))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if d := time.Since(start); f.calls.Load() != 5 || d < 1200*time.Millisecond || d > 1800*time.Millisecond {
			t.Errorf("%d calls in %v, want 5 in about 1.5 s", f.calls.Load(), d)
		}
		// A failure at renewal keeps the certificate and is tried again.
		f.mu.Lock()
		f.fail = []error{status.Error(codes.PermissionDenied, "no"), nil}[:1]
		f.mu.Unlock()
		old := s.SVID()
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		if s.SVID() == old {
			t.Error("not renewed after one refusal")
		}
	})
}

func TestBadAnswersAreRefused(t *testing.T) {
	other := newCA(t)
	for name, edit := range map[string]func([]string) []string{
		"no root":     func(c []string) []string { return c[:1] },
		"empty":       func(c []string) []string { return nil },
		"garbage":     func(c []string) []string { return []string{"x", c[1]} },
		"broken root": func(c []string) []string { return []string{c[0], "x"} },
		"another key": func(c []string) []string {
			s, _ := other.Issue("shop", "waypoint", time.Hour)
			p, _, _ := s.PEM()
			return []string{string(p), c[1]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeCA{ca: newCA(t), ttl: time.Hour, edit: edit}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				if s, err := New(ctx, options(f)); err == nil {
					s.Close()
					t.Error("taken")
				}
			})
		})
	}
}

func TestRootsFromAnswerAndFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "root-cert.pem")
	a, b := newCA(t), newCA(t)
	os.WriteFile(file, a.Bundle().PEM, 0o600)
	synctest.Test(t, func(t *testing.T) {
		f := &fakeCA{ca: a, ttl: time.Hour}
		o := options(f)
		o.RootFile = file
		s, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if n := strings.Count(string(s.Bundle().PEM), "BEGIN"); n != 1 {
			t.Errorf("the same root stands %d times", n)
		}
		svid, changed := s.SVID(), s.Changed()
		os.WriteFile(file, b.Bundle().PEM, 0o600)
		<-changed
		if n := strings.Count(string(s.Bundle().PEM), "BEGIN"); n != 2 || s.SVID() != svid {
			t.Errorf("after a new root file: %d roots, renewed %v", n, s.SVID() != svid)
		}
		changed = s.Changed()
		if err := s.SetTrustDomains([]string{"cluster.local", "third.local"}); err != nil {
			t.Fatal(err)
		}
		<-changed
		if !s.Bundle().Trusts("third.local") || s.Bundle().Trusts("old.local") {
			t.Errorf("trust domains %v", s.Bundle().TrustDomains)
		}
	})
}

// TestOverTheWire runs the real client against a real server once.
func TestOverTheWire(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	pb.RegisterIstioCertificateServiceServer(g, &wire{fake: &fakeCA{ca: newCA(t), ttl: time.Hour}})
	done := make(chan struct{})
	go func() { g.Serve(ln); close(done) }()
	defer func() { g.Stop(); <-done }()
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := New(ctx, Options{Conn: cc, TrustDomain: "cluster.local", Namespace: "shop", Account: "waypoint"})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
