package stages_test

import (
	"testing"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

func TestLocalRateLimit(t *testing.T) {
	m := newMesh(t)
	limit := &resilience.RateLimit{Default: &resilience.Bucket{Max: 2, Fill: 1, Each: time.Hour}}
	with := func(d *config.Destination) {
		d.Stages = []config.Stage{{Kind: config.StageRateLimit, Spec: limit}}
	}
	m.serve(with)
	for range 2 {
		if a := m.ask("GET", "/", nil); a.code != 200 {
			t.Fatalf("%d", a.code)
		}
	}
	m.serve(with) // an unchanged limit keeps its bucket
	a := m.ask("GET", "/", nil)
	if a.code != 429 || a.body != "local_rate_limited" || a.header.Get("X-Envoy-Ratelimited") != "true" || a.rec.Flags != telemetry.FlagRL || a.rec.Denied {
		t.Errorf("%d %q %v %v", a.code, a.body, a.header, a.rec.Flags)
	}
}

// TestLocalRateLimitAnswers lets a limit say how it refuses.
func TestLocalRateLimitAnswers(t *testing.T) {
	m := newMesh(t)
	limit := &resilience.RateLimit{Default: &resilience.Bucket{Each: time.Hour}, Status: 503, Fields: []resilience.Header{{Name: "x-local-rate-limit", Value: "true"}}}
	m.serve(func(d *config.Destination) { d.Stages = []config.Stage{{Kind: config.StageRateLimit, Spec: limit}} })
	a := m.ask("GET", "/", nil)
	if a.code != 503 || a.header.Get("X-Local-Rate-Limit") != "true" || a.header.Get("X-Envoy-Ratelimited") != "true" {
		t.Errorf("%d %v", a.code, a.header)
	}
}

func TestFaultOfARoute(t *testing.T) {
	m := newMesh(t)
	m.serve(func(d *config.Destination) {
		r := rule()
		r.Fault = 0
		d.Routes, d.Order = []routing.Rule{r}, routing.AsListed
		d.Faults = []*resilience.Fault{{Delay: time.Millisecond, DelayShare: resilience.Fraction{Num: 1, Den: 1}, AbortStatus: 418, AbortShare: resilience.Fraction{Num: 1, Den: 1}}}
		d.Stages = []config.Stage{{Kind: config.StageFault}}
	})
	if a := m.ask("GET", "/", nil); a.code != 418 || a.body != "fault filter abort" || a.rec.Flags != telemetry.FlagDI|telemetry.FlagFI {
		t.Errorf("%d %q %v", a.code, a.body, a.rec.Flags)
	}
}

// Dry-run policies decide nothing and are recorded; one that cannot be read denies.
func TestDryRunAndInvalid(t *testing.T) {
	m := newMesh(t)
	dry := policy(t, "dry", authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/store/{*}/item"}}}})
	dry.DryRun = true
	m.serve(func(d *config.Destination) {
		d.Stages = []config.Stage{{Kind: config.StageAuthz, Policies: []authz.Policy{dry}}}
	})
	if a := m.ask("GET", "/store/7/item", nil); a.code != 200 || a.rec.DryRun != "denied" || a.rec.DryRunPolicy != "shop/dry" {
		t.Errorf("%d %q %q", a.code, a.rec.DryRun, a.rec.DryRunPolicy)
	}
	if a := m.ask("GET", "/store/7", nil); a.code != 200 || a.rec.DryRun != "allowed" {
		t.Errorf("%d %q", a.code, a.rec.DryRun)
	}
	dry.DryRun = false
	m.serve(func(d *config.Destination) {
		d.Stages = []config.Stage{{Kind: config.StageAuthz, Policies: []authz.Policy{dry}}}
	})
	if a := m.ask("GET", "/store/7/item", nil); a.code != 403 || a.body != authz.DenyBody {
		t.Errorf("%d %q", a.code, a.body)
	}
	m.serve(func(d *config.Destination) {
		d.Stages = []config.Stage{{Kind: config.StageAuthz, Policies: []authz.Policy{{Namespace: "shop", Name: "bad", Invalid: "no"}}}}
	})
	if a := m.ask("GET", "/", nil); a.code != 403 || a.rec.Details != "policy_invalid" || a.rec.Reason != "policy_invalid" {
		t.Errorf("%d %q", a.code, a.rec.Details)
	}
}
