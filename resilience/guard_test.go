package resilience

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b CircuitBreaker
		if _, err := b.Allow(); err != nil || b.State() != "off" {
			t.Fatal("the zero value is not off")
		}
		var moves []string
		set := &Breaker{MinRequests: 10, ErrorPercent: 50, OpenFor: 5 * time.Second, HalfOpenRequests: 2}
		b.Update(set, func(from, to string) { moves = append(moves, from+">"+to) })
		send := func(f Failure, status int) error {
			tk, err := b.Allow()
			if err == nil {
				tk.Done(f, status)
			}
			return err
		}
		for range 9 {
			send(0, 500)
		}
		if b.State() != "closed" {
			t.Fatal("opened under the minimum of requests")
		}
		for range 20 {
			send(FailureOverflow, 0) // no fault of the backend
			send(FailureClient, 0)
		}
		if b.State() != "closed" {
			t.Fatal("our own refusals opened it")
		}
		send(FailureConnect, 0)
		if err := send(0, 200); !errors.Is(err, ErrOverflow) || err != ErrCircuitOpen {
			t.Fatalf("open answers %v", err)
		}
		same := *set
		b.Update(&same, nil)
		if b.State() != "open" {
			t.Fatal("equal settings closed it")
		}
		time.Sleep(5*time.Second + 1)
		one, err1 := b.Allow()
		two, err2 := b.Allow()
		if _, err := b.Allow(); err1 != nil || err2 != nil || err != ErrCircuitOpen {
			t.Fatalf("half open: %v %v %v", err1, err2, err)
		}
		one.Done(0, 200)
		two.Done(0, 200)
		if b.State() != "closed" {
			t.Fatal("two good requests did not close it")
		}
		for range 10 {
			send(0, 503)
		}
		time.Sleep(5*time.Second + 1)
		send(FailureReset, 0)
		if b.State() != "open" {
			t.Error("a failed probe did not open it again")
		}
		want := []string{"closed>open", "open>half-open", "half-open>closed", "closed>open", "open>half-open", "half-open>open"}
		if !slices.Equal(moves, want) {
			t.Errorf("moves %v", moves)
		}
		b.Update(nil, nil)
		if err := send(0, 500); err != nil {
			t.Errorf("off: %v", err)
		}
	})
}

// TestBreakerWithLastingProbe: a stream that is let through half open, and goes on,
// does not keep everybody else out for as long as it lasts.
func TestBreakerWithLastingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b CircuitBreaker
		var moves []string
		b.Update(&Breaker{MinRequests: 1, ErrorPercent: 50, OpenFor: 5 * time.Second}, func(from, to string) { moves = append(moves, from+">"+to) })
		tk, _ := b.Allow()
		tk.Done(0, 500)
		time.Sleep(5*time.Second + 1)
		stream, err := b.Allow()
		if err != nil {
			t.Fatalf("half open: %v", err)
		}
		time.Sleep(5*time.Second - 1)
		if _, err := b.Allow(); err != ErrCircuitOpen || b.State() != "half-open" {
			t.Fatalf("%s answers %v while the probe may still fail", b.State(), err)
		}
		time.Sleep(time.Second)
		tk, err = b.Allow()
		if err != nil || b.State() != "closed" {
			t.Fatalf("%s answers %v behind a probe that goes on", b.State(), err)
		}
		tk.Done(0, 200)
		stream.Done(FailureReset, 0) // its end says nothing about now
		if b.State() != "closed" {
			t.Errorf("the end of the old probe made it %s", b.State())
		}
		want := []string{"closed>open", "open>half-open", "half-open>closed"}
		if !slices.Equal(moves, want) {
			t.Errorf("moves %v", moves)
		}
	})
}

func TestBreakerErrorRate(t *testing.T) {
	for _, c := range []struct {
		good, bad int
		pause     time.Duration
		open      bool
	}{
		{11, 10, 0, false}, {10, 10, 0, true}, {30, 10, 0, false}, {30, 10, 11 * time.Second, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var b CircuitBreaker
			b.Update(&Breaker{MinRequests: 10, ErrorPercent: 50}, nil)
			for i := range c.good + c.bad {
				if i == c.good {
					time.Sleep(c.pause) // old successes leave the window
				}
				tk, err := b.Allow()
				if err != nil {
					t.Fatalf("%+v: opened at %d", c, i)
				}
				status := 200
				if i >= c.good {
					status = 500
				}
				tk.Done(0, status)
			}
			if open := b.State() == "open"; open != c.open {
				t.Errorf("%+v: open %v", c, open)
			}
		})
	}
}

func TestFault(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var none *Fault
	if none.Draw(r.Uint64) != (Injection{}) {
		t.Error("no fault injects")
	}
	all := Fraction{100, 100}
	for _, c := range []struct {
		f    Fault
		want Injection
	}{
		{Fault{Delay: time.Second, AbortStatus: 503}, Injection{}}, // no percentage: nothing
		{Fault{Delay: time.Second, DelayShare: all}, Injection{Delay: time.Second}},
		{Fault{AbortStatus: 418, AbortShare: all}, Injection{Abort: true, Status: 418}},
		{Fault{AbortGRPC: "14", AbortShare: all}, Injection{Abort: true, Status: 200, GRPC: "14"}},
		{Fault{AbortShare: all}, Injection{}},
		{Fault{Delay: 1, DelayShare: all, AbortStatus: 500, AbortShare: all}, Injection{Delay: 1, Abort: true, Status: 500}},
	} {
		if got := c.f.Draw(r.Uint64); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.f, got, c.want)
		}
	}
	for _, c := range []struct {
		f    Fraction
		want float64
	}{{Fraction{30, 100}, .3}, {Fraction{1, 1_000_000}, 0}, {Fraction{125_000, 1_000_000}, .125}, {Fraction{}, 0}, {Fraction{200, 100}, 1}} {
		f := Fault{AbortStatus: 500, AbortShare: c.f}
		n := 0
		for range 100_000 {
			if f.Draw(r.Uint64).Abort {
				n++
			}
		}
		if got := float64(n) / 100_000; got < c.want-.01 || got > c.want+.01 || c.want == 1 && got != 1 {
			t.Errorf("%+v: share %v", c.f, got)
		}
	}
}

func TestTokenBucket(t *testing.T) {
	for _, c := range []struct {
		b            Bucket
		first, after int // tokens at once, and after a second
	}{
		{Bucket{Max: 10, Fill: 10, Each: time.Second}, 10, 10},
		{Bucket{Max: 10, Fill: 3, Each: time.Second}, 10, 3},
		{Bucket{Max: 5, Fill: 100, Each: time.Second}, 5, 5},
		{Bucket{Max: 2}, 2, 1},
		{Bucket{Max: 60, Fill: 60, Each: time.Minute}, 60, 1},
		{Bucket{}, 0, 0},
		{Bucket{Max: 1000, Fill: 4_000_000_000, Each: time.Second}, 1000, 1000},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := NewTokenBucket(c.b)
			drain := func() (n int) {
				for b.Take() {
					n++
				}
				return n
			}
			first := drain()
			time.Sleep(time.Second)
			if after := drain(); first != c.first || after != c.after || b.Refused() != 2 {
				t.Errorf("%+v: %d, then %d, %d refused", c.b, first, after, b.Refused())
			}
			time.Sleep(time.Hour)
			if got := drain(); got != c.first {
				t.Errorf("%+v: %d after an hour, the bucket is %d", c.b, got, c.first)
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if !(*Limiter)(nil).Allow(nil) {
			t.Error("no limiter refuses")
		}
		l := NewLimiter(&RateLimit{
			Default: &Bucket{Max: 5, Fill: 5, Each: time.Second},
			Descriptors: []DescriptorLimit{
				{Entries: []Descriptor{{"path", "/slow"}}, Bucket: Bucket{Max: 3}},
				{Entries: []Descriptor{{"path", "/slow"}, {"user", "bob"}}, Bucket: Bucket{Max: 1}},
			},
		})
		slow, bob := []Descriptor{{"path", "/slow"}}, []Descriptor{{"user", "bob"}, {"path", "/slow"}}
		for i, c := range []struct {
			has  []Descriptor
			want bool
		}{{bob, true}, {bob, false}, {bob, false}, {slow, true}, {slow, true}, {slow, false}, {nil, true}, {nil, true}, {nil, false}} {
			// A refusal by bob's own bucket must give the token of /slow back.
			if got := l.Allow(c.has); got != c.want {
				t.Fatalf("request %d: %v", i, got)
			}
		}
	})
}
