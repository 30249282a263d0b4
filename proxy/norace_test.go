//go:build !race

package proxy

import (
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/telemetry"
)

// Under the race detector sync.Pool drops what it is given now and then.

// A request without a body allocates nothing on warm connections, with a log of its
// service and headers from formats too.
func TestGetDoesNotAllocate(t *testing.T) {
	buf.SetPoison(false)
	defer buf.SetPoison(true)
	line, unknown := telemetry.CompileText("%RESP(X-SERVED-BY)% %RESPONSE_CODE%\n")
	if len(unknown) > 0 {
		t.Fatal(unknown)
	}
	log := &nowhere{pattern: line}
	for name, tt := range map[string]struct {
		edit func(*config.Model)
		plan *telemetry.Plan
	}{
		"plain":              {hot, nil},
		"a log and a format": {told, &telemetry.Plan{Logs: []telemetry.Logger{{Sink: log}}, Response: true}},
	} {
		t.Run(name, func(t *testing.T) {
			once, done := hotPath(t, tt.edit, tt.plan)
			defer done()
			for range 100 {
				once()
			}
			if n := testing.AllocsPerRun(2000, once); n != 0 {
				t.Errorf("%v allocations a request", n)
			}
		})
	}
	if got := string(log.b); got != "cart 200\n" {
		t.Errorf("the log says %q", got)
	}
}
