package istiod

import (
	"fmt"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"waypoint.dev/waypoint/routing"
)

func TestHeaderFormats(t *testing.T) {
	for _, x := range []struct {
		value, text, format string
		request, response   bool // supported
	}{
		{"plain", "plain", "", true, true},
		{"50%%", "50%", "", true, true},
		{"%REQ(X-A?:PATH)%", "", "%REQ(X-A?:PATH)%", true, true},
		{"ip=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%; 100%%", "", "ip=%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%; 100%%", true, true},
		{"%FILTER_STATE(io.istio.peer_principal:PLAIN)%", "", "%FILTER_STATE(io.istio.peer_principal:PLAIN)%", true, true},
		{"%FILTER_STATE(downstream_peer:FIELD:workload)%", "", "%FILTER_STATE(downstream_peer:FIELD:workload)%", true, true},
		{"%UPSTREAM_HOST%", "", "%UPSTREAM_HOST%", false, true},
		{"%RESPONSE_CODE%", "", "%RESPONSE_CODE%", false, true},
		{"%FILTER_STATE(other)%", "", "", false, false},
		{"%FILTER_STATE(downstream_peer:FIELD:labels)%", "", "", false, false},
		{"%START_TIME(%s)%", "", "", false, false},
		{"%REQ(a):3%", "", "", false, false},
		{"%REQ()%", "", "", false, false},
		{"%REQ", "", "", false, false},
		{"%HOSTNAME(x)%", "", "", false, false},
		{"%DYNAMIC_METADATA(a:b)%", "", "", false, false},
		{"%CEL(request.host)%", "", "", false, false},
	} {
		for _, side := range []struct {
			name    string
			allowed []string
			want    bool
		}{{"request", requestOperators, x.request}, {"response", responseOperators, x.response}} {
			text, format, err := value(x.value, side.allowed)
			if (err == nil) != side.want || err == nil && (text != x.text || format != x.format) {
				t.Errorf("%s in a %s: %q %q %v", x.value, side.name, text, format, err)
			}
		}
	}
}

// TestHeaderFormatsAreJoined keeps the parts of a list apart.
func TestHeaderFormatsAreJoined(t *testing.T) {
	var o *routing.HeaderOps
	for _, v := range []string{"5%%", "%PROTOCOL%", "c"} {
		next, err := headerOps([]*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "A", Value: v}}}, nil, requestOperators)
		if err != nil {
			t.Fatal(err)
		}
		o = then(o, next)
	}
	if got := fmt.Sprint(o.Add, o.Add[0].Value == ""); got != "[{a 5%%,%PROTOCOL%,c}] true" {
		t.Error(got)
	}
}
