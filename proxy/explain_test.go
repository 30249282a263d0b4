package proxy

import (
	"errors"
	"net/netip"
	"testing"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
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
			Refs:    []string{"b|80"}, Backend: "b|80",
			Routes: []routing.Rule{
				rule("go", "/go", routing.Rule{Redirect: &routing.Redirect{Host: "other", Status: 301}}),
				rule("broken", "/broken", routing.Rule{Broken: "bad filter"}),
				rule("fwd", "/fwd", routing.Rule{Backends: []routing.Backend{{Ref: 0, Weight: 1}}, Filters: routing.Filters{Mirrors: []routing.Mirror{{Ref: 0, Numerator: 1, Denominator: 1}}}}),
			},
		}},
		Backends: map[string]*config.Backend{"b|80": {Key: "b|80"}},
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
			if len(e.Policies) != 1 || len(e.Routes) != 3 {
				t.Errorf("%d policies, %d routes considered", len(e.Policies), len(e.Routes))
			}
			if tt.action == "forward" && (len(e.Backends) != 1 || e.Backends[0].Backend != "b|80" || len(e.Mirrors) != 1) {
				t.Errorf("backends %+v, mirrors %v", e.Backends, e.Mirrors)
			}
		})
	}
	if _, err := Explain(store, Question{URL: "http://nobody/"}); !errors.Is(err, ErrUnknownDestination) {
		t.Errorf("an unknown host: %v", err)
	}
	if e, err := Explain(store, Question{URL: "http://cart.shop:80/", Method: "CONNECT"}); err != nil || e.Status != 403 {
		t.Errorf("CONNECT: %+v %v", e, err)
	}
}
