package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/telemetry"
)

// stranger is an authorizer that knows none of the providers; asking it would allow.
type stranger struct{ stageFunc }

func (stranger) Knows(string) bool { return false }

func yes(string, *attrs.Request) Verdict { return Verdict{Allow: true} }

// askedOf has a CUSTOM policy of each provider for everything.
func askedOf(providers ...string) (ps []authz.Policy) {
	for _, p := range providers {
		ps = append(ps, authz.Policy{Namespace: "shop", Name: p, Action: authz.Custom, Provider: p, Rules: []authz.Rule{{When: authz.Any()}}})
	}
	return ps
}

// TestNobodyToAsk: a request or connection that a CUSTOM policy matches passes only by
// the word of its provider.
func TestNobodyToAsk(t *testing.T) {
	for _, tt := range []struct {
		name    string
		run     any
		ps      []authz.Policy
		code    int
		reason  string
		details string
		flags   telemetry.Flags
	}{
		{"its provider", stageFunc(yes), askedOf("a"), 200, "custom_matched", "via_upstream", 0},
		{"a provider that is unknown", stranger{yes}, askedOf("a"), 403, "custom_matched", "ext_authz_error", telemetry.FlagUAEX},
		{"nothing that asks", "nothing", askedOf("a"), 403, "custom_matched", "ext_authz_error", telemetry.FlagUAEX},
		{"two providers", stageFunc(yes), askedOf("a", "b"), 403, "custom_provider_conflict", "rbac_access_denied_matched_policy[ns[shop]-policy[a]-rule[0]]", 0},
		{"a policy that cannot be read", stageFunc(yes), []authz.Policy{{Namespace: "shop", Name: "a", Action: authz.Custom, Invalid: "x"}}, 403, "policy_invalid", "policy_invalid", 0},
	} {
		r := staged(t, tt.run, config.Stage{Kind: config.StageCustom, Policies: tt.ps})
		r.handle(pod1, hello)
		resp, _ := r.do(get)
		if rec := r.last(1); resp.StatusCode != tt.code || rec.Denied != (tt.code != 200) || rec.Reason != tt.reason || rec.Details != tt.details || rec.Flags != tt.flags {
			t.Errorf("%s: %d, denied %v, reason %q, details %q, flags %v", tt.name, resp.StatusCode, rec.Denied, rec.Reason, rec.Details, rec.Flags)
		}
		r.close()

		// The same for a connection: what is asked stands beside its policies.
		r = newRig(t, nil)
		m := cartModel(both(protocolIs(config.ProtocolTCP), func(m *config.Model) {
			m.Destinations[0].Conn = tt.ps
			m.Destinations[0].Stages = []config.Stage{{Kind: config.StageCustom, Spec: 0}}
		}))
		snap, _ := config.Compile(m, nil, config.Env{State: BackendState, Stage: func(*config.Destination, *config.Stage, any) (any, error) { return tt.run, nil }})
		r.store.Swap(snap)
		r.on(pod1, echo)
		c, _ := r.tunnel()
		_, _ = io.WriteString(c, "x")
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); (err == nil) != (tt.code == 200) {
			t.Errorf("%s, connection: %v", tt.name, err)
		}
		_ = c.Close()
		r.idle()
		if rec := r.last(1); rec.Denied != (tt.code != 200) {
			t.Errorf("%s, connection: %+v", tt.name, rec)
		}
		r.close()
	}
}

// What a stage adds, it adds to what is there.
func TestVerdictAdds(t *testing.T) {
	r := staged(t, stageFunc(func(string, *attrs.Request) Verdict {
		return Verdict{Allow: true, Add: []attrs.Field{{Name: "x-more", Value: "b"}}, QueryChanged: true, Query: "c=d", HasQuery: true}
	}), config.Stage{Kind: config.StageJWT})
	defer r.close()
	var got *http.Request
	r.handle(pod1, func(_ http.ResponseWriter, req *http.Request) { got = req })
	r.do("GET /p?token=secret HTTP/1.1\r\nHost: cart\r\nx-more: a\r\n\r\n")
	if more := got.Header["X-More"]; len(more) != 2 || more[0] != "a" || more[1] != "b" || got.URL.RequestURI() != "/p?c=d" {
		t.Errorf("%v %s", more, got.URL)
	}
}

// TestNamesReachNoSelf: a name or an address that a client chose leads neither to the
// waypoint nor to its machine, whatever a resolver says.
func TestNamesReachNoSelf(t *testing.T) {
	self := netip.MustParseAddr("10.1.0.9")
	guard := hbone.Guard{Self: []netip.Addr{self}}
	r := newRig(t, nil)
	defer r.close()
	r.p.opts.Guard = guard
	st := new(backendState)
	for authority, want := range map[string]bool{
		"a.example": true, "a.example:8080": true, "10.9.9.9": true, "10.9.9.9:80": true, "[fd00::9]:80": true,
		"127.0.0.1": false, "127.0.0.1:8080": false, "[::1]:80": false, "[::ffff:127.0.0.1]": false, "169.254.169.254": false, "0.0.0.0": false,
		"[fe80::1]": false, "[fe80::1%25eth0]": false, "10.1.0.9": false, "[::ffff:10.1.0.9]:15008": false, "255.255.255.255": false, "a.example:x": false, "": false,
	} {
		if ep := r.p.named(st, &config.Dynamic{Host: "*"}, authority, 80); (ep != nil) != want {
			t.Errorf("%q: %+v", authority, ep)
		}
	}
	for authority, want := range map[string]bool{"a.example": true, "a.example:81": true, "b.a.example": true, "example": false, "a.other": false, "10.9.9.9": false} {
		if ep := r.p.named(st, &config.Dynamic{Host: "*.example"}, authority, 80); (ep != nil) != want {
			t.Errorf("below .example, %q: %+v", authority, ep)
		}
	}
	if ep := r.p.named(st, &config.Dynamic{Host: "*"}, "a.example:8080", 80); ep.Hostname != "a.example" || ep.Addr.Port() != 8080 || !ep.Named {
		t.Errorf("%+v", ep)
	}

	for _, tt := range []struct {
		addrs []string
		want  string // empty: forbidden
	}{
		{[]string{"10.9.9.9"}, "10.9.9.9:81"},
		{[]string{"::ffff:10.9.9.9"}, "10.9.9.9:81"},
		{[]string{"127.0.0.1"}, ""},
		{[]string{"127.0.0.1", "10.9.9.9"}, "10.9.9.9:81"},
		{[]string{"::1", "169.254.169.254", "10.1.0.9"}, ""},
	} {
		names := NewNames(func(context.Context, string) (out []netip.Addr, err error) {
			for _, a := range tt.addrs {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		})
		d := &EndpointDialer{Names: names, Guard: guard}
		to, err := d.resolve(t.Context(), &balance.Endpoint{Hostname: "a.example", Addr: netip.AddrPortFrom(netip.Addr{}, 81)})
		if tt.want != "" && (err != nil || to.String() != tt.want) || tt.want == "" && !errors.Is(err, hbone.ErrForbidden) {
			t.Errorf("%v: %v, %v", tt.addrs, to, err)
		}
		names.Close()
	}
}
