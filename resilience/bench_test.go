package resilience

import (
	"fmt"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience/balance"
)

func TestHotPathDoesNotAllocate(t *testing.T) {
	eps := hosts(20)
	s := balance.NewSet(balance.Policy{}, eps, nil)
	l := newLimits(&Settings{MaxRequests: 5, RetryBudget: &RetryBudget{Percent: 20, MinConcurrent: 3}})
	d := NewDetector(nil)
	defer d.Close()
	d.Update(&Outlier{Consecutive5xx: 5}, eps)
	var b CircuitBreaker
	var o Overload
	o.SetLimit(Pending, 1)
	bucket := NewLimiter(&RateLimit{Default: &Bucket{Max: 10}, Descriptors: []DescriptorLimit{{Entries: []Descriptor{{"a", "b"}}, Bucket: Bucket{Max: 3}}}})
	has := []Descriptor{{"a", "b"}}
	fault := &Fault{Delay: 1, DelayShare: Fraction{50, 100}}
	random := func() uint64 { return 7 }
	r := DefaultRetry()
	for name, f := range map[string]func(){
		"limits": func() {
			if l.AcquirePending() == nil {
				l.ReleasePending()
			}
			if l.AcquireRequest() == nil {
				l.ReleaseRequest()
			}
			if l.AcquireRetry() == nil {
				l.ReleaseRetry()
			}
		},
		"overflow": func() { l.AcquireRequest(); o.Acquire(Pending, 1) },
		"breaker":  func() { tk, _ := b.Allow(); tk.Done(0, 200) },
		"report":   func() { d.Report(eps[0], 0, 200); d.Report(eps[1], FailureReset, 0); d.Report(eps[1], 0, 200) },
		"pick":     func() { s.Pick(0, eps[:1], 0) },
		"limiter":  func() { bucket.Allow(has) },
		"fault":    func() { fault.Draw(random) },
		"verdict": func() {
			oc := Outcome{Status: 503, GRPC: "14", Headers: []attrs.Field{{Name: "a", Value: "b"}}}
			if r.Verdict(&oc, 1).Retry {
				r.Delay(2, 9)
			}
		},
	} {
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkTry is what a request costs here: pick, acquire, report, release.
func BenchmarkTry(b *testing.B) {
	for _, k := range []balance.Kind{balance.LeastRequest, balance.RingHash} {
		for _, n := range []int{10, 100, 1000, 10_000} {
			b.Run(fmt.Sprintf("kind %d/%d", k, n), func(b *testing.B) {
				eps := hosts(n)
				s := balance.NewSet(balance.Policy{Kind: k}, eps, nil)
				l := newLimits(&Settings{MaxRequests: 1000, MaxPending: 1000})
				d := NewDetector(nil)
				defer d.Close()
				d.Update(&Outlier{Consecutive5xx: 5, MaxEjectionPercent: 10}, eps)
				b.ReportAllocs()
				var h uint64
				for b.Loop() {
					h += 0x9e3779b97f4a7c15
					e := s.Pick(h, nil, 0)
					if l.AcquireRequest() != nil {
						b.Fatal("overflow")
					}
					e.Host.Active.Add(1)
					d.Report(e, 0, 200)
					e.Host.Active.Add(-1)
					l.ReleaseRequest()
				}
			})
		}
	}
}
