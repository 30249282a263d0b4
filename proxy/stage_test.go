package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// stageFunc runs every kind of stage that lives outside of the package.
type stageFunc func(kind string, r *attrs.Request) Verdict

func (f stageFunc) Knows(string) bool            { return true }
func (f stageFunc) NeedsBody(string) (int, bool) { return 0, false }
func (f stageFunc) Authorize(_ context.Context, c *Check) Verdict {
	return f("custom "+c.Provider, c.Request)
}
func (f stageFunc) Verify(_ context.Context, r *attrs.Request) Verdict { return f("jwt", r) }
func (f stageFunc) Limit(_ context.Context, r *attrs.Request, _ *routing.Rule) Verdict {
	return f("limit", r)
}

// staged is a rig whose chain has the stages, all run by f.
func staged(t *testing.T, f any, stages ...config.Stage) *rig {
	r := newRig(t, nil)
	m := cartModel(func(m *config.Model) {
		edited(func(r *routing.Rule) { r.Fault = 0 })(m)
		for i := range stages {
			stages[i].Spec = i
		}
		m.Destinations[0].Stages = stages
		m.Destinations[0].Faults, _ = f.([]*resilience.Fault)
	})
	snap, problems := config.Compile(m, r.snap, config.Env{State: BackendState, Stage: func(*config.Destination, *config.Stage, any) (any, error) { return f, nil }})
	for _, p := range problems {
		t.Errorf("%+v", p)
	}
	r.snap = snap
	r.store.Swap(snap)
	return r
}

func customPolicy() []authz.Policy {
	rule, err := authz.NewRule("shop", "c", 0, authz.Custom, &authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/a*"}}}}, authz.Scope{Namespace: "shop"})
	if err != nil {
		panic(err)
	}
	return []authz.Policy{{Namespace: "shop", Name: "c", Action: authz.Custom, Provider: "ext", Rules: []authz.Rule{rule}}}
}

// Stages run in the order of the chain; what one writes the next sees, and the
// backend too.
func TestStageOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	r := staged(t, stageFunc(func(kind string, req *attrs.Request) Verdict {
		mu.Lock()
		defer mu.Unlock()
		seen, _ := req.Header("x-seen")
		order = append(order, kind+seen)
		return Verdict{Allow: true, Set: []attrs.Field{{Name: "x-seen", Value: seen + "+"}}, Remove: []string{"user-agent"},
			Response: []Edit{{Name: "x-" + strings.Fields(kind)[0], Value: "1"}}}
	}),
		config.Stage{Kind: config.StageHeaders, Headers: &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-seen", Value: "h"}}}},
		config.Stage{Kind: config.StageCustom, Policies: customPolicy()},
		config.Stage{Kind: config.StageJWT},
		config.Stage{Kind: config.StageCORS},
		config.Stage{Kind: config.StageRateLimit})
	defer r.close()
	var got *http.Request
	r.handle(pod1, func(_ http.ResponseWriter, req *http.Request) { got = req })
	resp, _ := r.do(get)
	if want := "[custom exth jwth+ limith++]"; fmt.Sprint(order) != want {
		t.Errorf("order %v, want %v", order, want)
	}
	if got.Header.Get("X-Seen") != "h+++" || got.UserAgent() != "" {
		t.Errorf("backend saw %v", got.Header)
	}
	if resp.Header.Get("X-Custom") == "" || resp.Header.Get("X-Jwt") == "" || resp.Header.Get("X-Limit") == "" {
		t.Errorf("client saw %v", resp.Header)
	}
}

func TestStageDenials(t *testing.T) {
	tests := []struct {
		name    string
		stage   config.Stage
		run     any
		verdict Verdict
		code    int
		flags   telemetry.Flags
		details string
	}{
		{"external", config.Stage{Kind: config.StageCustom, Policies: customPolicy()}, nil, Verdict{Body: "no"}, 403, telemetry.FlagUAEX, "ext_authz_denied"},
		{"external error", config.Stage{Kind: config.StageCustom, Policies: customPolicy()}, nil, Verdict{Status: 503, Details: "ext_authz_error"}, 503, telemetry.FlagUAEX, "ext_authz_error"},
		{"no external service", config.Stage{Kind: config.StageCustom, Policies: customPolicy()}, "nothing", Verdict{}, 403, telemetry.FlagUAEX, "ext_authz_error"},
		{"token", config.Stage{Kind: config.StageJWT}, nil, Verdict{Status: 401, Body: "Jwt is expired"}, 401, 0, "jwt_authn_access_denied"},
		{"limit", config.Stage{Kind: config.StageRateLimit}, nil, Verdict{Status: 429, Body: "local_rate_limited", Flags: telemetry.FlagRL}, 429, telemetry.FlagRL, "local_rate_limited"},
		{"limit that nothing runs", config.Stage{Kind: config.StageRateLimit}, 1, Verdict{}, 503, 0, "stage_unavailable{rate_limit}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run := tt.run
			if run == nil {
				run = stageFunc(func(string, *attrs.Request) Verdict { return tt.verdict })
			}
			r := staged(t, run, tt.stage)
			defer r.close()
			r.handle(pod1, hello)
			resp, body := r.do(get)
			if rec := r.last(1); resp.StatusCode != tt.code || body != tt.verdict.Body || rec.Flags != tt.flags || rec.Details != tt.details {
				t.Errorf("%d %q, record %v %q", resp.StatusCode, body, rec.Flags, rec.Details)
			}
		})
	}
}

// Whether a preflight needs a token is the verifier's setting; what it removes
// from requests is removed from preflights too.
func TestPreflightIsVerified(t *testing.T) {
	r := staged(t, stageFunc(func(string, *attrs.Request) Verdict {
		return Verdict{Allow: true, Remove: []string{"x-user"}}
	}), config.Stage{Kind: config.StageJWT})
	defer r.close()
	var got http.Header
	r.handle(pod1, func(_ http.ResponseWriter, req *http.Request) { got = req.Header })
	resp, _ := r.do("OPTIONS / HTTP/1.1\r\nHost: c\r\nOrigin: http://a\r\nX-User: root\r\nAccess-Control-Request-Method: PUT\r\n\r\n")
	if resp.StatusCode != 200 || got.Get("X-User") != "" || got.Get("Origin") == "" {
		t.Errorf("status %d, backend saw %v", resp.StatusCode, got)
	}
}

// Claims of a verified token take part in routing.
func TestClaimsRoute(t *testing.T) {
	r := staged(t, stageFunc(func(string, *attrs.Request) Verdict {
		return Verdict{Allow: true, Claims: &attrs.Claims{Subject: "s", Raw: map[string]any{"group": "beta"}}}
	}), config.Stage{Kind: config.StageCORS}, config.Stage{Kind: config.StageJWT})
	defer r.close()
	m := *r.model.Destinations[0]
	beta := forward()
	beta.Matches = []routing.Match{{Claims: []routing.ClaimMatch{{Path: []string{"group"}, Value: routing.ValueMatch{Value: "beta"}}}}}
	beta.Backends, beta.Direct = nil, &routing.DirectResponse{Status: 299, Body: "beta"}
	m.Stages = r.snap.Chains()[0].Spec.Stages
	m.Routes, m.Refs, m.Order = []routing.Rule{beta, forward()}, []string{"cart.shop.svc.cluster.local|80"}, routing.AsListed
	model := *r.model
	model.Destinations = []*config.Destination{&m}
	run := r.snap.Chains()[0].Stages[0].Run
	snap, _ := config.Compile(&model, r.snap, config.Env{State: BackendState, Stage: func(*config.Destination, *config.Stage, any) (any, error) { return run, nil }})
	r.store.Swap(snap)
	if resp, body := r.do(get); resp.StatusCode != 299 || body != "beta" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func TestFaults(t *testing.T) {
	all := resilience.Fraction{Num: 1, Den: 1}
	synctest.Test(t, func(t *testing.T) {
		tests := []struct {
			fault   *resilience.Fault
			code    int
			body    string
			flags   telemetry.Flags
			details string
			delay   time.Duration
		}{
			{nil, 200, "hello", 0, "via_upstream", 0},
			{&resilience.Fault{Delay: time.Second, DelayShare: all}, 200, "hello", telemetry.FlagDI, "via_upstream", time.Second},
			{&resilience.Fault{AbortStatus: 418, AbortShare: all}, 418, "fault filter abort", telemetry.FlagFI, "fault_filter_abort", 0},
			{&resilience.Fault{Delay: time.Second, DelayShare: all, AbortGRPC: "14", AbortShare: all}, 200, "fault filter abort", telemetry.FlagDI | telemetry.FlagFI, "fault_filter_abort", time.Second},
		}
		for _, tt := range tests {
			r := staged(t, []*resilience.Fault{tt.fault}, config.Stage{Kind: config.StageFault})
			r.handle(pod1, hello)
			start := time.Now()
			resp, body := r.do(get)
			if rec := r.last(1); resp.StatusCode != tt.code || body != tt.body || rec.Flags != tt.flags || rec.Details != tt.details || time.Since(start) != tt.delay {
				t.Errorf("%+v: %d %q, %v %q after %v", tt.fault, resp.StatusCode, body, rec.Flags, rec.Details, time.Since(start))
			}
			r.close()
		}
	})
}

// A panic costs its own exchange, and leaves a record.
func TestPanicIsContained(t *testing.T) {
	r := staged(t, stageFunc(func(string, *attrs.Request) Verdict { panic("boom") }), config.Stage{Kind: config.StageJWT})
	defer r.close()
	c, _ := r.tunnel()
	_, _ = c.Write([]byte(get))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("an answer came")
	}
	_ = c.Close()
	r.idle()
	if rec := r.last(1); rec.Details != "internal_error" || r.p.Panics() != 1 {
		t.Errorf("%d panics, record %+v", r.p.Panics(), rec)
	}
}

// A client-chosen address is served as it is, unless it must not be reached.
func TestPassthrough(t *testing.T) {
	r := newRig(t, func(m *config.Model) {
		d := m.Destinations[0]
		d.Addrs = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		m.Backends[d.Backend].Balance = balance.Policy{Kind: balance.Passthrough}
	})
	defer r.close()
	r.p.opts.Guard = hbone.Guard{Self: []netip.Addr{netip.MustParseAddr("10.1.0.9")}}
	r.handle(netip.MustParseAddrPort("10.7.7.7:80"), hello)
	for to, want := range map[string]int{"10.7.7.7:80": 200, "127.0.0.1:80": 503, "169.254.169.254:80": 503, "10.1.0.9:80": 503} {
		c, _ := r.tunnelTo(to)
		if resp, _ := exchangeOn(t, c, get); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", to, resp.StatusCode, want)
		}
		_ = c.Close()
	}
	r.idle()
	for _, d := range r.dials {
		if d.String() != "10.7.7.7:80" {
			t.Errorf("dialed %v", d)
		}
	}
}

// A workload chain forwards to the address that was asked for.
func TestWorkload(t *testing.T) {
	r := newRig(t, func(m *config.Model) {
		m.Workloads = []*config.Workload{{UID: "w", Name: "cart-1", Namespace: "shop", Addrs: []netip.Addr{pod1.Addr()}, TrustDomain: "cluster.local", ServiceAccount: "cart", Tunnel: true, Healthy: true, WorkloadName: "cart"}}
		m.Destinations = append(m.Destinations, &config.Destination{Key: "workload/w", Workload: true, Addrs: []netip.Prefix{netip.PrefixFrom(pod1.Addr(), 32)}})
	})
	defer r.close()
	r.handle(pod1, hello)
	c, _ := r.tunnelTo(pod1.String())
	if resp, body := exchangeOn(t, c, get); resp.StatusCode != 200 || body != "hello" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	_ = c.Close()
	r.idle()
	if rec := r.last(1); rec.Dest == nil || rec.Dest.Workload != "cart" || rec.Upstream != pod1 {
		t.Errorf("record %+v", rec)
	}
}

// Connections to an endpoint that is gone are not used again.
func TestEndpointGone(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	ended := make(chan struct{})
	r.on(pod1, func(c *memConn) {
		serveHTTP1(c, hello)
		close(ended)
	})
	r.handle(pod2, hello)
	r.do(get)
	r.swap(cartModel(func(m *config.Model) { addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolHTTP, pod2) }))
	<-ended // the kept connection is closed at once
	r.do(get)
	if rec := r.last(2); rec.Upstream != pod2 {
		t.Errorf("upstream %v", rec.Upstream)
	}
}

func TestIdleConnectionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, settings(func(s *resilience.Settings) { s.IdleTimeout = time.Minute }))
		defer r.close()
		r.handle(pod1, hello)
		r.do(get)
		st := stateOf(r.snap.Target("cart.shop.svc.cluster.local|80"))
		time.Sleep(50 * time.Second)
		if n := st.limits.Usage().Connections; n != 1 {
			t.Errorf("%d connections before the timeout", n)
		}
		time.Sleep(20 * time.Second)
		if n := st.limits.Usage().Connections; n != 0 {
			t.Errorf("%d connections behind it", n)
		}
	})
}

func TestMaxRequestsPerConnection(t *testing.T) {
	r := newRig(t, settings(func(s *resilience.Settings) { s.MaxRequestsPerConn = 2 }))
	defer r.close()
	r.handle(pod1, hello)
	c, _ := r.tunnel()
	for range 5 {
		exchangeOn(t, c, get)
	}
	_ = c.Close()
	r.idle()
	if len(r.dials) != 3 {
		t.Errorf("%d dials", len(r.dials))
	}
}
