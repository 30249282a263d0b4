package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// TestHTTPSettings checks what a destination's settings change of the heads that go
// either way.
func TestHTTPSettings(t *testing.T) {
	rule := edited(func(r *routing.Rule) {
		full := "/new"
		r.Timeout = time.Minute
		r.Filters.Rewrite = &routing.Rewrite{FullPath: &full, Host: "other"}
	})
	with := func(set config.HTTPSettings) func(*config.Model) {
		return both(rule, func(m *config.Model) { m.Destinations[0].Settings = set })
	}
	many := strings.Repeat("X: y\r\n", 9) // with Host: 10
	for _, x := range []struct {
		name    string
		set     config.HTTPSettings
		fields  string
		code    int
		server  string
		own     []string // headers of Envoy's that the app saw
		time    bool     // the client saw x-envoy-upstream-service-time
		id      bool     // the app saw x-request-id
		appSaw  string   // X_under
		details string
	}{
		{"default", config.HTTPSettings{}, "X_under: 1\r\n", 200, "istio-envoy", []string{"expected-rq-timeout-ms", "original-host", "original-path"}, true, true, "1", "via_upstream"},
		{"server name", config.HTTPSettings{ServerName: "shop"}, "", 200, "shop", []string{"expected-rq-timeout-ms", "original-host", "original-path"}, true, true, "", "via_upstream"},
		{"server kept", config.HTTPSettings{KeepServer: true, ServerName: "shop"}, "", 200, "app", []string{"expected-rq-timeout-ms", "original-host", "original-path"}, true, true, "", "via_upstream"},
		{"quiet", config.HTTPSettings{Quiet: true, NoRequestID: true}, "", 200, "istio-envoy", nil, false, false, "", "via_upstream"},
		{"id of the client", config.HTTPSettings{Quiet: true, NoRequestID: true}, "X-Request-Id: mine\r\n", 200, "istio-envoy", nil, false, true, "", "via_upstream"},
		{"as many as may be", config.HTTPSettings{Quiet: true, MaxFields: 10}, many, 200, "istio-envoy", nil, false, true, "", "via_upstream"},
		{"too many", config.HTTPSettings{Quiet: true, MaxFields: 9}, many, 431, "istio-envoy", nil, false, false, "", "http1.too_many_headers"},
		{"underscore dropped", config.HTTPSettings{Quiet: true, Underscores: config.UnderscoresDrop}, "X_under: 1\r\n", 200, "istio-envoy", nil, false, true, "", "via_upstream"},
		{"underscore refused", config.HTTPSettings{Quiet: true, Underscores: config.UnderscoresReject}, "X_under: 1\r\n", 400, "istio-envoy", nil, false, false, "", "http1.unexpected_underscore"},
		{"no underscore", config.HTTPSettings{Quiet: true, Underscores: config.UnderscoresReject}, "X-under: 1\r\n", 200, "istio-envoy", nil, false, true, "", "via_upstream"},
		{"own answer, server kept", config.HTTPSettings{KeepServer: true, Underscores: config.UnderscoresReject}, "X_under: 1\r\n", 400, "", nil, false, false, "", "http1.unexpected_underscore"},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := newRig(t, with(x.set))
			defer r.close()
			var own []string
			var id, under string
			r.handle(pod1, func(w http.ResponseWriter, q *http.Request) {
				for name := range q.Header {
					if rest, ok := strings.CutPrefix(name, "X-Envoy-"); ok {
						own = append(own, strings.ToLower(rest))
					}
				}
				slices.Sort(own)
				id, under = q.Header.Get("X-Request-Id"), strings.Join(q.Header["X_under"], ",")
				w.Header().Set("Server", "app")
			})
			res, _ := r.do("GET / HTTP/1.1\r\nHost: cart\r\n" + x.fields + "\r\n")
			if res.StatusCode != x.code || res.Header.Get("Server") != x.server || (res.Header.Get("X-Envoy-Upstream-Service-Time") != "") != x.time {
				t.Errorf("%d %v", res.StatusCode, res.Header)
			}
			if fmt.Sprint(own) != fmt.Sprint(x.own) || (id != "") != x.id || under != x.appSaw {
				t.Errorf("the app saw %v, id %q, underscore %q", own, id, under)
			}
			r.idle()
			if rec := r.last(1); rec.Details != x.details || (x.code >= 400) != (rec.Flags == telemetry.FlagDPE) {
				t.Errorf("%s %v", rec.Details, rec.Flags)
			}
		})
	}
}
