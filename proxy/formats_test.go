package proxy

import (
	"net/http"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// TestHeaderFormats writes headers whose values depend on the exchange, either way.
func TestHeaderFormats(t *testing.T) {
	r := newRig(t, both(edited(func(r *routing.Rule) {
		r.Filters.Request = &routing.HeaderOps{
			Set: []routing.HeaderValue{{Name: "x-ip", Format: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}, {Name: "x-who", Format: "<%FILTER_STATE(io.istio.peer_principal)%>"}, {Name: "x-kept", Format: "%REQ(x-none)%"}},
			Add: []routing.HeaderValue{{Name: "x-from", Format: "%REQ(x-a?:path)%"}, {Name: "x-none", Format: "%REQ(nowhere)%"}, {Name: "x-bad", Format: "%REQ(x-bytes)%"}},
		}
		r.Filters.Response = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-host", Format: "%UPSTREAM_HOST% %RESPONSE_CODE%"}}}
	}), func(m *config.Model) {
		m.Destinations[0].Stages = append(m.Destinations[0].Stages, config.Stage{Kind: config.StageHeaders, Headers: &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-stage", Format: "%REQ(:METHOD)%-%PROTOCOL%"}}}})
	}))
	defer r.close()
	var saw http.Header
	r.handle(pod1, func(_ http.ResponseWriter, q *http.Request) { saw = q.Header.Clone() })
	res, _ := r.do("GET /p?q=1 HTTP/1.1\r\nHost: cart\r\nX-Kept: mine\r\nX-Ip: forged\r\n\r\n")
	for name, want := range map[string]string{
		"X-Ip": "10.2.0.1", "X-Who": "<" + client + ">", "X-Kept": "mine", "X-From": "/p?q=1", "X-None": "", "X-Bad": "", "X-Stage": "GET-HTTP/1.1",
	} {
		if got := saw.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := res.Header.Get("X-Host"); got != pod1.String()+" 200" {
		t.Errorf("response: %q", got)
	}
}
