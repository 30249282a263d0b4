//go:build !race

package stages

import (
	"context"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

// Under the race detector sync.Pool drops what it is given now and then.

// A token that was verified before, and a request without one, cost no allocation.
func TestVerifyDoesNotAllocate(t *testing.T) {
	v, r := known(t)
	verify(t, v, r)
	if n := testing.AllocsPerRun(200, func() { verify(t, v, r) }); n != 0 {
		t.Errorf("a known token: %v allocations", n)
	}
	none := &attrs.Request{Method: "GET", Path: "/"}
	if n := testing.AllocsPerRun(200, func() { v.Verify(context.Background(), none).Hold.Release() }); n != 0 {
		t.Errorf("no token: %v allocations", n)
	}
}
