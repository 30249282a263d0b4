package proxy

import (
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// Stages run in the order of their chain. In Istio's a denied request sees no fault:
// neither its delay nor its status, and the record says who denied it.
func TestFaultsComeBehindPolicies(t *testing.T) {
	all := resilience.Fraction{Num: 1, Den: 1}
	faulty := func(m *config.Model) {
		d := m.Destinations[0]
		edited(func(r *routing.Rule) { r.Fault = 0 })(m)
		d.Faults = []*resilience.Fault{{Delay: time.Second, DelayShare: all, AbortStatus: 418, AbortShare: all}}
		d.Stages = append(d.Stages, config.Stage{Kind: config.StageFault})
	}
	deny := policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/denied"}}}})
	turned := func(m *config.Model) {
		s := m.Destinations[0].Stages
		s[0], s[1] = s[1], s[0]
	}
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name, path string
			edit       func(*config.Model)
			code       int
			after      time.Duration
			flags      telemetry.Flags
			reason     string
		}{
			{"denied", "/denied", both(deny, faulty), 403, 0, 0, "deny_matched"},
			{"allowed", "/x", both(deny, faulty), 418, time.Second, telemetry.FlagDI | telemetry.FlagFI, "no_deny_match"},
			{"the other way round", "/denied", both(deny, faulty, turned), 418, time.Second, telemetry.FlagDI | telemetry.FlagFI, ""},
		} {
			r := newRig(t, tt.edit)
			start := time.Now()
			resp, _ := r.do("GET " + tt.path + " HTTP/1.1\r\nHost: c\r\n\r\n")
			rec := r.last(1)
			if d := time.Since(start); resp.StatusCode != tt.code || d != tt.after || rec.Flags != tt.flags || rec.Reason != tt.reason {
				t.Errorf("%s: %d after %v, %v %q", tt.name, resp.StatusCode, d, rec.Flags, rec.Reason)
			}
			r.close()
		}
	})
}

// Answers made before routing carry the edits of the rule that the request would take
// and of its backend, unless that rule answers by itself; what the answer says itself
// stays.
func TestOwnAnswersAreEdited(t *testing.T) {
	header := func(name, value string) *routing.HeaderOps {
		return &routing.HeaderOps{Set: []routing.HeaderValue{{Name: name, Value: value}}}
	}
	routes := func(m *config.Model) {
		d := m.Destinations[0]
		d.Refs = []string{cartKey}
		for i, path := range []string{"/fwd", "/moved", "/broken"} {
			r := forward()
			r.Index, r.Matches = i, []routing.Match{{Path: routing.PathMatch{Kind: routing.PathPrefix, Value: path}}}
			r.Filters.Response = header("x-rule", path)
			switch path {
			case "/fwd":
				r.Backends[0].Filters.Response = header("x-own", "b")
			case "/moved":
				r.Backends, r.Redirect = nil, &routing.Redirect{Host: "other"}
			case "/broken":
				r.Broken = "bad"
			}
			d.Routes = append(d.Routes, r)
		}
	}
	deny := policy(authz.Deny, authz.RuleSpec{})
	token := func(m *config.Model) {
		m.Destinations[0].Stages = []config.Stage{{Kind: config.StageJWT, Spec: 1}}
	}
	v := Verdict{Status: 401, Details: "jwt", Fields: []attrs.Field{{Name: "x-rule", Value: "mine"}, {Name: "x-why", Value: "w"}}}
	for _, tt := range []struct {
		name, path     string
		edit           func(*config.Model)
		code           int
		rule, own, why string
	}{
		{"denied", "/fwd", deny, 403, "/fwd", "b", ""},
		{"denied where it is redirected", "/moved", deny, 403, "", "", ""},
		{"denied where the rule is broken", "/broken", deny, 403, "", "", ""},
		{"denied without a route", "/none", deny, 403, "", "", ""},
		{"a bad token", "/fwd", token, 401, "mine", "b", "w"},
	} {
		r := newRig(t, nil)
		snap, _ := config.Compile(cartModel(both(routes, tt.edit)), r.snap, config.Env{State: BackendState, Stage: func(*config.Destination, *config.Stage, any) (any, error) {
			return stageFunc(func(string, *attrs.Request) Verdict { return v }), nil
		}})
		r.snap = snap
		r.store.Swap(snap)
		resp, _ := r.do("GET " + tt.path + " HTTP/1.1\r\nHost: c\r\n\r\n")
		h := resp.Header
		if resp.StatusCode != tt.code || h.Get("X-Rule") != tt.rule || h.Get("X-Own") != tt.own || h.Get("X-Why") != tt.why || len(h.Values("X-Rule")) > 1 {
			t.Errorf("%s: %d %v", tt.name, resp.StatusCode, h)
		}
		if rec := r.last(1); rec.Route != "default" || !rec.Denied {
			t.Errorf("%s: denied %v, logged route %q", tt.name, rec.Denied, rec.Route)
		}
		r.close()
	}
}
