package spiffeapi

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, refuse bool) *testmesh.WorkloadAPI {
	t.Helper()
	a, err := testmesh.NewWorkloadAPI(refuse)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func say(t *testing.T, a *testmesh.WorkloadAPI, ca *identity.CA, sa string) {
	t.Helper()
	s, err := ca.Issue("shop", sa, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Say(s, ca); err != nil {
		t.Fatal(err)
	}
}

func TestFollowsTheAPI(t *testing.T) {
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	a := serve(t, false)
	say(t, a, ca, "one")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := New(ctx, a.Path, []string{"cluster.local"}, nil)
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
	say(t, a, ca, "two")
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
	path := serve(t, true).Path
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
