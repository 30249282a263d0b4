package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEndpoint(t *testing.T) {
	table := filepath.Join(t.TempDir(), "table")
	t.Setenv("FORWARD", table)
	if _, err := endpoint("10.96.0.1:80"); err == nil {
		t.Error("an endpoint without a table")
	}
	if err := os.WriteFile(table, []byte("10.96.0.1:80 10.244.0.5:8080\n10.96.0.1:80 10.244.0.6:8080\nbroken\n10.96.0.2:80 10.244.0.7:80\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 1000 { // that one of two never comes has a chance of 2^-999
		to, err := endpoint("10.96.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		seen[to] = true
	}
	if len(seen) != 2 || !seen["10.244.0.5:8080"] || !seen["10.244.0.6:8080"] {
		t.Errorf("%v", seen)
	}
	if to, err := endpoint("10.96.0.2:80"); err != nil || to != "10.244.0.7:80" {
		t.Errorf("%s %v", to, err)
	}
	for _, unknown := range []string{"10.96.0.1:81", "10.96.0.1:8", "broken", ""} {
		if to, err := endpoint(unknown); err == nil {
			t.Errorf("%q: %s", unknown, to)
		}
	}
}

func TestFlag(t *testing.T) {
	args := os.Args
	defer func() { os.Args = args }()
	os.Args = []string{"waypoint", "run", "--cert=/a", "--cert-more=/b", "--key="}
	if flag("cert") != "/a" || flag("key") != "" || flag("roots") != "" {
		t.Errorf("%q %q %q", flag("cert"), flag("key"), flag("roots"))
	}
}
