package proxy

import (
	"math/rand/v2"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/telemetry"
)

// fault delays or aborts the request as its rule says.
func (x *exchange) fault() bool {
	list, i := x.chain.Spec.Faults, x.result.Rule.Rule.Fault
	if i < 0 || i >= len(list) {
		return true
	}
	f := list[i].Draw(rand.Uint64)
	if f.Delay > 0 {
		x.rec.Flags |= telemetry.FlagDI
		if !x.pause(f.Delay) {
			x.left()
			return false
		}
	}
	if !f.Abort {
		return true
	}
	r := reply{status: f.Status, body: "fault filter abort", fields: x.ownFields(nil), flags: telemetry.FlagFI, details: "fault_filter_abort"}
	if f.GRPC != "" && x.grpc { // the fault names the code itself; other clients get the text
		r.plain, r.body = true, ""
		r.fields = append(r.fields, attrs.Field{Name: "content-type", Value: "application/grpc"}, attrs.Field{Name: "grpc-status", Value: f.GRPC}, attrs.Field{Name: "grpc-message", Value: "fault filter abort"})
	}
	x.answer(r)
	return false
}
