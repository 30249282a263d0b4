package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
)

// TestAdvice holds what is told of objects that only istiod reads: field, severity and
// a part of the message of each.
func TestAdvice(t *testing.T) {
	filter := func(context, typ string) string {
		return `{"targetRefs":[{}],"configPatches":[{"applyTo":"HTTP_FILTER","match":{"context":"` + context + `"},"patch":{"operation":"INSERT_BEFORE","value":{"name":"x","typed_config":{"@type":"type.googleapis.com/` + typ + `"}}}}]}`
	}
	const net, ext = "networking.istio.io/v1", "extensions.istio.io/v1alpha1"
	for _, x := range []struct {
		api, kind, spec string
		want            []string
	}{
		{net, "VirtualService", `{"hosts":["cart"],"http":[{"route":[]}]}`, nil},
		{net, "VirtualService", `{"gateways":["shop/ingress"]}`, []string{"info spec.gateways ignores it"}},
		{net, "VirtualService", `{"gateways":["mesh"],"http":[{"match":[{"sourceLabels":{"a":"b"},"sourceNamespace":"x"}],"fault":{},"delegate":{}}]}`, []string{
			"warning spec.http[0].match[0].sourceLabels leaves this match out", "warning spec.http[0].match[0].sourceNamespace the waypoint's namespace",
			"info spec.http[0].fault honoured", "info spec.http[0].delegate honoured"}},
		{net, "VirtualService", `{"hosts":["db"],"tcp":[{"match":[{"sourceLabels":{"a":"b"}}]}],"tls":[{"match":[{"sniHosts":["db"]},{"sniHosts":["other"]}]}]}`, []string{
			"warning spec.tcp[0].match[0].sourceLabels leaves", "warning spec.tls[0].match[1].sniHosts own host"}},
		{net, "VirtualService", `{"http":5}`, []string{"warning spec "}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", `{}`, []string{"warning spec.targetRefs reaches no waypoint"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", `{"workloadSelector":{"labels":{"a":"b"}},"targetRefs":[{}]}`, []string{"warning spec.workloadSelector never means a waypoint"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", filter("WAYPOINT", "x"), []string{"warning spec.configPatches[0].match.context nothing of it"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", filter("SIDECAR_OUTBOUND", "x"), []string{"warning spec.configPatches[0].match.context no HTTP_FILTER"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", filter("SIDECAR_INBOUND", "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"), []string{"info spec.configPatches[0].patch.value honoured"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", filter("ANY", "envoy.extensions.filters.http.ratelimit.v3.RateLimit"), []string{"warning spec.configPatches[0].patch.value rate limit service"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", filter("ANY", "envoy.extensions.filters.http.lua.v3.Lua"), []string{"warning spec.configPatches[0].patch.value answer 503"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", filter("ANY", "who.knows.Filter"), []string{"warning spec.configPatches[0].patch.value who.knows.Filter is not known"}},
		{"networking.istio.io/v1alpha3", "EnvoyFilter", `{"targetRefs":[{}],"configPatches":[{"applyTo":"HTTP_FILTER","patch":{"operation":"MERGE"}},{"applyTo":"HTTP_FILTER","patch":{"operation":"REMOVE"}},{"applyTo":"BOOTSTRAP"},{"applyTo":"HTTP_ROUTE"}]}`, []string{
			"warning spec.configPatches[0].patch.value no typed_config", "info spec.configPatches[1].patch.value removed", "warning spec.configPatches[2].applyTo no Envoy", "info spec.configPatches[3].applyTo honoured"}},
		{ext, "WasmPlugin", `{"url":"oci://x"}`, []string{"warning spec.failStrategy answers 503"}},
		{ext, "WasmPlugin", `{"url":"oci://x","failStrategy":"FAIL_OPEN"}`, []string{"warning spec.failStrategy left out"}},
		{ext, "WasmPlugin", `{"selector":{}}`, []string{"warning spec.selector never means"}},
		{ext, "TrafficExtension", `{"targetRefs":[{}],"wasm":{"failStrategy":"FAIL_OPEN"}}`, []string{"warning spec.wasm.failStrategy left out"}},
		{ext, "TrafficExtension", `{"targetRefs":[{}],"lua":{"inlineCode":"x"}}`, []string{"warning spec.failStrategy answers 503"}},
		{"telemetry.istio.io/v1", "Telemetry", `{"accessLogging":[{"filter":{"expression":"x"}}],"tracing":[{"providers":[{"name":"otel"}]}]}`, []string{"info spec.tracing[0].providers otel: honoured if", "info spec.accessLogging[0].filter logs everything"}},
		{"telemetry.istio.io/v1", "Telemetry", `{"selector":{"matchLabels":{"a":"b"}}}`, []string{"warning spec.selector never means"}},
		{"networking.istio.io/v1beta1", "ProxyConfig", `{"concurrency":2,"environmentVariables":{"A":"b"},"image":{"imageType":"debug"}}`, []string{
			"info spec.concurrency honoured", "info spec.environmentVariables ISTIO_META", "warning spec.image ignored"}},
	} {
		o, err := Decode([]byte(`{"apiVersion":"`+x.api+`","kind":"`+x.kind+`","metadata":{"name":"n","namespace":"shop"},"spec":`+x.spec+`}`), "f:1")
		if err != nil || o.Err != nil {
			t.Fatalf("%s %s: %v %v", x.kind, x.spec, err, o.Err)
		}
		objs := NewObjects()
		objs.Put(o)
		var got []string
		for _, p := range objs.Problems() {
			if p.Reason == "UnderIstiod" {
				got = append(got, fmt.Sprint([...]string{config.Info: "info", config.Warning: "warning"}[p.Severity], " ", p.Field, " ", p.Message))
			}
		}
		if len(got) != len(x.want) {
			t.Errorf("%s %s: %d, want %d: %q", x.kind, x.spec, len(got), len(x.want), got)
			continue
		}
		for _, w := range x.want {
			head, rest, _ := strings.Cut(w, " ")
			field, part, _ := strings.Cut(rest, " ")
			if !slices.ContainsFunc(got, func(g string) bool {
				return strings.HasPrefix(g, head+" "+field+" under istiod: ") && strings.Contains(g, part)
			}) {
				t.Errorf("%s %s: no %q in %q", x.kind, x.spec, w, got)
			}
		}
	}
}
