package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

func explainStore(t *testing.T) *config.Store {
	t.Helper()
	deny, err := authz.NewRule("shop", "no-admin", 0, authz.Deny, &authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/admin*"}}}}, authz.Scope{Namespace: "shop", TrustDomain: "cluster.local"})
	if err != nil {
		t.Fatal(err)
	}
	rule := func(name, prefix string, r routing.Rule) routing.Rule {
		r.Route, r.Kind, r.Name = "shop/r", "HTTPRoute", name
		r.Retry, r.Fault, r.Session, r.Hash = -1, -1, -1, -1
		r.Matches = []routing.Match{{Path: routing.PathMatch{Kind: routing.PathPrefix, Value: prefix}}}
		return r
	}
	m := &config.Model{
		Destinations: []*config.Destination{{
			Key: "cart.shop.svc.cluster.local:80", Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, Port: 80, Protocol: config.ProtocolHTTP,
			Service: config.Service{Host: "cart.shop.svc.cluster.local", Name: "cart", Namespace: "shop", Port: 80},
			Stages:  []config.Stage{{Kind: config.StageAuthz, Policies: []authz.Policy{{Namespace: "shop", Name: "no-admin", Action: authz.Deny, Rules: []authz.Rule{deny}}}}},
			Refs:    []string{"b|80", "idle|80", "unlisted|80", "*.wild|80"}, Backend: "b|80",
			Routes: []routing.Rule{
				rule("go", "/go", routing.Rule{Redirect: &routing.Redirect{Host: "other", Status: 301}}),
				rule("broken", "/broken", routing.Rule{Broken: "bad filter"}),
				rule("fwd", "/fwd", routing.Rule{Backends: []routing.Backend{{Ref: 0, Weight: 1}}, Filters: routing.Filters{Mirrors: []routing.Mirror{{Ref: 0, Numerator: 1, Denominator: 1}}}}),
				rule("idle", "/idle", routing.Rule{Backends: []routing.Backend{{Ref: 1, Weight: 1}}}),
				rule("half", "/half", routing.Rule{Backends: []routing.Backend{{Ref: 1, Weight: 1}, {Ref: 0, Weight: 1}}}),
				rule("unlisted", "/unlisted", routing.Rule{Backends: []routing.Backend{{Ref: 2, Weight: 1}}}),
				rule("named", "/named", routing.Rule{Backends: []routing.Backend{{Ref: 3, Weight: 1}}}),
			},
		}},
		Backends: map[string]*config.Backend{
			"b|80":        {Key: "b|80", Endpoints: []*balance.Endpoint{{Key: "1", Addr: netip.MustParseAddrPort("10.1.0.1:80"), Weight: 1}}},
			"idle|80":     {Key: "idle|80", Endpoints: []*balance.Endpoint{{Key: "1", Addr: netip.MustParseAddrPort("10.1.0.1:80"), Weight: 1, Health: balance.Unhealthy}}},
			"unlisted|80": {Key: "unlisted|80", Unlisted: true},
			"*.wild|80":   {Key: "*.wild|80", Balance: balance.Policy{Kind: balance.Passthrough}, Dynamic: &config.Dynamic{Host: "*.wild"}},
		},
	}
	s := new(config.Store)
	snap, problems := config.Compile(m, nil, config.Env{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s.Swap(snap)
	return s
}

func TestExplain(t *testing.T) {
	store := explainStore(t)
	curl, err := identity.Parse("spiffe://cluster.local/ns/shop/sa/curl")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, url                              string
		decision, action, route, rule, details string
		status                                 int
	}{
		{"forward", "http://cart.shop.svc.cluster.local/fwd/x?y=1", "allow", "forward", "shop/r", "fwd", "", 200},
		{"short name", "http://cart/fwd", "allow", "forward", "shop/r", "fwd", "", 200},
		{"by address", "http://10.0.0.1/fwd", "allow", "forward", "shop/r", "fwd", "", 200},
		{"normalized", "http://cart.shop/x/../fwd", "allow", "forward", "shop/r", "fwd", "", 200},
		{"denied", "http://cart.shop/x/../admin/1", "deny", "answer", "", "", "rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[0]]", 403},
		{"redirect", "http://cart.shop/go", "allow", "answer", "shop/r", "go", "direct_response", 301},
		{"broken", "http://cart.shop/broken", "allow", "answer", "shop/r", "broken", "direct_response", 500},
		{"no rule", "http://cart.shop/none", "allow", "answer", "", "", "route_not_found", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := Explain(store, Question{URL: tt.url, From: curl, Headers: []attrs.Field{{Name: "X-A", Value: "b"}}})
			if err != nil {
				t.Fatal(err)
			}
			if e.Decision != tt.decision || e.Action != tt.action || e.Route != tt.route || e.Rule != tt.rule || e.Status != tt.status || (tt.details != "" && e.Details != tt.details) {
				t.Errorf("%+v", e)
			}
			if len(e.Policies) != 1 || len(e.Routes) != 7 {
				t.Errorf("%d policies, %d routes considered", len(e.Policies), len(e.Routes))
			}
			if tt.action == "forward" && (len(e.Backends) != 1 || e.Backends[0].Backend != "b|80" || len(e.Mirrors) != 1) {
				t.Errorf("backends %+v, mirrors %v", e.Backends, e.Mirrors)
			}
		})
	}
	// What the data path would find no endpoint for, it answers itself.
	for _, tt := range []struct {
		path, host string
		unlisted   bool
		status     int
		shares     string
	}{
		{"/idle", "", false, 503, "[503]"},
		{"/idle", "", true, 503, "[503]"},
		{"/half", "", false, 200, "[503 0]"},
		{"/unlisted", "", false, 503, "[503]"},
		{"/unlisted", "", true, 200, "[0]"},
		{"/named", "a.wild", false, 200, "[0]"},
		{"/named", "wild.evil", false, 503, "[503]"},
	} {
		q := Question{URL: "http://cart.shop" + tt.path, From: curl, Unlisted: tt.unlisted}
		if tt.host != "" {
			q.Headers = []attrs.Field{{Name: "Host", Value: tt.host}}
		}
		e, err := Explain(store, q)
		if err != nil {
			t.Fatal(err)
		}
		shares := []int{}
		for _, b := range e.Backends {
			shares = append(shares, b.Status)
		}
		if e.Status != tt.status || fmt.Sprint(shares) != tt.shares || e.Decision != "allow" || (e.Flags == "UH") != (tt.status == 503) || (len(e.NotAsked) == 1) != (tt.path == "/unlisted" && tt.unlisted) {
			t.Errorf("%+v: %+v", tt, e)
		}
	}
	// A head that the codec refuses, and one that only people write: in any case, without
	// a scheme, not in ASCII.
	for _, tt := range []struct {
		method, url, header string
		status              int
		path, details       string
	}{
		{"get", "http://cart.shop/fwd", "", 400, "", "http1.invalid_method"},
		{"G T", "http://cart.shop/fwd", "", 400, "", "http1.invalid_request_target"},
		{"GET", "http://cart.shop/fwd /x", "", 400, "", "http1."},
		{"GET", "http://cart.shop/fwd", "a b", 400, "", "http1."},
		{"GET", "http://CART.Shop./fwd", "", 200, "/fwd", ""},
		{"GET", "cart.shop/fwd?x#y", "", 200, "/fwd", ""},
		{"GET", "http://cart.shop?/x", "", 404, "/", "route_not_found"},
		{"GET", "http://cart.shop/fwd/%zz/é^|", "", 200, "/fwd/%zz/%C3%A9%5E%7C", ""},
	} {
		q := Question{Method: tt.method, URL: tt.url, From: curl}
		if tt.header != "" {
			q.Headers = []attrs.Field{{Name: tt.header, Value: "x"}}
		}
		e, err := Explain(store, q)
		if err != nil {
			t.Fatal(err)
		}
		if e.Status != tt.status || e.Path != tt.path || !strings.HasPrefix(e.Details, tt.details) {
			t.Errorf("%+v: %d %s %s", tt, e.Status, e.Path, e.Details)
		}
	}
	// A call is answered with 200 and its own status.
	call := Question{URL: "http://cart.shop/none", From: curl, HTTP2: true, Headers: []attrs.Field{{Name: "content-type", Value: "application/grpc"}}}
	if e, err := Explain(store, call); err != nil || e.Status != 200 || e.GRPCStatus != 12 {
		t.Errorf("%+v %v", e, err)
	}
	if _, err := Explain(store, Question{URL: "http://nobody/"}); !errors.Is(err, ErrUnknownDestination) {
		t.Errorf("an unknown host: %v", err)
	}
	if e, err := Explain(store, Question{URL: "http://cart.shop:80/", Method: "CONNECT"}); err != nil || e.Status != 403 {
		t.Errorf("CONNECT: %+v %v", e, err)
	}
}
