package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

// files is an identity that ca issued, read from files as in a mesh that has the
// roots of several authorities.
func (m *mesh) files(ca *identity.CA, ns, sa string, domains []string, roots ...*identity.CA) identity.Source {
	m.root.Helper()
	svid, err := ca.Issue(ns, sa, time.Hour)
	if err != nil {
		m.root.Fatal(err)
	}
	chain, key, err := svid.PEM()
	if err != nil {
		m.root.Fatal(err)
	}
	var bundle []byte
	for _, r := range roots {
		bundle = append(bundle, r.Bundle().PEM...)
	}
	dir := m.root.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			m.root.Fatal(err)
		}
		return path
	}
	s, err := identity.FromFiles(file("cert.pem", chain), file("key.pem", key), file("roots.pem", bundle), domains, nil)
	if err != nil {
		m.root.Fatal(err)
	}
	m.root.Cleanup(func() { s.Close() })
	return s
}

// A mesh that changes its trust domain: clients still have certificates of the old
// one, by an authority of its own. They are let in as long as the mesh configuration
// has the alias, and policies take their principals for the mesh's.
func TestClientOfAnAliasedTrustDomain(t *testing.T) {
	const present, former = "cluster.local", "old.local"
	old, err := identity.NewCA(former)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := identity.NewCA("strange.local")
	if err != nil {
		t.Fatal(err)
	}
	var own identity.Source
	m := startMeshAs(t, func(m *mesh) identity.Source {
		own = m.files(m.ca, "shop", "waypoint", []string{present}, m.ca, old, stranger)
		return own
	}, nil)
	// The waypoint trusts whom the mesh configuration names, as its binary does.
	serve := func(more ...string) {
		t.Helper()
		mesh := m.guard(more...).Mesh
		if err := own.(interface{ SetTrustDomains([]string) error }).SetTrustDomains(append([]string{mesh.TrustDomain}, mesh.TrustAliases...)); err != nil {
			t.Fatal(err)
		}
	}
	client := func(ca *identity.CA) *testmesh.Client {
		c := testmesh.NewClient(m.files(ca, "others", "curl", []string{former, present}, m.ca, old))
		t.Cleanup(c.Close)
		return c
	}
	dial := func(c *testmesh.Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		tunnel, err := c.Dial(ctx, m.w.Addr, cartVIP)
		if err == nil {
			tunnel.Close()
		}
		return err
	}
	alias := meshConfig("trustDomainAliases: [" + former + "]")
	deny := func(principal string) string {
		return policy("shop", "p", "{"+onCart+", action: DENY, rules: [{from: [{source: {principals: ["+principal+"]}}]}]}")
	}
	denyDomain := func(domain string) string {
		return policy("shop", "p", "{"+onCart+`, action: DENY, rules: [{from: [{source: {trustDomains: ["`+domain+`"]}}]}]}`)
	}

	// A root is not enough: the domain has to be the mesh's.
	serve()
	if dial(client(old)) == nil {
		t.Error("a client of another trust domain was let in")
	}

	serve(alias)
	if dial(client(stranger)) == nil {
		t.Error("a client of a domain that is no alias was let in")
	}
	m.clients["former"] = client(old)
	m.clients["others"] = client(m.ca)
	for _, tt := range []struct {
		name, policies string
		former, others bool // denied to clients of the former and of the present domain
	}{
		{name: "no policy"},
		{"principal of the mesh", deny(present + "/ns/others/sa/curl"), true, true},
		{"principal of the alias", deny(former + "/ns/others/sa/curl"), true, true},
		{"another account", deny(former + "/ns/others/sa/wget"), false, false},
		{"wildcard of the mesh", deny(`"` + present + `/ns/others/*"`), false, true},
		{"wildcard of the alias", deny(`"` + former + `/ns/others/*"`), true, false},
		{"any domain", deny(`"*/ns/others/sa/curl"`), true, true},
		{"a domain that is no alias", deny("strange.local/ns/others/sa/curl"), false, false},
		{"trust domain of the mesh", denyDomain(present), true, true},
		{"trust domain of the alias", denyDomain(former), true, true},
		{"trust domain, wildcard", denyDomain("old*"), true, false},
		{"namespace", policy("shop", "p", "{"+onCart+", action: DENY, "+fromOthers+"}"), true, true},
		{"service account", policy("shop", "p", "{"+onCart+", action: DENY, rules: [{from: [{source: {serviceAccounts: [others/curl]}}]}]}"), true, true},
		{"not the principal", policy("shop", "p", "{"+onCart+", action: DENY, rules: [{from: [{source: {notPrincipals: ["+present+"/ns/others/sa/curl]}}]}]}"), false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.t = t
			serve(alias, tt.policies)
			for ns, denied := range map[string]bool{"former": tt.former, "others": tt.others} {
				a := m.askAt(ns, cartVIP, "GET", "/a")
				if a.rec.Denied != denied || (a.StatusCode == 403) != denied || !denied && a.StatusCode != 200 {
					t.Errorf("%s: %d by %q %q", ns, a.StatusCode, a.rec.Policy, a.rec.Reason)
				}
			}
		})
	}
	m.t = t

	// An alias that goes takes its clients with it.
	serve()
	for deadline := time.Now().Add(10 * time.Second); dial(m.clients["former"]) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("still let in")
		}
	}
	if a := m.askAt("others", cartVIP, "GET", "/a"); a.StatusCode != 200 {
		t.Errorf("clients of the mesh itself: %d", a.StatusCode)
	}
}
