package balance

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestDistribution: 100,000 picks; the slack is over six standard deviations of a
// binomial share, and the ring's own unevenness for the hashing kinds.
func TestDistribution(t *testing.T) {
	const n = 100_000
	weights := []uint32{1, 2, 3, 4}
	for _, k := range kinds() {
		t.Run(k.name(), func(t *testing.T) {
			eps := endpoints(4)
			for i, e := range eps {
				e.Weight = weights[i]
			}
			slack := 0.01
			if k == RingHash {
				slack = 0.05
			}
			got := counts(t, NewSet(Policy{Kind: k, Rand: seeded(1)}, eps, nil), n)
			for i, e := range eps {
				within(t, e.Key, got[e], n, float64(weights[i])/10, slack)
			}
			equal := endpoints(5)
			got = counts(t, NewSet(Policy{Kind: k, Rand: seeded(2)}, equal, nil), n)
			for _, e := range equal {
				within(t, e.Key, got[e], n, 0.2, slack)
			}
		})
	}
}

func TestRoundRobinTakesTurns(t *testing.T) {
	eps := endpoints(7)
	s := NewSet(Policy{Kind: RoundRobin, Rand: seeded(1)}, eps, nil)
	for range 20 {
		for e, c := range counts(t, s, 7) {
			if c != 1 {
				t.Fatalf("%s came %d times in one round", e.Key, c)
			}
		}
	}
	// Weighted: in each 6 turns exactly by weight, once every deadline is underway.
	eps = endpoints(3)
	eps[1].Weight, eps[2].Weight = 2, 3
	s = NewSet(Policy{Kind: RoundRobin, Rand: seeded(1)}, eps, nil)
	counts(t, s, 12)
	got := counts(t, s, 600)
	for i, e := range eps {
		if want := 100 * (i + 1); got[e] < want-1 || got[e] > want+1 {
			t.Errorf("weight %d: %d turns of 600", i+1, got[e])
		}
	}
}

func TestLeastRequestPrefersIdle(t *testing.T) {
	t.Run("two", func(t *testing.T) {
		eps := endpoints(2)
		s := NewSet(Policy{Rand: seeded(1)}, eps, nil)
		eps[0].Host.Active.Store(5)
		if got := counts(t, s, 1000); got[eps[0]] != 0 {
			t.Errorf("the busier of two was picked %d times", got[eps[0]])
		}
	})
	t.Run("levels out", func(t *testing.T) {
		eps := endpoints(100)
		s := NewSet(Policy{Rand: seeded(1)}, eps, nil)
		for range 10_000 {
			s.Pick(0, nil, 0).Host.Active.Add(1)
		}
		for _, e := range eps {
			// Two choices keep the gap at about log log n.
			if a := e.Host.Active.Load(); a < 95 || a > 105 {
				t.Errorf("%s has %d of 100", e.Key, a)
			}
		}
	})
	t.Run("unequal weights", func(t *testing.T) {
		eps := endpoints(2)
		eps[0].Weight = 4
		s := NewSet(Policy{Rand: seeded(1)}, eps, nil)
		got := counts(t, s, 10_000)
		within(t, "idle", got[eps[0]], 10_000, 0.8, 0.01)
		eps[0].Host.Active.Store(3) // 4/(3+1) = 1: equal shares
		counts(t, s, 10)
		got = counts(t, s, 10_000)
		within(t, "busy", got[eps[0]], 10_000, 0.5, 0.01)
	})
}

func TestHealthIsRespected(t *testing.T) {
	for _, k := range kinds() {
		t.Run(k.name(), func(t *testing.T) {
			eps := endpoints(6)
			eps[0].Health, eps[1].Health = Unhealthy, Draining
			s := NewSet(Policy{Kind: k, Rand: seeded(3)}, eps, nil)
			eps[2].Host.Ejected.Store(true)
			got := counts(t, s, 2000)
			for i, e := range eps {
				if (got[e] > 0) != (i > 2) {
					t.Errorf("endpoint %d picked %d times", i, got[e])
				}
			}
			if s.Available() != 3 {
				t.Errorf("available %d, want 3", s.Available())
			}
			eps[2].Host.Ejected.Store(false)
			if counts(t, s, 2000)[eps[2]] == 0 {
				t.Error("a host that came back is not picked")
			}
			for _, e := range eps {
				e.Host.Ejected.Store(true)
			}
			if e := s.Pick(0, nil, 0); e != nil {
				t.Errorf("picked %s with all ejected", e.Key)
			}
		})
	}
}

func TestPickOfNothing(t *testing.T) {
	var none *Set
	if none.Pick(1, nil, 0) != nil || none.Endpoints() != nil || none.Available() != 0 {
		t.Error("a nil set has endpoints")
	}
	for _, k := range kinds() {
		if NewSet(Policy{Kind: k}, nil, nil).Pick(1, nil, 1) != nil {
			t.Error("an empty set has endpoints")
		}
		eps := endpoints(2)
		eps[0].Health, eps[1].Health = Unhealthy, Unhealthy
		if NewSet(Policy{Kind: k}, eps, nil).Pick(1, eps, 1) != nil {
			t.Error("picked an unhealthy endpoint")
		}
	}
}

// TestSkip: while there is a host that was not tried, it is chosen, in every
// policy and for every hash; else a tried one is better than none.
func TestSkip(t *testing.T) {
	for _, k := range kinds() {
		t.Run(k.name(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(1, 12).Draw(t, "endpoints")
				eps := endpoints(n)
				for _, e := range eps {
					e.Weight = uint32(rapid.IntRange(1, 3).Draw(t, "weight"))
					e.Priority = uint32(rapid.IntRange(0, 2).Draw(t, "priority"))
				}
				s := NewSet(Policy{Kind: k, TableSize: 101, RingMin: 64, Rand: seeded(rapid.Uint64().Draw(t, "seed"))}, eps, nil)
				down := map[*Endpoint]bool{}
				for _, i := range rapid.SliceOfN(rapid.IntRange(0, n-1), 0, n).Draw(t, "down") {
					eps[i].Host.Ejected.Store(true)
					down[eps[i]] = true
				}
				var skip []*Endpoint
				for try := range n + 2 {
					e := s.Pick(rapid.Uint64().Draw(t, "hash"), skip, 0)
					up := n - len(down)
					switch {
					case up == 0:
						if e != nil {
							t.Fatalf("picked %s with all ejected", e.Key)
						}
						return
					case e == nil:
						t.Fatalf("nobody picked with %d available", up)
					case down[e]:
						t.Fatalf("picked ejected %s", e.Key)
					case try < up && slices.Contains(skip, e):
						t.Fatalf("try %d came to %s again with %d available", try, e.Key, up)
					}
					skip = append(skip, e)
				}
			})
		})
	}
}

// TestSkipAcrossSets: a host tried by way of an older set's Endpoint is the same host.
func TestSkipAcrossSets(t *testing.T) {
	old := endpoints(2)
	s := NewSet(Policy{Kind: RoundRobin}, old, nil)
	fresh := endpoints(2)
	s = NewSet(Policy{Kind: RoundRobin}, fresh, s)
	for range 10 {
		if e := s.Pick(0, old[:1], 0); e != fresh[1] {
			t.Fatalf("picked %s", e.Key)
		}
	}
}

func TestPriorityLoad(t *testing.T) {
	// Each case: endpoints and healthy ones by priority, and the load Envoy's
	// documentation of priority levels gives for it.
	for _, c := range []struct {
		name          string
		total, health []int
		panicAt       uint32
		want          []float64 // share by priority; nil: nobody
	}{
		{"all healthy", []int{10, 10}, []int{10, 10}, 0, []float64{1, 0}},
		{"72 percent is enough", []int{100, 10}, []int{72, 10}, 0, []float64{1, 0}},
		{"71 percent is 99", []int{100, 10}, []int{71, 10}, 0, []float64{.99, .01}},
		{"half", []int{100, 100}, []int{50, 100}, 0, []float64{.70, .30}},
		{"quarter each", []int{100, 100}, []int{25, 25}, 0, []float64{.50, .50}},
		{"first gone", []int{10, 10}, []int{0, 10}, 0, []float64{0, 1}},
		{"three", []int{100, 100, 100}, []int{25, 25, 25}, 0, []float64{.35, .35, .30}},
		{"none", []int{3, 3}, []int{0, 0}, 0, nil},
		{"panic in both", []int{30, 10}, []int{1, 0}, 50, []float64{.75, .25}},
		{"panic of all down", []int{10, 30}, []int{0, 0}, 1, []float64{.25, .75}},
		{"others help, no panic", []int{100, 10}, []int{10, 10}, 50, []float64{.14, .86}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var eps []*Endpoint
			for p, n := range c.total {
				for i := range n {
					e := endpoints(1)[0]
					e.Key = string(rune('a'+p)) + string(rune('0'+i))
					e.Priority = uint32(10 * p) // gaps do not matter
					if i >= c.health[p] {
						e.Health = Unhealthy
					}
					eps = append(eps, e)
				}
			}
			s := NewSet(Policy{Kind: Random, PanicThreshold: c.panicAt, Rand: seeded(9)}, eps, nil)
			if c.want == nil {
				if s.Pick(0, nil, 0) != nil {
					t.Fatal("picked one")
				}
				return
			}
			const n = 50_000
			got := make([]int, len(c.total))
			for e, k := range counts(t, s, n) {
				got[e.Priority/10] += k
			}
			for p := range got {
				within(t, string(rune('0'+p)), got[p], n, c.want[p], 0.01)
			}
		})
	}
}

func TestShiftLeavesPriorities(t *testing.T) {
	eps := endpoints(9)
	for i, e := range eps {
		e.Priority = uint32(i / 3)
	}
	s := NewSet(Policy{Rand: seeded(1)}, eps, nil)
	for range 200 {
		if e := s.Pick(0, eps[:2], 2); e.Priority != 1 {
			t.Fatalf("priority %d after two tries in 0", e.Priority)
		}
		if e := s.Pick(0, []*Endpoint{eps[0], eps[3]}, 2); e.Priority != 2 {
			t.Fatalf("priority %d after tries in 0 and 1", e.Priority)
		}
		if e := s.Pick(0, []*Endpoint{eps[0], eps[3], eps[6]}, 3); e.Priority != 0 || e == eps[0] {
			t.Fatalf("%s after all priorities were tried", e.Key)
		}
		if e := s.Pick(0, eps[:2], 0); e != eps[2] {
			t.Fatalf("%s without a shift", e.Key)
		}
	}
}

func TestLocalityWeights(t *testing.T) {
	place := func(zone string, w uint32, n int) []*Endpoint {
		eps := endpoints(n)
		for _, e := range eps {
			e.Key = zone + e.Key
			e.Locality = Locality{Region: "r", Zone: zone, Weight: w}
		}
		return eps
	}
	for _, k := range []Kind{LeastRequest, RoundRobin, Random, Maglev} {
		t.Run(k.name(), func(t *testing.T) {
			a, b, c := place("a", 70, 10), place("b", 30, 2), place("c", 0, 5)
			all := slices.Concat(a, b, c)
			const n = 50_000
			zone := func(s *Set) map[string]int {
				out := map[string]int{}
				for e, k := range counts(t, s, n) {
					out[e.Locality.Zone] += k
				}
				return out
			}
			s := NewSet(Policy{Kind: k, LocalityWeighted: true, Rand: seeded(4)}, all, nil)
			got := zone(s)
			within(t, "a", got["a"], n, .7, .01)
			within(t, "b", got["b"], n, .3, .01)
			if got["c"] != 0 {
				t.Errorf("a locality of weight 0 got %d", got["c"])
			}
			if k == Maglev {
				return // the table is not weighted anew for ejections, as documented
			}
			for _, e := range a[:5] {
				e.Host.Ejected.Store(true)
			}
			got = zone(s) // 70*1.4*0.5 = 49 against 30
			within(t, "a, half out", got["a"], n, 49./79, .01)
		})
	}
}

func TestWarmup(t *testing.T) {
	for _, k := range []Kind{RoundRobin, LeastRequest} {
		t.Run(k.name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := Policy{Kind: k, Warmup: Warmup{Duration: 100 * time.Second}, Rand: seeded(5)}
				old := endpoints(4)
				s := NewSet(p, old[:3], nil)
				for _, e := range old[:3] {
					within(t, "all new", counts(t, s, 9000)[e], 9000, 1./3, .02)
				}
				time.Sleep(200 * time.Second)
				s = NewSet(p, old, s)
				for _, c := range []struct {
					age    time.Duration
					factor float64
				}{{0, .1}, {5 * time.Second, .1}, {50 * time.Second, .5}, {90 * time.Second, .9}, {100 * time.Second, 1}, {time.Hour, 1}} {
					time.Sleep(time.Until(time.Unix(0, old[3].Host.since.Load()).Add(c.age)))
					counts(t, s, 40) // let the queue settle
					within(t, c.age.String(), counts(t, s, 20_000)[old[3]], 20_000, c.factor/(3+c.factor), .01)
				}
			})
		})
	}
	for _, c := range []struct {
		w    Warmup
		age  time.Duration
		want float64
	}{
		{Warmup{Duration: 100 * time.Second, MinPercent: 10, Aggression: 2}, 25 * time.Second, .5},
		{Warmup{Duration: 100 * time.Second, MinPercent: 10, Aggression: .5}, 50 * time.Second, .25},
		{Warmup{Duration: 100 * time.Second, MinPercent: 30, Aggression: 1}, time.Second, .3},
		{Warmup{Duration: 100 * time.Second, MinPercent: 30, Aggression: 1}, 101 * time.Second, 1},
	} {
		if got := c.w.factor(int64(c.age)); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%+v at %v: %v, want %v", c.w, c.age, got, c.want)
		}
	}
}

func TestPassthroughByAddress(t *testing.T) {
	eps := endpoints(3)
	s := NewSet(Policy{Kind: Passthrough}, eps, nil)
	if s.ByAddr(eps[1].Addr) != eps[1] {
		t.Error("an endpoint is not found by its address")
	}
	other := endpoints(9)[8]
	if s.ByAddr(other.Addr) != nil || NewSet(Policy{}, eps, nil).ByAddr(eps[1].Addr) != nil {
		t.Error("found an endpoint that is none")
	}
}

func TestHostsSurvive(t *testing.T) {
	a := endpoints(3)
	s := NewSet(Policy{}, a, nil)
	a[1].Host.Ejected.Store(true)
	b := endpoints(4)
	s2 := NewSet(Policy{}, b, s)
	if b[1].Host != a[1].Host || b[3].Host == nil {
		t.Fatal("runtime state was not kept by key")
	}
	if counts(t, s2, 100)[b[1]] != 0 {
		t.Error("an ejection did not survive")
	}
	// The third host leaves: its ejections are no longer this backend's business.
	NewSet(Policy{}, b[:2], s2)
	if n := len(b[2].Host.Ejected.watch); n != 0 {
		t.Errorf("%d sets still watch a host that left", n)
	}
}
