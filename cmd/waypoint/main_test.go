package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// binary is the waypoint that these tests run as users do.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "waypoint-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "waypoint")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// shop copies the example with edits: each replaces one string in one file.
func shop(t *testing.T, edits ...[3]string) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob("../../examples/shop/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("the example has %d files: %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range edits {
			if filepath.Base(f) == e[0] {
				if !strings.Contains(string(b), e[1]) {
					t.Fatalf("%s does not contain %q", f, e[1])
				}
				b = []byte(strings.Replace(string(b), e[1], e[2], 1))
			}
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDemo runs the tour, and then breaks the example in three ways: each must
// make exactly its own row fail, so every row shows what it says it shows.
func TestDemo(t *testing.T) {
	policy, err := os.ReadFile("../../examples/shop/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.SplitAfter(string(policy), "---\n")
	for _, tt := range []struct {
		name  string
		edits [][3]string
		fails string // name of the one row that fails; empty: none
	}{
		{"as shipped", nil, ""},
		{"policy removed", [][3]string{{"policy.yaml", docs[0], ""}}, "denied"},
		{"weights changed", [][3]string{{"route.yaml", "weight: 90", "weight: 10"}}, "split"},
		{"template broken", [][3]string{{"policy.yaml", "/orders/{*}/receipt", "/orders/*/receipt"}}, "template"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := exec.Command(binary, "demo", "--config", shop(t, tt.edits...))
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			var failed []string
			for line := range strings.Lines(out.String()) {
				if rest, ok := strings.CutPrefix(line, "FAIL "); ok && !strings.HasPrefix(rest, " ") {
					name, _, _ := strings.Cut(rest, ":")
					failed = append(failed, name)
				}
			}
			switch {
			case tt.fails == "" && (err != nil || len(failed) > 0):
				t.Errorf("%v\n%s", err, out.String())
			case tt.fails != "" && (err == nil || len(failed) != 1 || failed[0] != tt.fails):
				t.Errorf("exit %v, failing rows %q, want exactly %q\n%s", err, failed, tt.fails, out.String())
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edits [][3]string
		ok    bool
		says  []string
	}{
		{"as shipped", nil, true, []string{"cart.shop.svc.cluster.local:80", "shop/cart-clients", "rule split"}},
		{"unknown field", [][3]string{{"policy.yaml", "action: ALLOW", "acton: ALLOW"}}, false, []string{"policy.yaml", "acton", "cart-clients"}},
		{"braces", [][3]string{{"policy.yaml", "/orders/{*}/receipt", "/orders/{id}/receipt"}}, false, []string{"cart-receipts", "paths[0]"}},
		{"no backend", [][3]string{{"route.yaml", "{name: cart-v1, port: 80, weight: 90}", "{name: cart-v9, port: 80, weight: 90}"}}, false, []string{"cart-v9", "backendRefs[0]", "cart: ResolvedRefs False BackendNotFound", "cart: Accepted True Accepted"}},
		{"broken rule", [][3]string{{"route.yaml", "{name: cart-v1, port: 80, weight: 90}", "{name: cart-v1, weight: 90}"}}, false, []string{"route.yaml", "Must have port", "PartiallyInvalid True UnsupportedValue: Broken rules answer 500"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := exec.Command(binary, "check", "--status", shop(t, tt.edits...)).CombinedOutput()
			if (err == nil) != tt.ok {
				t.Errorf("exit %v\n%s", err, out)
			}
			for _, s := range tt.says {
				if !strings.Contains(string(out), s) {
					t.Errorf("%q is not said:\n%s", s, out)
				}
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		ok   bool
		says string
	}{
		{[]string{"--help"}, true, "waypoint demo"},
		{[]string{"version"}, true, "devel"},
		{[]string{"run"}, false, "--config or --xds is required"},
		{[]string{"run", "--config", "."}, false, "--cert, --key and --roots are required"},
		{[]string{"run", "--config", ".", "--log-format", "xml"}, false, "use text or json"},
		{[]string{"check"}, false, `write "waypoint check DIR" (waypoint check --help says more)`},
		{[]string{"check", "a", "b"}, false, "2 arguments"},
		{[]string{"explain"}, false, `write "waypoint explain [METHOD] URL"`},
		{[]string{"proxy"}, false, `write "waypoint proxy waypoint"`},
		{[]string{"check", "/nonexistent"}, false, "/nonexistent"},
		{[]string{"fly"}, false, "unknown command"},
	} {
		out, err := exec.Command(binary, tt.args...).CombinedOutput()
		if (err == nil) != tt.ok || !strings.Contains(string(out), tt.says) {
			t.Errorf("waypoint %v: %v, %q is not in:\n%s", tt.args, err, tt.says, out)
		}
	}
}
