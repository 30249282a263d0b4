package istiod

import (
	"fmt"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"

	"time"

	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
)

// jwt translates a jwt_authn filter.
func (t *translator) jwt(c *jwtv3.JwtAuthentication, field string) error {
	if at := unknownField(c); at != "" {
		return fmt.Errorf("a field of %s is not known", at)
	}
	if c.GetFilterStateRules() != nil {
		return errString("filter_state_rules are not supported")
	}
	cfg := &jwt.Config{BypassCORSPreflight: c.GetBypassCorsPreflight()}
	names := make([]string, 0, len(c.GetProviders()))
	for n := range c.GetProviders() {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		p, err := t.jwtProvider(n, c.GetProviders()[n], field)
		if err != nil {
			return fmt.Errorf("provider %s: %w", n, err)
		}
		cfg.Providers = append(cfg.Providers, p)
	}
	switch rules := c.GetRules(); {
	case len(rules) == 0:
	case len(rules) > 1 || !everything(rules[0].GetMatch()):
		return errString("rules for parts of the requests are not supported")
	default:
		req, err := ruleRequirement(c, rules[0])
		if err != nil {
			return err
		}
		cfg.Require = req
	}
	t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageJWT, Spec: cfg})
	return nil
}

// everything reports whether a match takes all requests.
func everything(m *routev3.RouteMatch) bool {
	rm, err := readMatch(m)
	if err != nil || rm.connect {
		return false
	}
	x := &rm.match
	return m.GetPrefix() == "/" && x.Method == "" && len(x.Headers)+len(x.Query)+len(x.Claims) == 0 && x.Authority == nil && x.Scheme == nil
}

func ruleRequirement(c *jwtv3.JwtAuthentication, r *jwtv3.RequirementRule) (*jwt.Requirement, error) {
	switch x := r.GetRequirementType().(type) {
	case nil:
		return nil, nil
	case *jwtv3.RequirementRule_Requires:
		return requirement(x.Requires)
	case *jwtv3.RequirementRule_RequirementName:
		named, ok := c.GetRequirementMap()[x.RequirementName]
		if !ok {
			return nil, fmt.Errorf("requirement %q is not there", x.RequirementName)
		}
		return requirement(named)
	}
	return nil, errString("requirement type is not supported")
}

func requirement(r *jwtv3.JwtRequirement) (*jwt.Requirement, error) {
	several := func(k jwt.RequirementKind, in []*jwtv3.JwtRequirement) (*jwt.Requirement, error) {
		out := &jwt.Requirement{Kind: k}
		for _, x := range in {
			q, err := requirement(x)
			if err != nil {
				return nil, err
			}
			if q == nil {
				return nil, errString("an empty requirement in a list is not supported")
			}
			out.Of = append(out.Of, q)
		}
		return out, nil
	}
	switch x := r.GetRequiresType().(type) {
	case nil:
		return nil, nil
	case *jwtv3.JwtRequirement_ProviderName:
		return &jwt.Requirement{Kind: jwt.RequireProvider, Provider: x.ProviderName}, nil
	case *jwtv3.JwtRequirement_ProviderAndAudiences:
		return &jwt.Requirement{Kind: jwt.RequireProvider, Provider: x.ProviderAndAudiences.GetProviderName(), Audience: x.ProviderAndAudiences.GetAudiences()}, nil
	case *jwtv3.JwtRequirement_RequiresAny:
		return several(jwt.RequireAny, x.RequiresAny.GetRequirements())
	case *jwtv3.JwtRequirement_RequiresAll:
		return several(jwt.RequireAll, x.RequiresAll.GetRequirements())
	case *jwtv3.JwtRequirement_AllowMissing:
		return &jwt.Requirement{Kind: jwt.AllowMissing}, nil
	case *jwtv3.JwtRequirement_AllowMissingOrFailed:
		return &jwt.Requirement{Kind: jwt.AllowMissingOrFailed}, nil
	}
	return nil, fmt.Errorf("requirement %s is not supported", oneof(r.GetRequiresType(), "JwtRequirement_"))
}

func (t *translator) jwtProvider(name string, p *jwtv3.JwtProvider, field string) (jwt.Provider, error) {
	out := jwt.Provider{
		Name: name, Issuer: p.GetIssuer(), Audiences: p.GetAudiences(),
		FromParams: p.GetFromParams(), FromCookies: p.GetFromCookies(),
		Forward: p.GetForward(), PayloadHeader: p.GetForwardPayloadHeader(),
		ClockSkew: time.Duration(p.GetClockSkewSeconds()) * time.Second,
	}
	t.heed(field+".providers["+name+"]", p)
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"subjects", p.GetSubjects() != nil},
		{"require_expiration", p.GetRequireExpiration()},
		{"max_lifetime", p.GetMaxLifetime() != nil},
	} {
		if x.set {
			return out, fmt.Errorf("%s is not supported", x.name)
		}
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"pad_forward_payload_header", p.GetPadForwardPayloadHeader()},
		{"header_in_metadata", p.GetHeaderInMetadata() != ""},
		{"failed_status_in_metadata", p.GetFailedStatusInMetadata() != ""},
	} {
		if x.set {
			t.missing(field+".providers["+name+"]", x.name)
		}
	}
	for _, h := range p.GetFromHeaders() {
		out.FromHeaders = append(out.FromHeaders, jwt.HeaderLocation{Name: h.GetName(), Prefix: h.GetValuePrefix()})
	}
	for _, h := range p.GetClaimToHeaders() {
		out.ClaimHeaders = append(out.ClaimHeaders, jwt.ClaimHeader{Header: h.GetHeaderName(), Claim: h.GetClaimName()})
	}
	for _, c := range p.GetNormalizePayloadInMetadata().GetSpaceDelimitedClaims() {
		if t.rbac.split == nil {
			t.rbac.split = make(map[string]bool)
		}
		t.rbac.split[c] = true
	}
	switch s := p.GetJwksSourceSpecifier().(type) {
	case *jwtv3.JwtProvider_LocalJwks:
		keys, err := inline(s.LocalJwks)
		if err != nil {
			return out, fmt.Errorf("local_jwks: %w", err)
		}
		out.JWKS = keys
	case *jwtv3.JwtProvider_RemoteJwks:
		u := s.RemoteJwks.GetHttpUri()
		out.JWKSURI, out.Timeout, out.Refresh = u.GetUri(), duration(u.GetTimeout()), duration(s.RemoteJwks.GetCacheDuration())
	default:
		return out, fmt.Errorf("keys %s are not supported", oneof(s, "JwtProvider_"))
	}
	return out, nil
}
