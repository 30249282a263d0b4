package measure

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// The process of the test itself is one that is running.
func TestPID(t *testing.T) {
	p := PID(os.Getpid())
	for start := time.Now(); p.CPU() == 0 && time.Since(start) < 10*time.Second; {
		_ = rand.Perm(1000)
	}
	if p.CPU() == 0 || p.Ran() == 0 {
		t.Errorf("CPU %v, ran %v", p.CPU(), p.Ran())
	}
	if rss, anon := p.RSS(), p.Anon(); anon <= 0 || rss <= anon {
		t.Errorf("RSS %d, anonymous %d", rss, anon)
	}
	before, _ := p.Calls()
	if after, _ := p.Calls(); after <= before {
		t.Errorf("%d read calls, then %d", before, after)
	}
	// A number that no process has: PIDs end at 1 << 22 (PID_MAX_LIMIT).
	gone := PID(1 << 23)
	if r, w := gone.Calls(); gone.CPU() != 0 || gone.Ran() != 0 || gone.RSS() != 0 || r != 0 || w != 0 {
		t.Error("a process that is not there has used something")
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		of   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 3, 2, 1}, 2.5}} {
		if got := Median(tt.of); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.of, got, tt.want)
		}
	}
}
