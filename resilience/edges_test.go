package resilience

import (
	"errors"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestOutlierDefaults(t *testing.T) {
	got := (&Outlier{MaxEjectionPercent: 250}).withDefaults()
	if got.Interval != 10*time.Second || got.BaseEjection != 30*time.Second || got.MaxEjection != 300*time.Second || got.MaxEjectionPercent != 100 ||
		got.SuccessRateMinHosts != 5 || got.SuccessRateVolume != 100 || got.SuccessRateStdevFactor != 1900 {
		t.Errorf("%+v", got)
	}
	set := Outlier{Interval: 1, BaseEjection: 2, MaxEjection: 3, MaxEjectionPercent: 100, SuccessRateMinHosts: 6, SuccessRateVolume: 7, SuccessRateStdevFactor: 8}
	if got := set.withDefaults(); got != set {
		t.Errorf("%+v, want %+v", got, set)
	}
	if got := (&Outlier{BaseEjection: time.Hour}).withDefaults(); got.MaxEjection != time.Hour { // never under the base (Envoy)
		t.Errorf("%+v", got)
	}
	for _, tt := range []struct {
		n    int
		o    *Outlier
		want bool
	}{
		{10, nil, false}, {10, &Outlier{MaxEjectionPercent: 100}, false}, {0, &Outlier{Consecutive5xx: 1, MaxEjectionPercent: 100}, false},
		{10, &Outlier{Consecutive5xx: 1, MaxEjectionPercent: 10}, true}, {9, &Outlier{Consecutive5xx: 1, MaxEjectionPercent: 10}, false},
		{9, &Outlier{Consecutive5xx: 1, MaxEjectionPercent: 10, AlwaysEjectOne: true}, true},
		{10, &Outlier{ConsecutiveGateway: 1, MaxEjectionPercent: 10}, true}, {10, &Outlier{SuccessRate: true, MaxEjectionPercent: 10}, true},
		{10, &Outlier{ConsecutiveLocal: 1, MaxEjectionPercent: 10}, false}, {10, &Outlier{ConsecutiveLocal: 1, SplitLocal: true, MaxEjectionPercent: 10}, true},
		{10, &Outlier{SplitLocal: true, MaxEjectionPercent: 10}, false},
	} {
		if got := CanEverEject(tt.n, tt.o); got != tt.want {
			t.Errorf("%d hosts, %+v: %v", tt.n, tt.o, got)
		}
	}
}

// A request that one bucket refuses takes nothing of the others.
func TestLimiterTakesAllOrNone(t *testing.T) {
	a, b := []Descriptor{{Key: "a", Value: "1"}}, []Descriptor{{Key: "b", Value: "1"}}
	both := append(append([]Descriptor{}, a...), b...)
	bucket := func(n uint32) Bucket { return Bucket{Max: n, Fill: 1, Each: time.Hour} }
	all, one := bucket(3), bucket(1)
	l := NewLimiter(&RateLimit{Default: &all, Descriptors: []DescriptorLimit{{Entries: a, Bucket: bucket(2)}, {Entries: b, Bucket: bucket(1)}}})
	for i, tt := range []struct {
		has  []Descriptor
		want bool
	}{
		{both, true},   // left: a 1, b 0, all 2
		{both, false},  // b is empty: a and all keep what they have
		{both, false},  // again
		{a, true},      // a 0, all 1
		{a, false},     // a is empty: all keeps its one
		{nil, true},    // all 0
		{nil, false},   // empty
		{b[:0], false}, // no entries are none
	} {
		if got := l.Allow(tt.has); got != tt.want {
			t.Errorf("request %d with %v: %v", i, tt.has, got)
		}
	}
	// What the default bucket refuses gives the others' tokens back.
	l = NewLimiter(&RateLimit{Default: &one, Descriptors: []DescriptorLimit{{Entries: a, Bucket: bucket(5)}}})
	for range 10 {
		l.Allow(a)
	}
	left := 0
	for l.buckets[0].Take() {
		left++
	}
	if left != 4 {
		t.Errorf("%d tokens left of 5: those of refused requests are gone", left)
	}
	if !(*Limiter)(nil).Allow(a) {
		t.Error("no limit limits")
	}
}

func TestFaultShares(t *testing.T) {
	at := func(n uint64) func() uint64 { return func() uint64 { return n } }
	for _, tt := range []struct {
		f    Fraction
		draw uint64
		want bool
	}{
		{Fraction{}, 0, false}, {Fraction{Num: 1}, 0, false}, {Fraction{Den: 100}, 0, false}, {Fraction{1, 100}, 0, true}, {Fraction{1, 100}, 1, false}, {Fraction{99, 100}, 98, true},
		{Fraction{99, 100}, 99, false}, {Fraction{100, 100}, 99, true}, {Fraction{200, 100}, 99, true}, {Fraction{1, 100}, 100, true},
	} {
		if got := tt.f.hit(at(tt.draw)); got != tt.want {
			t.Errorf("%+v at %d: %v", tt.f, tt.draw, got)
		}
	}
	all := Fraction{1, 1}
	if i := (&Fault{Delay: time.Second, DelayShare: all, AbortStatus: 503, AbortShare: all}).Draw(at(0)); i != (Injection{Delay: time.Second, Abort: true, Status: 503}) {
		t.Errorf("%+v", i)
	}
	if i := (&Fault{AbortGRPC: "14", AbortShare: all}).Draw(at(0)); i != (Injection{Abort: true, Status: 200, GRPC: "14"}) {
		t.Errorf("%+v", i)
	}
	for _, f := range []*Fault{nil, {}, {DelayShare: all, AbortShare: all}, {Delay: time.Second, AbortStatus: 503}} {
		if i := f.Draw(at(0)); i != (Injection{}) {
			t.Errorf("%+v: %+v", f, i)
		}
	}
}

func TestOverloadTry(t *testing.T) {
	var o Overload
	if !o.Try(Bytes, 1<<40) {
		t.Error("no limit limits")
	}
	o.Release(Bytes, 1<<40)
	o.SetLimit(Bytes, 10)
	if !o.Try(Bytes, 10) || o.Try(Bytes, 1) || o.Used(Bytes) != 10 || o.Shed(Bytes) != 0 {
		t.Errorf("%d used, %d shed", o.Used(Bytes), o.Shed(Bytes))
	}
	err := o.Acquire(Bytes, 1)
	if !errors.Is(err, ErrOverflow) || errors.Is(err, errors.ErrUnsupported) || o.Shed(Bytes) != 1 {
		t.Errorf("%v, %d shed", err, o.Shed(Bytes))
	}
	o.Release(Bytes, 10)
	if err := o.Acquire(Bytes, 10); err != nil {
		t.Error(err)
	}
}

// A gRPC status counts where a gRPC token is asked for, and only there.
func TestRetryOfGRPC(t *testing.T) {
	for _, tt := range []struct {
		on   RetryOn
		o    Outcome
		want bool
	}{
		{OnUnavailable, Outcome{Status: 200, GRPC: "14"}, true}, {OnUnavailable, Outcome{Status: 200, GRPC: "13"}, false}, {OnUnavailable, Outcome{Status: 200}, false},
		{OnCancelled, Outcome{Status: 200, GRPC: "1"}, true}, {OnInternal, Outcome{Status: 200, GRPC: "13"}, true}, {OnResourceExhausted, Outcome{Status: 200, GRPC: "8"}, true},
		{OnDeadlineExceeded, Outcome{Status: 200, GRPC: "4"}, true}, {On5xx, Outcome{Status: 200, GRPC: "14"}, false},
		{On5xx, Outcome{Status: 599}, true}, {On5xx, Outcome{Status: 600}, false}, {On5xx, Outcome{Status: 500}, true}, {On5xx, Outcome{Status: 499}, false},
		{OnGatewayError, Outcome{Status: 502}, true}, {OnGatewayError, Outcome{Status: 504}, true}, {OnGatewayError, Outcome{Status: 501}, false}, {OnGatewayError, Outcome{Status: 505}, false},
		{OnRetriable4xx, Outcome{Status: 409}, true}, {OnRetriable4xx, Outcome{Status: 408}, false},
		{OnEnvoyRatelimited, Outcome{Status: 429, Headers: []attrs.Field{{Name: "x-envoy-ratelimited", Value: "true"}}}, true},
		{On5xx, Outcome{Status: 503, Headers: []attrs.Field{{Name: "x-envoy-ratelimited", Value: "true"}}}, false},
	} {
		r := &Retry{Attempts: 1, On: tt.on}
		if _, ok := r.onResponse(&tt.o); ok != tt.want {
			t.Errorf("%v of %+v: %v", tt.on, tt.o, ok)
		}
	}
	r := &Retry{TryTimeout: 2 * time.Second}
	for route, want := range map[time.Duration]time.Duration{0: 2 * time.Second, time.Second: 0, 2 * time.Second: 0, 3 * time.Second: 2 * time.Second} {
		if got := r.EffectiveTryTimeout(route); got != want {
			t.Errorf("under %v: %v, want %v", route, got, want)
		}
	}
}
