package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/conformance/measure"
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
	// alone is the share of the machine's cores from which on it counts as ours. The
	// kernel's own share of the traffic, which is nobody's, is a twentieth.
	alone = .93
	// inTime is what a user waits for an answer.
	inTime = time.Second
)

// shed reads how much the waypoint says it refused, by resource.
func shed(t *testing.T, p *measure.Waypoint) map[string]float64 {
	t.Helper()
	res, err := http.Get("http://" + p.Admin + "/stats/prometheus")
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
func watchRSS(p *measure.Waypoint) (stop func() int64) {
	done, most := make(chan struct{}), int64(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, p.RSS())
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
	return measure.PID(os.Getpid()).CPU() + l.backend.CPU() + l.waypoint.CPU() + time.Duration(idle)*10*time.Millisecond // USER_HZ is 100
}

// overload is a waypoint with little room and those who ask it.
type overload struct {
	*lab
	crowd load.Crowd
}

// period is what became of one span of asking.
type period struct {
	*load.Tally
	perCPU float64 // good answers a second of the CPU that was there for the three
	alone  bool    // nothing else used the machine
}

func (o *overload) ask(t *testing.T, name string, users int, rate float64, span time.Duration) (p period) {
	t.Helper()
	c := o.crowd
	c.Users, c.Rate, c.Span = users, rate, span
	had := o.ours()
	r, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	had = o.ours() - had
	p = period{r, float64(r.Good) / had.Seconds(), had.Seconds() >= alone*float64(runtime.NumCPU())*r.Elapsed.Seconds()}
	t.Logf("%-8s %v; %.2f cores were ours, %.0f good a CPU second", name, r, had.Seconds()/r.Elapsed.Seconds(), p.perCPU)
	if r.Failed > 0 {
		t.Errorf("%s: %d questions failed, the first with %v", name, r.Failed, r.FirstError)
	}
	return p
}

// round measures the peak, twice its load and the peak again. It returns what is wrong
// with the goodput, empty: nothing, and fails the test for the rest.
func (o *overload) round(t *testing.T) (wrong string) {
	t.Helper()
	peakSpan := max(2*time.Second, *overloadSpan/6)
	before := o.ask(t, "peak", overloadTunnels, 0, peakSpan)
	stop, had := watchRSS(o.waypoint), shed(t, o.waypoint)
	over := o.ask(t, "twice", overloadUsers, 2*before.Goodput(), *overloadSpan)
	counted, rss := shed(t, o.waypoint), stop()
	after := o.ask(t, "peak", overloadTunnels, 0, peakSpan)

	peak := (before.Goodput() + after.Goodput()) / 2
	share, clock := 2*over.perCPU/(before.perCPU+after.perCPU), over.Goodput()/peak
	t.Logf("%d cores: goodput %.0f/s of a peak of %.0f/s (%.0f %%), by CPU %.0f %%; RSS at most %.1f MiB of %.0f", runtime.NumCPU(),
		over.Goodput(), peak, 100*clock, 100*share, measure.MiB(rss), measure.MiB(overloadMemory))
	if rss > overloadMemory {
		t.Errorf("RSS %.1f MiB, limit %.0f", measure.MiB(rss), measure.MiB(overloadMemory))
	}
	if over.Shed+over.Refused == 0 {
		t.Error("nothing was shed, so there was no overload")
	}
	if n := counted["streams"] - had["streams"]; n != float64(over.Shed+over.Refused) {
		t.Errorf("the waypoint counted %.0f tunnels shed, the client %d", n, over.Shed+over.Refused)
	}
	t.Logf("shed: %v", counted)
	switch quiet := before.alone && over.alone && after.alone; {
	case share < minGoodput:
		return fmt.Sprintf("goodput fell to %.0f %% of the peak, by CPU", 100*share)
	case quiet && clock < minGoodput:
		return fmt.Sprintf("goodput fell to %.0f %% of the peak, by the clock", 100*clock)
	case !quiet:
		t.Log("other work used the machine: nothing is held by the clock")
	}
	return ""
}

// TestOverload asks a waypoint for twice what it can answer, in an open loop, with
// twice the tunnels that it has room for. The load client, the waypoint and the
// backend share this machine's cores, so what is saturated is all three together;
// peak and overload are measured by the same client, the peak before and after.
// What is compared is good answers a second of the CPU that was there for the
// three: on a shared machine that is not the same from one second to the next. On
// one that nothing else used they are compared by the clock too. Work that comes or
// goes between the periods also moves what a request costs, so a round that falls
// short is repeated, twice at most; a waypoint that cannot do it never does.
func TestOverload(t *testing.T) {
	const rounds = 3
	t.Setenv("GOMEMLIMIT", strconv.Itoa(overloadMemory))
	l, err := start(t.Context(), buildWaypoint(t), "--max-tunnels", strconv.Itoa(overloadTunnels))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	w := l.workload(shape{}, "/1024")
	o := &overload{l, load.Crowd{Waypoint: w.Waypoint, Client: w.Client, Authority: w.Authority, Request: w.Request, PerConn: 16, Deadline: inTime}}
	o.ask(t, "warm-up", overloadTunnels, 0, time.Second)
	for i := 1; ; i++ {
		wrong := o.round(t)
		if wrong == "" || t.Failed() {
			return
		}
		if i == rounds {
			t.Fatal(wrong)
		}
		t.Log(wrong, "- once more")
	}
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
	if n := shed(t, l.waypoint)["connections"]; n != tries {
		t.Errorf("%v were counted", n)
	}
}
