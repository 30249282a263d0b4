package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

// TestTrustDomainAliases: whom the process lets in follows the mesh configuration
// among the manifests, without a restart.
func TestTrustDomainAliases(t *testing.T) {
	old, err := identity.NewCA("old.local")
	if err != nil {
		t.Fatal(err)
	}
	var roots []byte
	r := newRigFrom(t, func(r *rig) []string {
		roots = bytes.Join([][]byte{r.ca.Bundle().PEM, old.Bundle().PEM}, nil)
		if err := os.WriteFile(filepath.Join(r.dir, "roots.pem"), roots, 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", r.config}
	}, "--drain-delay", "0s")

	svid, err := old.Issue("clients", "curl", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := svid.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"cert.pem": chain, "key.pem": key, "roots.pem": roots} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src, err := identity.FromFiles(dir+"/cert.pem", dir+"/key.pem", dir+"/roots.pem", []string{"old.local", "cluster.local"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	admitted := func() bool {
		c := testmesh.NewClient(src) // a fresh pool: no connection of an earlier try
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		tunnel, err := c.Dial(ctx, r.hbone, "10.96.0.12:80")
		if err != nil {
			return false
		}
		tunnel.Close()
		return true
	}
	if admitted() {
		t.Fatal("a client of another trust domain was let in")
	}
	r.put("istio.yaml", `{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: "trustDomainAliases: [old.local]"}}`)
	r.eventually("clients of an alias are let in", admitted)
	if code, body, _ := r.get("/items"); code != 200 {
		t.Errorf("a client of the mesh itself: %d %s", code, body)
	}
}
