package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"waypoint.dev/waypoint/conformance/measure"
)

// Budgets of the real binary. They are counts and sizes, which repeat on a busy
// machine as on an idle one; docs/performance.md has the figures behind them.
const (
	budgetRequests = 100_000 // of each shape
	// maxMallocs a request. What is left of them is the runtime's own, and what
	// happens by the second and not by the request.
	maxMallocs = 0.05
	// maxIdleAnon is of a waypoint that serves and has seen no traffic: memory of its
	// own, which nothing but the process can give back.
	maxIdleAnon = 8 << 20
	// maxIdleRSS is that and the pages of the binary that the kernel maps around each
	// page fault while the file is cached, up to all of it.
	maxIdleRSS = 36 << 20
	// maxBusyRSS is behind the requests of this test.
	maxBusyRSS = 48 << 20
	// maxBusyAnon likewise.
	maxBusyAnon = 12 << 20
	// maxCalls are the read and write system calls a request at 8 x 1. Four reads
	// (two of which find nothing), two writes: what nothing batches costs six.
	maxCalls = 6.5
)

// buildWaypoint builds the binary as make build does.
func buildWaypoint(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "waypoint")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./cmd/waypoint")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// TestBudget sends requests through a waypoint process and counts.
func TestBudget(t *testing.T) {
	l, err := start(t.Context(), buildWaypoint(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	size := func(what string, got, budget int64) {
		t.Helper()
		if t.Logf("%s %.1f MiB", what, measure.MiB(got)); got <= 0 || got > budget {
			t.Errorf("%s %.1f MiB, budget %.1f", what, measure.MiB(got), measure.MiB(budget))
		}
	}
	size("idle RSS", l.waypoint.RSS(), maxIdleRSS)
	size("idle anonymous memory", l.waypoint.Anon(), maxIdleAnon)
	for _, s := range []shape{{"8 x 1", 8, 1, 0}, {"4 x 4", 4, 4, 0}} {
		f, err := l.sample(t.Context(), s, budgetRequests, 1)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		t.Logf("%s: %.4f mallocs, %.2f reads and %.2f writes a request, RSS %.1f MiB", s.name, f.mallocs[0], f.reads[0], f.writes[0], measure.MiB(f.rss))
		if f.mallocs[0] > maxMallocs {
			t.Errorf("%s: %.4f mallocs a request, budget %.2f", s.name, f.mallocs[0], maxMallocs)
		}
		if n := f.reads[0] + f.writes[0]; n > maxCalls {
			t.Errorf("%s: %.2f reads and writes a request, budget %.1f", s.name, n, maxCalls)
		}
		size(s.name+": RSS", f.rss, maxBusyRSS)
		size(s.name+": anonymous memory", l.waypoint.Anon(), maxBusyAnon)
	}
}
