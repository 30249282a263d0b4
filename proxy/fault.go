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
	r := reply{status: f.Status, body: "fault filter abort", flags: telemetry.FlagFI, details: "fault_filter_abort"}
	if f.GRPC != "" {
		// The fault names the code itself, also to a client that speaks no gRPC.
		r.plain, r.body = true, ""
		r.fields = []attrs.Field{{Name: "content-type", Value: "application/grpc"}, {Name: "grpc-status", Value: f.GRPC}, {Name: "grpc-message", Value: "fault filter abort"}}
	}
	x.answer(r)
	return false
}
