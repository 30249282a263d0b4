package jwt

import (
	"errors"
	"slices"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestRequirements(t *testing.T) {
	one, two := basic(), basic()
	two.Name, two.Issuer, two.FromHeaders = "q", "second", []HeaderLocation{{"x-q", ""}}
	p := &Requirement{Provider: "p"}
	q := &Requirement{Provider: "q"}
	missing, failed := &Requirement{Kind: AllowMissing}, &Requirement{Kind: AllowMissingOrFailed}
	of := func(k RequirementKind, rs ...*Requirement) *Requirement { return &Requirement{Kind: k, Of: rs} }
	t1 := sign("RS256", rsaKey, "r", good(nil))
	t2 := sign("RS256", rsaKey, "r", good(m{"iss": "second"}))
	both := request("authorization: Bearer "+t1, "x-q: "+t2)
	half := request("authorization: Bearer "+t1, "x-q: broken.x.y")
	tests := []struct {
		name string
		req  *Requirement
		r    *attrs.Request
		want int
		iss  string
	}{
		{"all", of(RequireAll, p, q), both, 0, "second"},
		{"all, one missing", of(RequireAll, p, q), bearer(t1), 401, ""},
		{"all, one bad", of(RequireAll, p, q), half, 401, ""},
		{"any", of(RequireAny, q, p), bearer(t1), 0, "issuer"},
		{"any stops at the first", of(RequireAny, p, q), half, 0, "issuer"},
		{"any, none", of(RequireAny, p, q), request(), 401, ""},
		{"allow missing alone", missing, request(), 0, ""},
		{"allow missing alone reads all", missing, both, 0, "second"},
		{"allow missing alone, bad", missing, half, 401, ""},
		{"allow missing beside p ignores q", of(RequireAny, p, missing), request("x-q: broken"), 0, ""},
		{"allow missing beside p, bad", of(RequireAny, p, missing), bearer("broken"), 401, ""},
		{"allow failed", failed, half, 0, "issuer"},
		{"allow failed, all bad", failed, bearer("broken"), 0, ""},
		{"allow failed beside p", of(RequireAny, p, failed), bearer("broken"), 0, ""},
		{"allow failed, too many", failed, request(slices.Repeat([]string{"x-q: broken"}, 17)...), 0, ""},
		{"allow missing, too many", missing, request(slices.Repeat([]string{"x-q: broken"}, 17)...), 401, ""},
		{"audience of the requirement", &Requirement{Provider: "p", Audience: []string{"a"}}, bearer(t1), 403, ""},
	}
	for _, tt := range tests {
		res := check(t, build(t, tt.req, one, two), tt.r)
		iss := ""
		if res.Claims != nil {
			iss = res.Claims.Issuer
		}
		if res.Status != tt.want || iss != tt.iss {
			t.Errorf("%s: %d %q, issuer %q", tt.name, res.Status, res.Body, iss)
		}
	}
	a, err := New(&Config{Providers: []Provider{one}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res := check(t, a, bearer("broken")); res.Status != 0 || res.Claims != nil {
		t.Errorf("no requirement: %+v", res)
	}
	if OptionalAny() != nil {
		t.Error("a requirement of nothing")
	}
}

func TestConfigErrors(t *testing.T) {
	with := func(f func(*Provider)) Config {
		p := basic()
		f(&p)
		return Config{Providers: []Provider{p}}
	}
	tests := []struct {
		field string
		c     Config
	}{
		{"providers[0].name", with(func(p *Provider) { p.Name = "" })},
		{"providers[0].jwks", with(func(p *Provider) { p.JWKS = "x" })},
		{"providers[0].jwks", with(func(p *Provider) { p.JWKSURI = "http://x/" })},
		{"providers[0].issuer", with(func(p *Provider) { p.Issuer, p.JWKS = "", "" })},
		{"providers[0].issuer", with(func(p *Provider) { p.JWKS = "" })},
		{"providers[0].jwksUri", with(func(p *Provider) { p.JWKS, p.JWKSURI = "", "file:///x" })},
		{"providers[0].jwksUri", with(func(p *Provider) { p.JWKS, p.JWKSURI = "", "http://x/" })}, // no store
		{"providers[0].fromHeaders[0].name", with(func(p *Provider) { p.FromHeaders = []HeaderLocation{{"a b", ""}} })},
		{"providers[0].fromParams[0]", with(func(p *Provider) { p.FromParams = []string{""} })},
		{"providers[0].fromCookies[0]", with(func(p *Provider) { p.FromCookies = []string{""} })},
		{"providers[0].outputPayloadToHeader", with(func(p *Provider) { p.PayloadHeader = "a:b" })},
		{"providers[0].outputClaimToHeaders[0].header", with(func(p *Provider) { p.ClaimHeaders = []ClaimHeader{{"", "a"}} })},
		{"providers[0].outputClaimToHeaders[0].claim", with(func(p *Provider) { p.ClaimHeaders = []ClaimHeader{{"a", ""}} })},
		{"providers[1].name", Config{Providers: []Provider{basic(), basic()}}},
		{"require.provider", Config{Require: &Requirement{Provider: "x"}}},
		{"require.of[0].provider", Config{Require: &Requirement{Kind: RequireAny, Of: []*Requirement{{Provider: "x"}}}}},
		{"require", Config{Require: &Requirement{Kind: RequireAll}}},
		{"require", Config{Require: &Requirement{Kind: 99}}},
	}
	for _, tt := range tests {
		_, err := New(&tt.c, nil)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field || fe.Error() == "" {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
}
