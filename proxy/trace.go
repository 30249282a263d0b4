package proxy

import "waypoint.dev/waypoint/internal/attrs"

// trace gives the exchange its place in the client's trace, or in a new one, and
// tells the backend. It does nothing, to the header either, while tracing is off.
func (x *exchange) trace() {
	if !x.p.opts.Telemetry.Tracing(x.rec.Plan) {
		return
	}
	at := -1
	for i := range x.fields {
		if x.fields[i].Name == "traceparent" {
			at = i
			break
		}
	}
	parent := ""
	if at >= 0 {
		parent = x.fields[at].Value
	}
	x.rec.Trace = x.p.opts.Telemetry.Place(x.rec.Plan, parent)
	from := len(x.scratch)
	x.scratch = x.rec.Trace.AppendTraceparent(x.scratch)
	v := view(x.scratch[from:])
	if at >= 0 {
		x.fields[at].Value = v
		return
	}
	x.fields = append(x.fields, attrs.Field{Name: "traceparent", Value: v})
}
