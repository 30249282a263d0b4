package spiffeapi

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"waypoint.dev/waypoint/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api is a Workload API that says what a test gives it.
type api struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	answers chan *workload.X509SVIDResponse
	refuse  bool
}

func (a *api) FetchX509SVID(_ *workload.X509SVIDRequest, s workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	if a.refuse {
		return status.Error(codes.InvalidArgument, "no")
	}
	for {
		select {
		case r := <-a.answers:
			if err := s.Send(r); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func serve(t *testing.T, a *api) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wp") // short: unix socket paths are at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(g, a)
	done := make(chan struct{})
	go func() { g.Serve(ln); close(done) }()
	t.Cleanup(func() { g.Stop(); <-done; os.RemoveAll(dir) })
	return path
}

func answer(t *testing.T, ca *identity.CA, sa string) *workload.X509SVIDResponse {
	t.Helper()
	s, err := ca.Issue("shop", sa, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(s.Certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain, roots []byte
	for _, c := range s.Certificate.Certificate {
		chain = append(chain, c...)
	}
	for rest := ca.Bundle().PEM; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		roots = append(roots, b.Bytes...)
	}
	return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{SpiffeId: s.Principal.URI, X509Svid: chain, X509SvidKey: key, Bundle: roots}}}
}

func TestFollowsTheAPI(t *testing.T) {
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	a := &api{answers: make(chan *workload.X509SVIDResponse, 2)}
	path := serve(t, a)
	a.answers <- answer(t, ca, "one")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := New(ctx, path, []string{"cluster.local"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.SVID().Principal.URI != "spiffe://cluster.local/ns/shop/sa/one" || !s.Bundle().Trusts("cluster.local") {
		t.Errorf("%v", s.SVID().Principal)
	}
	peer, _ := ca.Issue("shop", "peer", time.Hour)
	v := identity.Verifier{Source: s}
	if _, err := v.Verify(peer.Chain()); err != nil {
		t.Errorf("a peer of the mesh: %v", err)
	}
	changed := s.Changed()
	a.answers <- answer(t, ca, "two")
	select {
	case <-changed:
	case <-ctx.Done():
		t.Fatal("no change")
	}
	if s.SVID().Principal.URI != "spiffe://cluster.local/ns/shop/sa/two" {
		t.Errorf("after the update: %v", s.SVID().Principal)
	}
	if err := s.SetTrustDomains([]string{"cluster.local", "old.local"}); err != nil || !s.Bundle().Trusts("old.local") {
		t.Errorf("aliases: %v %v", err, s.Bundle().TrustDomains)
	}
	if err := s.SetTrustDomains([]string{"other.local"}); err == nil || !s.Bundle().Trusts("cluster.local") {
		t.Errorf("a trust domain without roots is taken: %v", s.Bundle().TrustDomains)
	}
}

func TestRefusedByTheAPI(t *testing.T) {
	path := serve(t, &api{refuse: true})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s, err := New(ctx, path, nil, nil); err == nil {
		s.Close()
		t.Error("no error")
	}
	if ctx.Err() != nil {
		t.Error("it waited for an answer that was final")
	}
}

func TestNoSocket(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if s, err := New(ctx, "/nonexistent/socket", nil, nil); err == nil {
		s.Close()
		t.Error("no error")
	}
}
