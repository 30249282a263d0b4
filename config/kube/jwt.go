package kube

import (
	"fmt"
	"slices"
	"strings"

	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
)

// tokens makes the JWT stage of a destination's RequestAuthentications, nil when
// they have no rules: a token must be valid for one of the rules, and may be missing.
func tokens(objs []*Object) *jwt.Config {
	c := &jwt.Config{}
	var names []string
	for _, o := range objs {
		rules := o.Body.(*RequestAuthentication).JWTRules
		for i := range rules {
			p := rules[i].provider()
			p.Name = fmt.Sprintf("%s/%s[%d]", o.Namespace, o.Name, i)
			c.Providers = append(c.Providers, p)
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	c.Require = jwt.OptionalAny(names...)
	c.BypassCORSPreflight = true // as istiod sets it
	return c
}

func (j *JWTRule) provider() jwt.Provider {
	p := jwt.Provider{
		Issuer: j.Issuer, Audiences: j.Audiences, JWKS: j.JWKS, JWKSURI: j.JWKSURI, Timeout: dur(j.Timeout),
		FromParams: j.FromParams, FromCookies: j.FromCookies, Forward: j.ForwardOriginalToken,
		PayloadHeader: j.OutputPayloadToHeader,
	}
	if j.keyless() {
		p.JWKS = noKeys
	}
	for _, h := range j.FromHeaders {
		p.FromHeaders = append(p.FromHeaders, jwt.HeaderLocation{Name: h.Name, Prefix: h.Prefix})
	}
	for _, h := range j.OutputClaimToHeaders {
		p.ClaimHeaders = append(p.ClaimHeaders, jwt.ClaimHeader{Header: h.Header, Claim: h.Claim})
	}
	return p
}

// noKeys verifies nothing. istiod sends such keys for those that it cannot find, so
// that tokens are refused and requests without one pass.
const noKeys = `{"keys":[]}`

// keyless reports whether nothing says where the keys of a rule are: discovery needs
// an issuer that is a URL.
func (j *JWTRule) keyless() bool {
	return j.JWKS == "" && j.JWKSURI == "" && !isURL(j.Issuer)
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// warnKeys tells of rules whose tokens are all refused.
func (r *build) warnKeys(o *Object) {
	rules := o.Body.(*RequestAuthentication).JWTRules
	for i := range rules {
		j, p := &rules[i], at("spec.jwtRules", i)
		if j.keyless() {
			r.problem(config.Warning, o, p+".issuer", "NoKeys", "%q is no URL to discover keys at, so all its tokens are refused: set jwksUri or jwks", j.Issuer)
		} else if n, err := jwt.Usable(j.JWKS); j.JWKS != "" && err == nil && n == 0 {
			r.problem(config.Warning, o, p+".jwks", "NoKeys", "holds no key that verifies signatures, so all its tokens are refused")
		}
	}
}

// spaceClaims are the claims that are lists separated by spaces.
func spaceClaims(objs []*Object) (out []string) {
	for _, o := range objs {
		for i := range o.Body.(*RequestAuthentication).JWTRules {
			for _, c := range o.Body.(*RequestAuthentication).JWTRules[i].SpaceDelimitedClaims {
				if !slices.Contains(out, c) {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// addTokens puts the JWT stage into a destination.
func addTokens(d *config.Destination, objs []*Object) {
	if c := tokens(objs); c != nil {
		d.Stages = append(d.Stages, config.Stage{Kind: config.StageJWT, Spec: c})
		d.HTTPOnly = true
	}
}
