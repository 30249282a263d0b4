package proxy

import (
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/telemetry"
)

type wantsBody struct{ stageFunc }

func (wantsBody) NeedsBody(string) (int, bool) { return 1 << 20, false }

// What the process has no room for is shed with a counted 503.
func TestOverloadSheds(t *testing.T) {
	r := staged(t, wantsBody{func(string, *attrs.Request) Verdict { return Verdict{Allow: true} }},
		config.Stage{Kind: config.StageCustom, Policies: customPolicy()})
	defer r.close()
	r.handle(pod1, hello)
	o := r.p.overload
	o.SetLimit(resilience.Bytes, 10)
	resp, _ := r.do("POST /a HTTP/1.1\r\nHost: c\r\nContent-Length: 3\r\n\r\nabc")
	if rec := r.last(1); resp.StatusCode != 503 || rec.Flags != telemetry.FlagUO || rec.Details != "overload_bytes" || o.Shed(resilience.Bytes) != 1 {
		t.Errorf("%d %v %q, %d shed", resp.StatusCode, rec.Flags, rec.Details, o.Shed(resilience.Bytes))
	}
	o.SetLimit(resilience.Bytes, 1<<20)
	if resp, body := r.do("POST /a HTTP/1.1\r\nHost: c\r\nContent-Length: 3\r\n\r\nabc"); resp.StatusCode != 200 || body != "hello" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if n := o.Used(resilience.Bytes); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
}
