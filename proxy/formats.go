package proxy

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// patterns are the formats of header values, compiled once in a process: there are
// few, and they stand in the configuration. Who reads them takes no lock.
var patterns struct {
	of atomic.Pointer[map[string]*telemetry.Pattern] // by text; immutable
	mu sync.Mutex                                    // of who adds one
}

func patternOf(format string) *telemetry.Pattern {
	if have := patterns.of.Load(); have != nil {
		if p := (*have)[format]; p != nil {
			return p
		}
	}
	patterns.mu.Lock()
	defer patterns.mu.Unlock()
	all := map[string]*telemetry.Pattern{}
	if have := patterns.of.Load(); have != nil {
		maps.Copy(all, *have)
	}
	if all[format] == nil {
		all[format], _ = telemetry.CompileText(format) // the source refused what is not known
		patterns.of.Store(&all)
	}
	return all[format]
}

var _ routing.Values = (*exchange)(nil)

// HeaderValue implements routing.Values: what the record says of the exchange so far.
// A value that cannot be in a header is none.
func (x *exchange) HeaderValue(format string) (string, bool) {
	x.rec.RequestHeaders = x.fields
	at := len(x.scratch)
	out, ok := patternOf(format).AppendPresent(x.scratch, &x.rec)
	x.scratch = out
	v := strings.Trim(view(out[at:]), " \t")
	return v, ok && v != "" && routing.ValidValue(v)
}
