package istiod

import (
	"fmt"
	"strings"
	"testing"
	"time"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"

	"waypoint.dev/waypoint/config"
)

// A route's longest duration takes the place of the connection manager's, and of its
// own timeout; the cluster's is beside both.
func TestMaxStreamDuration(t *testing.T) {
	route := func(fields string) string {
		return `{"name":"r","match":{"prefix":"/"},"route":{"cluster":"inbound-vip|80|http|svc-0.shop.svc.cluster.local","timeout":"7s"` + fields + `}}`
	}
	const manager = `"common_http_protocol_options":{"max_stream_duration":"60s"},`
	for _, tt := range []struct {
		name, route, manager string
		most, timeout        time.Duration
	}{
		{"nobody", route(""), "", 0, 7 * time.Second},
		{"manager", route(""), manager, time.Minute, 7 * time.Second},
		{"route", route(`,"max_stream_duration":{"max_stream_duration":"5s"}`), manager, 5 * time.Second, 0},
		{"route says none", route(`,"max_stream_duration":{"max_stream_duration":"0s"}`), manager, 0, 0},
		{"route says nothing of it", route(`,"max_stream_duration":{}`), manager, time.Minute, 0},
	} {
		model, c := one(t, &mesh{routes: map[int]string{0: tt.route}, manager: tt.manager, cluster: `"common_http_protocol_options":{"max_stream_duration":"9s"},`})
		if len(c.Spec.Routes) != 1 || c.Spec.Routes[0].MaxDuration != tt.most || c.Spec.Routes[0].Timeout != tt.timeout {
			t.Errorf("%s: %+v", tt.name, c.Spec.Routes)
		}
		if d := model.Backends[c.Spec.Backend].Settings.MaxStreamDuration; d != 9*time.Second {
			t.Errorf("%s: the cluster's is %v", tt.name, d)
		}
	}
	// The default route of a service without routes has the manager's too.
	if _, c := one(t, &mesh{manager: manager}); len(c.Spec.Routes) != 1 || c.Spec.Routes[0].MaxDuration != time.Minute {
		t.Errorf("default route: %+v", c.Spec.Routes)
	}
}

// What is not applied is said.
func TestFieldsThatDoNothing(t *testing.T) {
	for field, m := range map[string]*mesh{
		"header_key_format":       {manager: `"http_protocol_options":{"header_key_format":{"proper_case_words":{}}},`},
		"grpc_timeout_header_max": {routes: map[int]string{0: `{"match":{"prefix":"/"},"route":{"cluster":"c","max_stream_duration":{"grpc_timeout_header_max":"1s"}}}`}},
	} {
		model, c := one(t, m)
		found := c.Broken != ""
		for _, p := range model.Problems {
			found = found || strings.Contains(fmt.Sprint(p), field)
		}
		if !found || c.Broken != "" {
			t.Errorf("%s: broken %q, problems %+v", field, c.Broken, model.Problems)
		}
	}
}

// gRPC-Web is translated where istiod puts the filter, behind the policies.
func TestGRPCWebFilter(t *testing.T) {
	_, c := one(t, &mesh{filters: map[int]string{0: httpFilter("envoy.filters.http.rbac", "rbac.v3.RBAC", `"rules":{"action":"DENY","policies":{"ns[a]-policy[b]-rule[0]":{"permissions":[{"any":true}],"principals":[{"any":true}]}}}`) + "," +
		httpFilter("envoy.filters.http.grpc_web", "grpc_web.v3.GrpcWeb", "")}})
	var kinds []config.StageKind
	for _, s := range c.Spec.Stages {
		kinds = append(kinds, s.Kind)
	}
	want := []config.StageKind{config.StageAuthz, config.StageGRPCWeb} // no route has a fault or CORS
	if fmt.Sprint(kinds) != fmt.Sprint(want) || c.Spec.Protocol != config.ProtocolGRPCWeb || c.Broken != "" {
		t.Errorf("stages %v, protocol %v, broken %q", kinds, c.Spec.Protocol, c.Broken)
	}
}
