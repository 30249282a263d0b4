package main

import (
	"math"
	"os"
	"runtime/debug"
)

// memoryShare is how much of GOMEMLIMIT the Go heap may use. The Deployment sets
// GOMEMLIMIT to the container's memory limit, but the runtime counts only what it
// manages itself: the rest is left for the binary, goroutine stacks in flight and
// kernel buffers charged to the cgroup.
const memoryShare = 0.85

// gcPercent trades memory for CPU while far below the memory limit: the live heap
// of a waypoint is small (10-40 MiB), so letting garbage grow to twice it costs
// little. GOGC, where set, wins.
const gcPercent = 200

// limitMemory lowers the runtime's limit, and lets garbage grow further below it.
// CPU limits need nothing: since Go 1.25 GOMAXPROCS follows the cgroup.
func limitMemory() (limit int64) {
	limit = debug.SetMemoryLimit(-1)
	if limit > 0 && limit < math.MaxInt64 {
		limit = int64(float64(limit) * memoryShare)
		debug.SetMemoryLimit(limit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return limit
}
