package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"waypoint.dev/waypoint/conformance/load"
)

var overloadSpan = flag.Duration("overload.duration", 5*time.Second, "how long the overload lasts")

const (
	// What the waypoint is given: room for so many tunnels and so much memory.
	overloadTunnels = 256
	overloadMemory  = 192 << 20
	// The crowd has twice the users that there is room for, who ask twice as much as
	// can be answered.
	overloadUsers = 2 * overloadTunnels
	// minGoodput is the share of the peak that is left at twice its load.
	minGoodput = .8
	// inTime is what a user waits for an answer.
	inTime = time.Second
)

// shed reads how much the waypoint says it refused, by resource.
func (p *process) shed(t *testing.T) map[string]float64 {
	t.Helper()
	res, err := http.Get("http://" + p.admin + "/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out := map[string]float64{}
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), `waypoint_overload_shed_total{resource="overload_`)
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(rest, `"} `)
		if out[name], err = strconv.ParseFloat(value, 64); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// watchRSS samples the resident memory until stop is called, which returns the most.
func (p *process) watchRSS() (stop func() int64) {
	done, most := make(chan struct{}), int64(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, p.rss())
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() int64 { close(done); wg.Wait(); return most }
}

// ours is the CPU that was there for the three processes of the test: what they
// used and what nobody did. Other work on the machine had the rest.
func (l *lab) ours() time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	var idle int64
	if f := strings.Fields(string(b)); len(f) > 5 { // cpu user nice system idle iowait
		a, _ := strconv.ParseInt(f[4], 10, 64)
		b, _ := strconv.ParseInt(f[5], 10, 64)
		idle = a + b
	}
	own := process{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
	backend := process{cmd: l.backend}
	return own.cpu() + backend.cpu() + l.waypoint.cpu() + time.Duration(idle)*10*time.Millisecond // USER_HZ is 100
}

// TestOverload asks a waypoint for twice what it can answer, in an open loop, with
// twice the tunnels that it has room for. The load client, the waypoint and the
// backend share this machine's cores, so what is saturated is all three together;
// peak and overload are measured by the same client, the peak before and after.
// What is compared is good answers a second of the CPU that was there for the
// three: on a shared machine that is not the same from one second to the next.
func TestOverload(t *testing.T) {
	t.Setenv("GOMEMLIMIT", strconv.Itoa(overloadMemory))
	l, err := start(t.Context(), buildWaypoint(t), "--max-tunnels", strconv.Itoa(overloadTunnels))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	w := l.workload(shape{}, "/1024")
	crowd := load.Crowd{Waypoint: w.Waypoint, Client: w.Client, Authority: w.Authority, Request: w.Request, PerConn: 16, Deadline: inTime}
	run := func(name string, users int, rate float64, span time.Duration) (r *load.Tally, perCPU float64) {
		t.Helper()
		c := crowd
		c.Users, c.Rate, c.Span = users, rate, span
		had := l.ours()
		r, err := c.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		had = l.ours() - had
		perCPU = float64(r.Good) / had.Seconds()
		t.Logf("%-8s %v; %.2f cores were ours, %.0f good a CPU second", name, r, had.Seconds()/r.Elapsed.Seconds(), perCPU)
		if r.Failed > 0 {
			t.Errorf("%s: %d questions failed, the first with %v", name, r.Failed, r.FirstError)
		}
		return r, perCPU
	}
	peakSpan := max(2*time.Second, *overloadSpan/6)
	run("warm-up", overloadTunnels, 0, time.Second)
	before, cpuBefore := run("peak", overloadTunnels, 0, peakSpan)
	stop, shed := l.waypoint.watchRSS(), l.waypoint.shed(t)
	over, cpuOver := run("twice", overloadUsers, 2*before.Goodput(), *overloadSpan)
	counted, rss := l.waypoint.shed(t), stop()
	after, cpuAfter := run("peak", overloadTunnels, 0, peakSpan)

	peak := (before.Goodput() + after.Goodput()) / 2
	share := cpuOver / ((cpuBefore + cpuAfter) / 2)
	t.Logf("%d cores: goodput %.0f/s of a peak of %.0f/s (%.0f %%), by CPU %.0f %%; RSS at most %.1f MiB of %.0f", runtime.NumCPU(),
		over.Goodput(), peak, 100*over.Goodput()/peak, 100*share, mib(rss), mib(overloadMemory))
	if share < minGoodput {
		t.Errorf("goodput fell to %.0f %% of the peak", 100*share)
	}
	if rss > overloadMemory {
		t.Errorf("RSS %.1f MiB, limit %.0f", mib(rss), mib(overloadMemory))
	}
	if over.Shed+over.Refused == 0 {
		t.Error("nothing was shed, so there was no overload")
	}
	if n := counted["streams"] - shed["streams"]; n != float64(over.Shed+over.Refused) {
		t.Errorf("the waypoint counted %.0f tunnels shed, the client %d", n, over.Shed+over.Refused)
	}
	t.Logf("shed: %v", counted)
}

// TestConnectionsOverTheLimit: HBONE connections over the limit are closed and
// counted, and those there are do not suffer.
func TestConnectionsOverTheLimit(t *testing.T) {
	const limit, tries = 20, 50
	l, err := start(t.Context(), buildWaypoint(t), "--max-connections", fmt.Sprint(limit))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	s, err := load.Open(t.Context(), l.workload(shape{"", limit, 1, 0}, "/64"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range tries {
		if _, err := load.Open(t.Context(), l.workload(shape{"", 1, 1, 0}, "/64")); err == nil {
			t.Fatal("a connection over the limit was served")
		}
	}
	if err := s.Each(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if n := l.waypoint.shed(t)["connections"]; n != tries {
		t.Errorf("%v were counted", n)
	}
}
