package proxy

import (
	"strings"
	"sync"

	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// patterns are the formats of header values, compiled once in a process: there are
// few, and they stand in the configuration.
var patterns sync.Map // text -> *telemetry.Pattern

var _ routing.Values = (*exchange)(nil)

// HeaderValue implements routing.Values: what the record says of the exchange so far.
// A value that cannot be in a header is none.
func (x *exchange) HeaderValue(format string) (string, bool) {
	p, ok := patterns.Load(format)
	if !ok {
		made, _ := telemetry.CompileText(format) // the source refused what is not known
		p, _ = patterns.LoadOrStore(format, made)
	}
	x.rec.RequestHeaders = x.fields
	at := len(x.scratch)
	out, ok := p.(*telemetry.Pattern).AppendPresent(x.scratch, &x.rec)
	x.scratch = out
	v := strings.Trim(view(out[at:]), " \t")
	return v, ok && v != "" && routing.ValidValue(v)
}
