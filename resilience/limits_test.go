package resilience

import (
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestLimits(t *testing.T) {
	l := newLimits(&Settings{MaxConnections: 1, MaxPending: 2, MaxRequests: 3, MaxRetries: 4})
	for _, c := range []struct {
		name    string
		acquire func() error
		release func()
		max     int
		err     error
	}{
		{"connections", l.AcquireConnection, l.ReleaseConnection, 1, ErrMaxConnections},
		{"pending", l.AcquirePending, l.ReleasePending, 2, ErrMaxPending},
		{"requests", l.AcquireRequest, l.ReleaseRequest, 3, ErrMaxRequests},
		{"retries", l.AcquireRetry, l.ReleaseRetry, 4, ErrMaxRetries},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.max {
				if err := c.acquire(); err != nil {
					t.Fatalf("acquire %d of %d: %v", i+1, c.max, err)
				}
			}
			err := c.acquire()
			if err != c.err || !errors.Is(err, ErrOverflow) {
				t.Fatalf("over the limit: %v, want %v", err, c.err)
			}
			c.release()
			if err := c.acquire(); err != nil {
				t.Fatalf("after a release: %v", err)
			}
			for range c.max {
				c.release()
			}
		})
	}
	if u := l.Usage(); u != (Usage{ConnectionsRefused: 1, PendingRefused: 1, RequestsRefused: 1, RetriesRefused: 1}) {
		t.Errorf("usage at the end: %+v", u)
	}
}

func TestLimitsUnlimited(t *testing.T) {
	for name, l := range map[string]*Limits{
		"zero value": {}, "zero settings": newLimits(&Settings{}),
		"2^32-1": newLimits(&Settings{MaxConnections: math.MaxUint32, MaxPending: math.MaxUint32, MaxRequests: math.MaxUint32, MaxRetries: math.MaxUint32}),
	} {
		for range 5000 {
			if l.AcquireConnection() != nil || l.AcquirePending() != nil || l.AcquireRequest() != nil || l.AcquireRetry() != nil {
				t.Fatalf("%s: refused", name)
			}
		}
	}
}

// TestLimitsSurviveUpdate: what is in use stays counted under a new threshold.
func TestLimitsSurviveUpdate(t *testing.T) {
	l := newLimits(&Settings{MaxRequests: 10})
	for range 10 {
		if err := l.AcquireRequest(); err != nil {
			t.Fatal(err)
		}
	}
	l.Update(&Settings{MaxRequests: 2})
	for range 9 {
		if l.AcquireRequest() == nil {
			t.Fatal("admitted over the new limit")
		}
		l.ReleaseRequest()
	}
	if err := l.AcquireRequest(); err != nil {
		t.Fatalf("one of two in use: %v", err)
	}
	l.Update(&Settings{MaxRequests: 3})
	if l.AcquireRequest() != nil || l.AcquireRequest() == nil {
		t.Error("the raised limit is not 3")
	}
}

func TestRetryBudget(t *testing.T) {
	for _, c := range []struct {
		name            string
		budget          RetryBudget
		active, pending int
		want            int
	}{
		{"minimum", RetryBudget{Percent: 20, MinConcurrent: 3}, 0, 0, 3},
		{"zero is none", RetryBudget{}, 10, 0, 0},
		{"zero percent", RetryBudget{MinConcurrent: 2}, 100, 0, 2},
		{"no minimum", RetryBudget{Percent: 20}, 10, 0, 2},
		{"twenty percent", RetryBudget{Percent: 20, MinConcurrent: 3}, 100, 0, 20},
		{"pending are in flight already", RetryBudget{Percent: 20, MinConcurrent: 3}, 50, 50, 10},
		{"rounded down", RetryBudget{Percent: 25, MinConcurrent: 1}, 11, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLimits(&Settings{MaxRetries: 1, RetryBudget: &c.budget}) // the budget replaces MaxRetries
			for range c.active {
				l.AcquireRequest()
			}
			for range c.pending {
				l.AcquirePending()
			}
			n := 0
			for l.AcquireRetry() == nil {
				n++
			}
			if n != c.want {
				t.Errorf("%d retries, want %d", n, c.want)
			}
			if n == 0 {
				return
			}
			l.ReleaseRetry()
			if l.AcquireRetry() != nil {
				t.Error("a released retry is not free")
			}
		})
	}
}

// TestRetryBudgetInterval is XBackendTrafficPolicy's: a share of the requests
// begun within the interval.
func TestRetryBudgetInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(&Settings{RetryBudget: &RetryBudget{Percent: 20, Interval: 10 * time.Second, MinRetryRate: 1}})
		retries := func() (n int) {
			for l.AcquireRetry() == nil {
				l.ReleaseRetry()
				n++
			}
			return n
		}
		if n := retries(); n != 10 {
			t.Errorf("without requests %d retries in 10 s, want 1/s", n)
		}
		time.Sleep(20 * time.Second)
		for range 200 {
			l.AcquireRequest()
			l.ReleaseRequest()
		}
		if n := retries(); n != 40 {
			t.Errorf("%d retries of 200 requests, want 40", n)
		}
		time.Sleep(5 * time.Second)
		if n := retries(); n != 0 {
			t.Errorf("%d more within the interval", n)
		}
		time.Sleep(20 * time.Second)
		if n := retries(); n != 10 {
			t.Errorf("%d retries after the interval, want the minimum again", n)
		}
	})
}

// TestLimitsNeverExceedNorLeak runs random steps against a plain model.
func TestLimitsNeverExceedNorLeak(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := uint32(rapid.IntRange(1, 5).Draw(t, "limit"))
		l := newLimits(&Settings{MaxRequests: limit})
		held := 0
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				ok := l.AcquireRequest() == nil
				if ok != (held < int(limit)) {
					t.Fatalf("acquire with %d of %d held: %v", held, limit, ok)
				}
				if ok {
					held++
				}
			},
			"release": func(t *rapid.T) {
				if held > 0 {
					held--
					l.ReleaseRequest()
				}
			},
			"update": func(t *rapid.T) {
				limit = uint32(rapid.IntRange(1, 5).Draw(t, "limit"))
				l.Update(&Settings{MaxRequests: limit})
			},
			"": func(t *rapid.T) {
				if u := l.Usage().Requests; u != int64(held) {
					t.Fatalf("%d counted, %d held", u, held)
				}
			},
		})
	})
}

func TestLimitsConcurrently(t *testing.T) {
	l := newLimits(&Settings{MaxRequests: 7, RetryBudget: &RetryBudget{Percent: 50, MinConcurrent: 2}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				if l.AcquireRequest() == nil {
					if u := l.Usage().Requests; u > 7 {
						t.Errorf("%d at once, 7 allowed", u)
					}
					if l.AcquireRetry() == nil {
						if u := l.Usage().Retries; u > 3 {
							t.Errorf("%d retries at once, 3 allowed", u)
						}
						l.ReleaseRetry()
					}
					l.ReleaseRequest()
				}
			}
		})
	}
	wg.Wait()
	if u := l.Usage(); u.Requests != 0 || u.Retries != 0 {
		t.Errorf("leaked: %+v", u)
	}
}

func TestReplayBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 1000).Draw(t, "size")
		b := NewReplayBudget(int64(size))
		var held []int
		sum := 0
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				n := rapid.IntRange(0, 400).Draw(t, "n")
				if ok := b.Acquire(n); ok != (sum+n <= size) {
					t.Fatalf("acquire %d with %d of %d used: %v", n, sum, size, ok)
				} else if ok {
					held, sum = append(held, n), sum+n
				}
			},
			"release": func(t *rapid.T) {
				if len(held) > 0 {
					b.Release(held[0])
					sum -= held[0]
					held = held[1:]
				}
			},
			"": func(t *rapid.T) {
				if b.Used() != int64(sum) {
					t.Fatalf("%d used, %d held", b.Used(), sum)
				}
			},
		})
	})
}

func TestOverload(t *testing.T) {
	var o Overload
	for r := range resources {
		if err := o.Acquire(r, 1<<40); err != nil {
			t.Errorf("the zero value sheds: %v", err)
		}
		o.Release(r, 1<<40)
		o.SetLimit(r, 10)
		if err := o.Acquire(r, 10); err != nil {
			t.Fatal(err)
		}
		err := o.Acquire(r, 1)
		var shed *Shed
		if !errors.As(err, &shed) || shed.Resource != r || !errors.Is(err, ErrOverflow) {
			t.Errorf("%v: shed as %v", r, err)
		}
		if o.Shed(r) != 1 || o.Used(r) != 10 {
			t.Errorf("%v: shed %d, used %d", r, o.Shed(r), o.Used(r))
		}
		o.Release(r, 10)
		if o.Used(r) != 0 {
			t.Errorf("%v leaks", r)
		}
	}
}

func newLimits(s *Settings) *Limits {
	l := new(Limits)
	l.Update(s)
	return l
}
