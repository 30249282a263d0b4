package balance

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestPickDoesNotAllocate(t *testing.T) {
	for _, k := range kinds() {
		for _, size := range []int{10, 50, 10_000} {
			for _, weight := range []uint32{1, 7} {
				eps := endpoints(size)
				eps[3].Weight = weight
				s := NewSet(Policy{Kind: k}, eps, nil)
				skip := []*Endpoint{eps[1], eps[2]}
				var h uint64
				if n := testing.AllocsPerRun(500, func() {
					h += 0x9e3779b97f4a7c15
					s.Pick(h, skip, 2)
				}); n != 0 {
					t.Errorf("%s of %d, weight %d: %v allocations", k.name(), size, weight, n)
				}
			}
		}
	}
	sources := []HashSource{{Header: "x-user"}, {SourceIP: true}, {Header: ":path"}, {Query: "user"}, {Cookie: &HashCookie{Name: "sid", Create: true}}}
	r := request("x-user: bob")
	random := func() uint64 { return 7 }
	var sink uint64
	if n := testing.AllocsPerRun(500, func() { sink, _ = HashKey(sources, r, random) }); n != 0 || sink == 0 {
		t.Errorf("HashKey: %v allocations", n)
	}
}

// TestConcurrentPick: picks, ejections and new sets at once, for the race
// detector; nobody may be picked who is ejected for good.
func TestConcurrentPick(t *testing.T) {
	for _, k := range kinds() {
		eps := endpoints(20)
		eps[5].Weight = 3
		var set atomic.Pointer[Set]
		set.Store(NewSet(Policy{Kind: k, TableSize: 251}, eps, nil))
		eps[0].Host.Ejected.Store(true)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 2000 {
					e := set.Load().Pick(uint64(i)*0x9e3779b97f4a7c15, nil, 0)
					if e == nil || e.Host == eps[0].Host {
						t.Errorf("%s: picked %v", k.name(), e)
						return
					}
					e.Host.Active.Add(1)
					if g == 0 {
						eps[1+i%10].Host.Ejected.Store(i%3 == 0)
					}
					e.Host.Active.Add(-1)
				}
			})
		}
		for range 50 {
			fresh := endpoints(20)
			fresh[5].Weight = 3
			set.Store(NewSet(Policy{Kind: k, TableSize: 251}, fresh, set.Load()))
		}
		wg.Wait()
		for _, e := range eps {
			if a := e.Host.Active.Load(); a != 0 {
				t.Errorf("%s: %d active at the end", k.name(), a)
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, k := range kinds() {
		for _, n := range []int{10, 100, 1000, 10_000} {
			b.Run(name(k, n), func(b *testing.B) {
				s := NewSet(Policy{Kind: k}, endpoints(n), nil)
				b.ReportAllocs()
				var h uint64
				for b.Loop() {
					h += 0x9e3779b97f4a7c15
					e := s.Pick(h, nil, 0)
					e.Host.Active.Add(1)
					e.Host.Active.Add(-1)
				}
			})
		}
	}
}

func BenchmarkPickWeighted(b *testing.B) {
	for _, k := range []Kind{LeastRequest, RoundRobin, Random} {
		for _, n := range []int{10, 10_000} {
			b.Run(name(k, n), func(b *testing.B) {
				eps := endpoints(n)
				for i, e := range eps {
					e.Weight = uint32(1 + i%5)
				}
				s := NewSet(Policy{Kind: k}, eps, nil)
				b.ReportAllocs()
				for b.Loop() {
					s.Pick(0, nil, 0)
				}
			})
		}
	}
}

func BenchmarkEjection(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(name(LeastRequest, n), func(b *testing.B) {
			eps := endpoints(n)
			s := NewSet(Policy{}, eps, nil)
			on := false
			for b.Loop() {
				on = !on
				eps[0].Host.Ejected.Store(on)
				s.Pick(0, nil, 0)
			}
		})
	}
}
