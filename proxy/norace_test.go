//go:build !race

package proxy

import (
	"testing"

	"waypoint.dev/waypoint/internal/buf"
)

// Under the race detector sync.Pool drops what it is given now and then.

// A request without a body allocates nothing on warm connections.
func TestGetDoesNotAllocate(t *testing.T) {
	buf.SetPoison(false)
	defer buf.SetPoison(true)
	once, done := hotPath(t)
	defer done()
	for range 100 {
		once()
	}
	if n := testing.AllocsPerRun(2000, once); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
