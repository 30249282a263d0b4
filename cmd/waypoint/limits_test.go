package main

import (
	"math"
	"runtime/debug"
	"testing"
)

// The Go heap gets 85 % of what the container has, and GOGC, where set, its say.
func TestLimitMemory(t *testing.T) {
	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	t.Cleanup(func() {
		debug.SetMemoryLimit(before)
		debug.SetGCPercent(percent)
	})
	for _, tt := range []struct {
		name        string
		limit, want int64
		gogc        string
		percent     int
	}{
		{"limited", 1 << 30, (1 << 30) * 85 / 100, "", gcPercent},
		{"unlimited", math.MaxInt64, math.MaxInt64, "", gcPercent},
		{"GOGC given", 1 << 30, (1 << 30) * 85 / 100, "50", 100},
	} {
		t.Setenv("GOGC", tt.gogc)
		debug.SetMemoryLimit(tt.limit)
		debug.SetGCPercent(100)
		if got := limitMemory(); got != tt.want || debug.SetMemoryLimit(-1) != tt.want {
			t.Errorf("%s: %d, in effect %d, want %d", tt.name, got, debug.SetMemoryLimit(-1), tt.want)
		}
		if got := debug.SetGCPercent(100); got != tt.percent {
			t.Errorf("%s: GOGC %d, want %d", tt.name, got, tt.percent)
		}
	}
}
