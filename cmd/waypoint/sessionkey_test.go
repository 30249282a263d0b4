package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/resilience/session"
)

func TestSessionKeyFile(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old, fresh := strings.Repeat("o", 32), strings.Repeat("n", 32)
	before, err := sessionKeeper(write(old + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := sessionKeeper(write("\n" + fresh + "\n" + old))
	if err != nil {
		t.Fatal(err)
	}
	spec, now := &session.Spec{Scope: "r"}, time.Now()
	token := session.New("b", "e", now)
	if _, err := after.Open(spec, string(before.Seal(nil, spec, token)), now); err != nil {
		t.Errorf("a replica with the new key on top refuses tokens of the old one: %v", err)
	}
	if _, err := before.Open(spec, string(after.Seal(nil, spec, token)), now); err == nil {
		t.Error("the new key does not make the tokens")
	}
	if k, err := sessionKeeper(""); k != nil || err != nil {
		t.Error(k, err)
	}
	for name, path := range map[string]string{"empty": write(""), "short": write("abc"), "missing": filepath.Join(t.TempDir(), "no")} {
		if _, err := sessionKeeper(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
