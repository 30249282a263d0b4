package resilience

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/resilience/balance"
)

// open is a setting under which anything may be ejected.
func open(o Outlier) *Outlier {
	if o.MaxEjectionPercent == 0 {
		o.MaxEjectionPercent = 100
	}
	return &o
}

// step is one report: of a failure, or of a status.
type step struct {
	f      Failure
	status int
}

func TestConsecutive(t *testing.T) {
	five, gw, local, ok := step{0, 500}, step{0, 503}, step{FailureConnect, 0}, step{0, 200}
	for _, c := range []struct {
		name  string
		o     Outlier
		steps []step
		want  Cause // of the ejection with the last step, not before; CauseNone: none
	}{
		{"5xx", Outlier{Consecutive5xx: 3}, []step{five, five, five}, CauseConsecutive5xx},
		{"off", Outlier{}, []step{five, gw, local, five, gw, local}, CauseNone},
		{"a success resets", Outlier{Consecutive5xx: 3}, []step{five, five, ok, five, five}, CauseNone},
		{"4xx is a success", Outlier{Consecutive5xx: 2}, []step{five, {0, 499}, five}, CauseNone},
		{"gateway errors are 5xx", Outlier{Consecutive5xx: 3}, []step{gw, five, gw}, CauseConsecutive5xx},
		{"gateway", Outlier{ConsecutiveGateway: 2}, []step{{0, 502}, {0, 504}}, CauseConsecutiveGW},
		{"500 is no gateway error, and resets", Outlier{ConsecutiveGateway: 2}, []step{gw, five, gw, {0, 505}, {0, 501}}, CauseNone},
		{"gateway before 5xx", Outlier{ConsecutiveGateway: 2, Consecutive5xx: 2}, []step{gw, gw}, CauseConsecutiveGW},
		{"local counts as 5xx", Outlier{Consecutive5xx: 3}, []step{local, {FailureReset, 0}, {FailureTryTimeout, 0}}, CauseConsecutive5xx},
		{"local counts as gateway", Outlier{ConsecutiveGateway: 3}, []step{local, {FailureRefused, 0}, {FailureTimeout, 0}}, CauseConsecutiveGW},
		{"split", Outlier{Consecutive5xx: 2, ConsecutiveLocal: 3, SplitLocal: true}, []step{local, local, local}, CauseConsecutiveLocal},
		{"split: a response resets local", Outlier{ConsecutiveLocal: 2, SplitLocal: true}, []step{local, five, local}, CauseNone},
		{"split: local does not touch 5xx", Outlier{Consecutive5xx: 2, ConsecutiveLocal: 9, SplitLocal: true}, []step{five, local, five}, CauseConsecutive5xx},
		{"not split: local limit is off", Outlier{ConsecutiveLocal: 2}, []step{local, local}, CauseNone},
		{"overflow and client", Outlier{Consecutive5xx: 1}, []step{{FailureOverflow, 0}, {FailureClient, 0}}, CauseNone},
		{"overflow does not reset", Outlier{Consecutive5xx: 2}, []step{five, {FailureOverflow, 0}, five}, CauseConsecutive5xx},
	} {
		t.Run(c.name, func(t *testing.T) {
			var events []Event
			d := NewDetector(func(e Event) { events = append(events, e) })
			defer d.Close()
			eps := hosts(3)
			d.Update(open(c.o), eps)
			for i, s := range c.steps {
				if len(events) > 0 {
					t.Fatalf("ejected before step %d", i)
				}
				d.Report(eps[1], s.f, s.status)
			}
			if c.want == CauseNone {
				if len(events) > 0 {
					t.Fatalf("ejected: %+v", events)
				}
				return
			}
			if len(events) == 0 || events[0].Cause != c.want || !events[0].Enforced || events[0].Endpoint != eps[1] {
				t.Fatalf("events %+v, want %s", events, c.want)
			}
			if !eps[1].Host.Ejected.Load() || eps[0].Host.Ejected.Load() {
				t.Error("the wrong host is out")
			}
		})
	}
}

func TestDetectorOff(t *testing.T) {
	d := NewDetector(nil)
	eps := hosts(1)
	for range 100 {
		d.Report(eps[0], FailureConnect, 0)
		d.Report(nil, FailureConnect, 0)
	}
	if eps[0].Host.Ejected.Load() {
		t.Error("ejected without settings")
	}
}

func TestMaxEjectionPercent(t *testing.T) {
	for _, c := range []struct {
		hosts   int
		percent uint32
		one     bool
		want    int
	}{
		{9, 10, false, 0}, // holds for the first one too
		{10, 10, false, 1},
		{19, 10, false, 1},
		{20, 10, false, 2},
		{9, 10, true, 1},
		{20, 10, true, 2},
		{3, 50, false, 1},
		{2, 50, false, 1},
		{4, 0, false, 0},
		{4, 0, true, 1},
		{4, 100, false, 4},
		{4, 250, false, 4},
		{1, 100, false, 1},
	} {
		o := &Outlier{Consecutive5xx: 1, MaxEjectionPercent: c.percent, AlwaysEjectOne: c.one}
		refused := 0
		d := NewDetector(func(e Event) {
			if !e.Enforced {
				refused++
			}
		})
		eps := hosts(c.hosts)
		d.Update(o, eps)
		for _, e := range eps {
			d.Report(e, 0, 500)
		}
		n := 0
		for _, e := range eps {
			if e.Host.Ejected.Load() {
				n++
			}
		}
		d.Close()
		if n != c.want || refused != c.hosts-c.want {
			t.Errorf("%+v: %d ejected, %d refused", c, n, refused)
		}
		if CanEverEject(c.hosts, o) != (c.want > 0) {
			t.Errorf("%+v: CanEverEject is wrong", c)
		}
	}
	if CanEverEject(10, nil) || CanEverEject(10, &Outlier{MaxEjectionPercent: 100}) || CanEverEject(0, open(Outlier{Consecutive5xx: 1, AlwaysEjectOne: true})) {
		t.Error("CanEverEject without a cause or a host")
	}
}

// TestEjectionTimes: base times the number of ejections, at most the maximum; a
// sweep each interval takes the host back; quiet intervals lower the number.
func TestEjectionTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDetector(nil)
		defer d.Close()
		eps := hosts(1)
		h := eps[0].Host
		d.Update(open(Outlier{Consecutive5xx: 1, Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxEjection: 75 * time.Second}), eps)
		eject := func() time.Duration {
			t.Helper()
			d.Report(eps[0], FailureConnect, 0)
			start := time.Now()
			for h.Ejected.Load() {
				time.Sleep(time.Second)
				synctest.Wait()
			}
			return time.Since(start)
		}
		for i, want := range []time.Duration{30, 60, 80, 80, 80} { // 90, 120 are cut to 75, and 10 s sweeps round up
			if got := eject(); got != want*time.Second {
				t.Errorf("ejection %d lasted %v, want %v s", i+1, got, int(want))
			}
		}
		d.mu.Lock()
		if h.Faults.Ejections != 4 { // the least n with 30n >= 75+30
			t.Errorf("multiplier %d, want no more than is of use", h.Faults.Ejections)
		}
		d.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := eject(); got != 30*time.Second {
			t.Errorf("after quiet intervals an ejection lasted %v", got)
		}
	})
}

func TestDetectorStateSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDetector(nil)
		defer d.Close()
		old := hosts(4)
		o := &Outlier{Consecutive5xx: 3, MaxEjectionPercent: 25, BaseEjection: 30 * time.Second}
		d.Update(o, old)
		d.Report(old[0], 0, 500)
		d.Report(old[0], 0, 500)
		fresh := hosts(4)
		for i := range fresh {
			fresh[i].Host = old[i].Host // as config keeps them, by key
		}
		d.Update(o, fresh)
		d.Report(fresh[0], 0, 500)
		if !fresh[0].Host.Ejected.Load() {
			t.Fatal("the third error in a row did not eject after an update")
		}
		d.Update(o, fresh)
		for range 3 {
			d.Report(fresh[1], 0, 500)
		}
		if fresh[1].Host.Ejected.Load() {
			t.Fatal("an update forgot that one is out")
		}
		// The ejected one leaves; late reports about it take no share.
		d.Update(o, fresh[1:])
		for range 6 {
			d.Report(old[0], 0, 500)
		}
		d.Update(&Outlier{Consecutive5xx: 3, MaxEjectionPercent: 34}, fresh[1:])
		for range 3 {
			d.Report(fresh[1], 0, 500)
		}
		if !fresh[1].Host.Ejected.Load() {
			t.Fatal("a host that left still counts")
		}
		d.Update(nil, fresh)
		if fresh[0].Host.Ejected.Load() || fresh[1].Host.Ejected.Load() {
			t.Error("hosts stay out with detection off")
		}
	})
}

func TestSuccessRate(t *testing.T) {
	for _, split := range []bool{false, true} {
		t.Run(fmt.Sprint("split ", split), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out []Cause
				d := NewDetector(func(e Event) { out = append(out, e.Cause) })
				defer d.Close()
				eps := hosts(6)
				d.Update(open(Outlier{SuccessRate: true, SplitLocal: split, Interval: 10 * time.Second}), eps)
				bad := FailureNone
				want := CauseSuccessRate
				if split {
					bad, want = FailureReset, CauseLocalSuccessRate
				}
				load := func(volume, failing int, to []*balance.Endpoint) {
					for _, e := range to {
						for i := range volume {
							if e == eps[2] && i < failing {
								d.Report(e, bad, 500)
							} else {
								d.Report(e, 0, 200)
							}
						}
					}
					time.Sleep(10 * time.Second)
					synctest.Wait()
				}
				load(99, 99, eps) // too few requests to judge
				load(100, 50, eps[:4])
				if len(out) != 0 {
					t.Fatalf("ejected with too few requests or hosts: %v", out)
				}
				load(100, 50, eps)
				if !slices.Equal(out, []Cause{want}) || !eps[2].Host.Ejected.Load() {
					t.Fatalf("events %v, want %s", out, want)
				}
			})
		})
	}
}

// TestSuccessRateFactor: with six hosts of which one is worse, the worse one lies
// sqrt(5) = 2.236 deviations under the mean, whatever its rate.
func TestSuccessRateFactor(t *testing.T) {
	for factor, want := range map[uint32]bool{2200: true, 2300: false, 1000: true, 0: true} {
		synctest.Test(t, func(t *testing.T) {
			d := NewDetector(nil)
			defer d.Close()
			eps := hosts(6)
			d.Update(open(Outlier{SuccessRate: true, SuccessRateVolume: 10, SuccessRateStdevFactor: factor}), eps)
			for i, e := range eps {
				for n := range 10 {
					status := 200
					if i == 0 && n == 0 {
						status = 500
					}
					d.Report(e, 0, status)
				}
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := eps[0].Host.Ejected.Load(); got != want {
				t.Errorf("factor %d: ejected %v", factor, got)
			}
		})
	}
}

// TestEjectionsStayInBounds: whatever is reported, no more than the percentage is
// out at any time, and the count never drifts.
func TestEjectionsStayInBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 15).Draw(rt, "hosts")
		o := &Outlier{
			Consecutive5xx:     uint32(rapid.IntRange(1, 3).Draw(rt, "5xx")),
			MaxEjectionPercent: uint32(rapid.IntRange(0, 100).Draw(rt, "percent")),
			AlwaysEjectOne:     rapid.Bool().Draw(rt, "one"),
		}
		steps := rapid.SliceOfN(rapid.IntRange(0, n+1), 1, 150).Draw(rt, "steps")
		var failed string
		synctest.Test(t, func(*testing.T) {
			d := NewDetector(nil)
			defer d.Close()
			eps := hosts(n)
			d.Update(o, eps)
			for _, s := range steps {
				switch {
				case s < n:
					d.Report(eps[s], 0, 503)
				case s == n:
					time.Sleep(15 * time.Second)
					synctest.Wait()
				default:
					d.Update(o, eps)
				}
				out := 0
				for _, e := range eps {
					if e.Host.Ejected.Load() {
						out++
					}
				}
				limit := n * int(o.MaxEjectionPercent) / 100
				if o.AlwaysEjectOne {
					limit = max(limit, 1)
				}
				d.mu.Lock()
				counted := d.ejected
				d.mu.Unlock()
				if out > limit || out != counted {
					failed = fmt.Sprintf("%d of %d out, %d counted, %d allowed", out, n, counted, limit)
					return
				}
			}
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// TestEjectionReachesPick: the detector and a Set meet in the Host.
func TestEjectionReachesPick(t *testing.T) {
	eps := hosts(4)
	s := balance.NewSet(balance.Policy{Kind: balance.RoundRobin}, eps, nil)
	d := NewDetector(nil)
	defer d.Close()
	d.Update(open(Outlier{Consecutive5xx: 5}), s.Endpoints())
	for range 5 {
		d.Report(eps[2], 0, 500)
	}
	for range 40 {
		if s.Pick(0, nil, 0) == eps[2] {
			t.Fatal("an ejected host was picked")
		}
	}
}
