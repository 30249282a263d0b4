package istiod

import (
	"fmt"
	"strings"
	"testing"
	"time"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
)

// TestConnectionManagerSettings reads what ProxyConfig's proxyHeaders and
// connectionSettings become in a connection manager, and tells of what is not done.
func TestConnectionManagerSettings(t *testing.T) {
	for _, x := range []struct {
		manager string
		want    config.HTTPSettings
		told    string // in a warning
	}{
		{`"server_name":"shop",`, config.HTTPSettings{ServerName: "shop"}, ""},
		{`"server_name":"istio-envoy",`, config.HTTPSettings{}, ""},
		{`"server_header_transformation":"PASS_THROUGH",`, config.HTTPSettings{KeepServer: true}, ""},
		{`"generate_request_id":false,`, config.HTTPSettings{NoRequestID: true}, ""},
		{`"common_http_protocol_options":{"max_headers_count":20,"headers_with_underscores_action":"DROP_HEADER"},`, config.HTTPSettings{MaxFields: 20, Underscores: config.UnderscoresDrop}, ""},
		{`"common_http_protocol_options":{"headers_with_underscores_action":"REJECT_REQUEST"},`, config.HTTPSettings{Underscores: config.UnderscoresReject}, ""},
		{`"common_http_protocol_options":{"headers_with_underscores_action":7},`, config.HTTPSettings{Underscores: config.UnderscoresReject}, ""},
		{`"common_http_protocol_options":{"max_headers_count":2000},`, config.HTTPSettings{}, "max_headers_count above 100"},
		{`"common_http_protocol_options":{"idle_timeout":"9s"},`, config.HTTPSettings{}, "idle_timeout"},
		{`"append_x_forwarded_port":true,`, config.HTTPSettings{}, "append_x_forwarded_port"},
		{`"max_request_headers_kb":8,`, config.HTTPSettings{MaxHeadBytes: 8 << 10}, ""},
	} {
		model, c := one(t, &mesh{manager: x.manager})
		got := c.Spec.Settings
		got.Normalization = x.want.Normalization
		if got != x.want || c.Broken != "" {
			t.Errorf("%s: %+v %s", x.manager, got, c.Broken)
		}
		var told []string
		for _, p := range model.Problems {
			if p.Severity == config.Warning && p.Reason == ReasonNotImplemented {
				told = append(told, p.Message)
			}
		}
		if len(told) > 0 != (x.told != "") || !strings.Contains(fmt.Sprint(told), x.told) {
			t.Errorf("%s: told %q, want %q", x.manager, told, x.told)
		}
	}
}

// TestNewerFields tells of fields that a newer istiod may send where they are not
// refused.
func TestNewerFields(t *testing.T) {
	const field = "\xfa\xa3\x09\x01x" // 19007, a text
	m := &mesh{services: 1}
	res := m.resources(t)
	c := res[ClusterType][0]
	c.Body = append(c.Body, field...)
	res[ClusterType][0] = c
	w := NewWorld(testOptions())
	apply(t, w, res)
	if ps := w.Model().Problems; len(ps) != 1 || !strings.Contains(ps[0].Message, "field 19007 of Cluster") || ps[0].Severity != config.Warning {
		t.Errorf("%v", ps)
	}
	tr := &translator{p: &program{}, intern: newInterner(), ext: w.extension}
	var h hcmv3.HttpConnectionManager
	h.ProtoReflect().SetUnknown([]byte(field))
	tr.hcm(&h)
	if !strings.Contains(fmt.Sprint(tr.p.problems), "field 19007 of HttpConnectionManager") {
		t.Errorf("%v", tr.p.problems)
	}
}

// TestLocalRateLimit reads a token bucket and how it refuses.
func TestLocalRateLimit(t *testing.T) {
	const on = `"filter_enabled":{"default_value":{"numerator":100}},"filter_enforced":{"default_value":{"numerator":100}}`
	limit := func(more string) (*resilience.RateLimit, string) {
		tr := &translator{p: &program{}, intern: newInterner()}
		cfg := filterConfig(t, "local_ratelimit.v3.LocalRateLimit", `"stat_prefix":"x","token_bucket":{"max_tokens":4,"tokens_per_fill":2,"fill_interval":"60s"},`+on+more)
		if err := tr.filter("r", httpFilters+"local_ratelimit.v3.LocalRateLimit", cfg); err != nil {
			t.Fatal(err)
		}
		return tr.p.stages[0].Spec.(*resilience.RateLimit), fmt.Sprint(tr.p.problems)
	}
	l, told := limit(`,"status":{"code":"ServiceUnavailable"},"response_headers_to_add":[{"header":{"key":"X-Local-Rate-Limit","value":"true"}},{"header":{"key":"content-length","value":"1"}},{"header":{"key":"x","value":"%REQ(a)%"}}]`)
	if *l.Default != (resilience.Bucket{Max: 4, Fill: 2, Each: time.Minute}) || l.Status != 503 || fmt.Sprint(l.Fields) != "[{x-local-rate-limit true}]" ||
		!strings.Contains(told, "response_headers_to_add content-length") || !strings.Contains(told, "response_headers_to_add x ") {
		t.Errorf("%+v %+v %s", l, l.Default, told)
	}
	if l, told := limit(`,"status":{"code":"OK"},"rate_limited_as_resource_exhausted":true`); l.Status != 0 || !strings.Contains(told, "rate_limited_as_resource_exhausted") {
		t.Errorf("%+v %s", l, told)
	}
}

// TestNothingIsIgnoredInSilence names fields that are set in vain, wherever they stand.
func TestNothingIsIgnoredInSilence(t *testing.T) {
	for _, x := range []struct{ what, manager, cluster, route, told string }{
		{"manager", `"proxy_status_config":{},`, "", "", "http_connection_manager proxy_status_config"},
		{"manager's options", `"common_http_protocol_options":{"max_response_headers_kb":5},`, "", "", "max_response_headers_kb"},
		{"cluster", "", `"connection_pool_per_downstream_connection":true,`, "", "connection_pool_per_downstream_connection"},
		{"cluster's filter", "", `"filters":[{"name":"guard","typed_config":{"@type":"type.googleapis.com/` + "envoy.extensions.filters.network.rbac.v3.RBAC" + `"}}],`, "", "filter guard"},
		{"route", "", "", `{"match":{"prefix":"/"},"tracing":{},"direct_response":{"status":200}}`, "routes[0] tracing"},
		{"action", "", "", `{"match":{"prefix":"/"},"route":{"cluster":"c","priority":"HIGH"}}`, "route priority"},
		{"weighted", "", "", `{"match":{"prefix":"/"},"route":{"weighted_clusters":{"header_name":"x","clusters":[{"name":"c","weight":1}]}}}`, "header_name"},
		{"retries", "", "", `{"match":{"prefix":"/"},"route":{"cluster":"c","retry_policy":{"refresh_cluster_on_retry":true}}}`, "refresh_cluster_on_retry"},
		{"nothing", "", "", `{"match":{"prefix":"/"},"route":{"cluster":"inbound-vip|80|http|svc-0.shop.svc.cluster.local"}}`, ""},
	} {
		m := &mesh{manager: x.manager, cluster: x.cluster, routes: map[int]string{}}
		if x.route != "" {
			m.routes[0] = x.route
		}
		model, _ := one(t, m)
		var told []string
		for _, p := range model.Problems {
			told = append(told, p.Field+" "+p.Message)
		}
		if (x.told == "") != (len(told) == 0) || !strings.Contains(strings.Join(told, "\n"), x.told) {
			t.Errorf("%s: told %q", x.what, told)
		}
	}
}

// TestRouterFilter reads the end of the filters. What it would run on requests to
// backends closes the chain.
func TestRouterFilter(t *testing.T) {
	router := func(body string) *program {
		w := NewWorld(testOptions())
		tr := &translator{p: &program{}, intern: newInterner(), ext: w.extension}
		if err := tr.filter("r", httpFilters+"router.v3.Router", filterConfig(t, "router.v3.Router", body)); err != nil {
			tr.fail("%v", err)
		}
		return tr.p
	}
	if p := router(`"suppress_envoy_headers":true`); !p.settings.Quiet || p.broken != "" || len(p.problems) > 0 {
		t.Errorf("%+v", p)
	}
	if p := router(`"start_child_span":true`); p.broken != "" || len(p.problems) != 1 {
		t.Errorf("%+v", p)
	}
	if p := router(`"upstream_http_filters":[` + httpFilter("inject", "basic_auth.v3.BasicAuth", "") + `]`); !strings.Contains(p.broken, "inject") {
		t.Errorf("broken %q", p.broken)
	}
}

// filterConfig is the configuration of an HTTP filter.
func filterConfig(t *testing.T, typ, body string) *anyMessage {
	t.Helper()
	f := parse(t, &hcmv3.HttpFilter{}, httpFilter("f", typ, body))
	return f.GetTypedConfig()
}
