package e2e

import (
	"context"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/telemetry"
	"waypoint.dev/waypoint/telemetry/otlp"
)

// finish is a telemetry.Tracer in a function.
type finish func(*telemetry.Record)

func (f finish) Finish(r *telemetry.Record) { f(r) }

// The span of a request says at the collector what decided, in the words of the log.
func TestSpansOfDecisions(t *testing.T) {
	c, err := testmesh.NewCollector()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tr, err := otlp.New(t.Context(), otlp.Options{Endpoint: c.Addr, Service: "waypoint.shop"})
	if err != nil {
		t.Fatal(err)
	}
	var m *mesh
	m = startMesh(t, func(o *proxy.Options) {
		o.Telemetry = telemetry.New(telemetry.Options{Sampler: telemetry.NewSampler(100), Tracer: finish(func(r *telemetry.Record) {
			tr.Finish(r)
			m.Finish(r) // the test reads a record when its span is queued
		})})
	})
	m.providers()
	ask := meshConfig("extensionProviders:", provider("grpc", ", timeout: 10s")) + customPolicy("ask", "grpc")
	tests := []struct {
		name, policies, path, code string
		tags                       map[string]string // those of policies; all others must be missing
	}{
		{"DENY", policy("shop", "p", "{"+onCart+", action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}, {to: [{operation: {methods: [GET]}}]}]}"), "/a", "403",
			map[string]string{"policy": "shop/p", "policy_rule": "ns[shop]-policy[p]-rule[1]", "policy_reason": "deny_matched"}},
		{"no ALLOW", policy("shop", "p", "{"+onCart+"}"), "/a", "403",
			map[string]string{"policy_reason": "no_allow_match"}},
		{"CUSTOM", ask, "/deny", "418",
			map[string]string{"policy": "shop/ask", "policy_rule": "ns[shop]-policy[ask]-rule[0]", "policy_reason": "custom_matched"}},
		{"AUDIT and dry run", policy("shop", "a", "{"+onCart+", action: AUDIT, rules: [{}]}") + dryRun("d", "{"+onCart+", action: DENY, rules: [{}]}"), "/a", "200",
			map[string]string{"policy_reason": "no_policy", "audit_policy": "shop/a", "dry_run": "denied", "dry_run_policy": "shop/d"}},
		{"ALLOW", policy("shop", "p", "{"+onCart+", rules: [{}]}"), "/a", "200",
			map[string]string{"policy": "shop/p", "policy_rule": "ns[shop]-policy[p]-rule[0]", "policy_reason": "allow_matched"}},
		{"no policy", "", "/a", "200", nil},
	}
	want := map[string]int{} // index of the test, by request id
	logged := map[string]telemetry.Record{}
	for i, tt := range tests {
		m.guard(tt.policies)
		a := m.askAt("clients", cartVIP, "GET", tt.path)
		want[a.id], logged[a.id] = i, a.rec
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tr.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for range tests {
		s := c.Next(ctx)
		if s == nil {
			t.Fatalf("no spans of %v", want)
		}
		tags := testmesh.Tags(s)
		id := tags["guid:x-request-id"]
		i, ok := want[id]
		if !ok {
			t.Fatalf("a span of %q: %v", id, tags)
		}
		delete(want, id)
		tt, r := tests[i], logged[id]
		if tags["http.status_code"] != tt.code {
			t.Errorf("%s: status %s", tt.name, tags["http.status_code"])
		}
		for k, in := range map[string]string{"policy": r.Policy, "policy_rule": r.Rule, "policy_reason": r.Reason,
			"audit_policy": r.Audit, "dry_run": r.DryRun, "dry_run_policy": r.DryRunPolicy} {
			if got := tags["waypoint."+k]; got != in {
				t.Errorf("%s: %s is %q, the log says %q", tt.name, k, got, in)
			} else if got != tt.tags[k] {
				t.Errorf("%s: %s = %q, want %q", tt.name, k, got, tt.tags[k])
			}
		}
	}
}
