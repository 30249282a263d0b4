package istiod

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"waypoint.dev/waypoint/authz"
)

// Names that istiod gives to what RBAC reads and writes.
const (
	peerPrincipalKey  = "io.istio.peer_principal"
	jwtMetadata       = "envoy.filters.http.jwt_authn"
	jwtPayloadKey     = "payload"
	rbacMetadata      = "envoy.filters.http.rbac"
	shadowPolicyID    = "shadow_effective_policy_id"
	dryRunAllowPrefix = "istio_dry_run_allow_"
	dryRunDenyPrefix  = "istio_dry_run_deny_"
)

// rbacReader turns RBAC policies into authz expressions.
type rbacReader struct {
	split map[string]bool // claims that are lists separated by spaces

	readsRemote bool // a policy compares the address of x-forwarded-for
}

// namedRule is one policy of an RBAC filter; Istio makes one of each rule.
type namedRule struct {
	id   string // the key in the filter
	when *authz.Expr
}

// rules reads the policies of one RBAC in the order that Envoy tries them, which
// is that of their names.
func (r *rbacReader) rules(c *rbacv3.RBAC) ([]namedRule, error) {
	if at := unknownField(c); at != "" {
		return nil, fmt.Errorf("a field of %s is not known", at)
	}
	names := make([]string, 0, len(c.GetPolicies()))
	for n := range c.GetPolicies() {
		names = append(names, n)
	}
	slices.Sort(names)
	out := make([]namedRule, 0, len(names))
	for _, n := range names {
		e, err := r.policy(c.GetPolicies()[n])
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", n, err)
		}
		out = append(out, namedRule{n, e})
	}
	return out, nil
}

func (r *rbacReader) policy(p *rbacv3.Policy) (*authz.Expr, error) {
	if p.GetCondition() != nil || p.GetCheckedCondition() != nil {
		return nil, errors.New("CEL conditions are not supported")
	}
	if len(p.GetPermissions()) == 0 || len(p.GetPrincipals()) == 0 {
		return nil, errors.New("has no permissions or no principals")
	}
	var perms, ids []*authz.Expr
	for _, x := range p.GetPermissions() {
		e, err := r.permission(x)
		if err != nil {
			return nil, err
		}
		perms = append(perms, e)
	}
	for _, x := range p.GetPrincipals() {
		e, err := r.principal(x)
		if err != nil {
			return nil, err
		}
		ids = append(ids, e)
	}
	return join(authz.And, []*authz.Expr{join(authz.Or, perms), join(authz.Or, ids)}), nil
}

// join avoids a node around a single part.
func join(f func(...*authz.Expr) *authz.Expr, parts []*authz.Expr) *authz.Expr {
	if len(parts) == 1 {
		return parts[0]
	}
	return f(parts...)
}

func (r *rbacReader) permissions(s *rbacv3.Permission_Set, f func(...*authz.Expr) *authz.Expr) (*authz.Expr, error) {
	var parts []*authz.Expr
	for _, x := range s.GetRules() {
		e, err := r.permission(x)
		if err != nil {
			return nil, err
		}
		parts = append(parts, e)
	}
	if len(parts) == 0 {
		return nil, errors.New("an empty set of permissions")
	}
	return join(f, parts), nil
}

func (r *rbacReader) permission(p *rbacv3.Permission) (*authz.Expr, error) {
	switch x := p.GetRule().(type) {
	case *rbacv3.Permission_AndRules:
		return r.permissions(x.AndRules, authz.And)
	case *rbacv3.Permission_OrRules:
		return r.permissions(x.OrRules, authz.Or)
	case *rbacv3.Permission_Any:
		return anyOf(x.Any)
	case *rbacv3.Permission_NotRule:
		e, err := r.permission(x.NotRule)
		if err != nil {
			return nil, err
		}
		return authz.Not(e), nil
	case *rbacv3.Permission_Header:
		h, err := readHeaderMatch(x.Header)
		if err != nil {
			return nil, err
		}
		return h.expr()
	case *rbacv3.Permission_UrlPath:
		return urlPath(x.UrlPath)
	case *rbacv3.Permission_UriTemplate:
		return uriTemplate(x.UriTemplate.GetTypedConfig())
	case *rbacv3.Permission_DestinationIp:
		c, err := cidr(x.DestinationIp)
		if err != nil {
			return nil, err
		}
		return authz.DestinationIP(c), nil
	case *rbacv3.Permission_DestinationPort:
		if x.DestinationPort > 65535 {
			return nil, fmt.Errorf("port %d is none", x.DestinationPort)
		}
		return authz.DestinationPort(uint16(x.DestinationPort)), nil
	case *rbacv3.Permission_DestinationPortRange:
		return authz.DestinationPortRange(x.DestinationPortRange.GetStart(), x.DestinationPortRange.GetEnd())
	case *rbacv3.Permission_RequestedServerName:
		m, err := stringMatch(x.RequestedServerName)
		if err != nil {
			return nil, err
		}
		return authz.RequestedServerName(m)
	case *rbacv3.Permission_Metadata:
		return r.metadata(x.Metadata)
	case *rbacv3.Permission_SourcedMetadata:
		if x.SourcedMetadata.GetMetadataSource() != rbacv3.MetadataSource_DYNAMIC {
			return nil, errors.New("metadata of routes is not supported")
		}
		return r.metadata(x.SourcedMetadata.GetMetadataMatcher())
	default:
		return nil, fmt.Errorf("permission %s is not supported", oneof(x, "Permission_"))
	}
}

func (r *rbacReader) principals(s *rbacv3.Principal_Set, f func(...*authz.Expr) *authz.Expr) (*authz.Expr, error) {
	var parts []*authz.Expr
	for _, x := range s.GetIds() {
		e, err := r.principal(x)
		if err != nil {
			return nil, err
		}
		parts = append(parts, e)
	}
	if len(parts) == 0 {
		return nil, errors.New("an empty set of principals")
	}
	return join(f, parts), nil
}

func (r *rbacReader) principal(p *rbacv3.Principal) (*authz.Expr, error) {
	switch x := p.GetIdentifier().(type) {
	case *rbacv3.Principal_AndIds:
		return r.principals(x.AndIds, authz.And)
	case *rbacv3.Principal_OrIds:
		return r.principals(x.OrIds, authz.Or)
	case *rbacv3.Principal_Any:
		return anyOf(x.Any)
	case *rbacv3.Principal_NotId:
		e, err := r.principal(x.NotId)
		if err != nil {
			return nil, err
		}
		return authz.Not(e), nil
	case *rbacv3.Principal_FilterState:
		if k := x.FilterState.GetKey(); k != peerPrincipalKey {
			return nil, fmt.Errorf("filter state %q is not known", k)
		}
		m, err := stringMatch(x.FilterState.GetStringMatch())
		if err != nil {
			return nil, err
		}
		return authz.Principal(m)
	case *rbacv3.Principal_Authenticated_:
		if x.Authenticated.GetPrincipalName() == nil {
			return authz.Principal(authz.StringMatch{Kind: authz.MatchNonEmpty})
		}
		m, err := stringMatch(x.Authenticated.GetPrincipalName())
		if err != nil {
			return nil, err
		}
		return authz.Principal(m)
	case *rbacv3.Principal_SourceIp:
		c, err := cidr(x.SourceIp)
		if err != nil {
			return nil, err
		}
		return authz.DirectRemoteIP(c), nil
	case *rbacv3.Principal_DirectRemoteIp:
		c, err := cidr(x.DirectRemoteIp)
		if err != nil {
			return nil, err
		}
		return authz.DirectRemoteIP(c), nil
	case *rbacv3.Principal_RemoteIp:
		c, err := cidr(x.RemoteIp)
		if err != nil {
			return nil, err
		}
		r.readsRemote = true
		return authz.RemoteIP(c), nil
	case *rbacv3.Principal_Header:
		h, err := readHeaderMatch(x.Header)
		if err != nil {
			return nil, err
		}
		return h.expr()
	case *rbacv3.Principal_UrlPath:
		return urlPath(x.UrlPath)
	case *rbacv3.Principal_Metadata:
		return r.metadata(x.Metadata)
	case *rbacv3.Principal_SourcedMetadata:
		if x.SourcedMetadata.GetMetadataSource() != rbacv3.MetadataSource_DYNAMIC {
			return nil, errors.New("metadata of routes is not supported")
		}
		return r.metadata(x.SourcedMetadata.GetMetadataMatcher())
	default:
		return nil, fmt.Errorf("principal %s is not supported", oneof(x, "Principal_"))
	}
}

func anyOf(yes bool) (*authz.Expr, error) {
	if !yes {
		return nil, errors.New("any: false is not valid")
	}
	return authz.Any(), nil
}

func urlPath(m *matcherv3.PathMatcher) (*authz.Expr, error) {
	sm, err := stringMatch(m.GetPath())
	if err != nil {
		return nil, err
	}
	return authz.Path(sm)
}

func uriTemplate(cfg *anyMessage) (*authz.Expr, error) {
	var m uritemplatev3.UriTemplateMatchConfig
	if err := unpack(cfg, &m); err != nil {
		return nil, err
	}
	t, _, err := readTemplate(m.GetPathTemplate())
	if err != nil {
		return nil, err
	}
	return authz.PathTemplate(t)
}

// metadata reads a condition on the claims that jwt_authn left behind.
func (r *rbacReader) metadata(m *matcherv3.MetadataMatcher) (*authz.Expr, error) {
	path, err := claimPath(m)
	if err != nil {
		return nil, err
	}
	v, err := claimValue(m.GetValue())
	if err != nil {
		return nil, err
	}
	e, err := authz.Claim(path, len(path) == 1 && (r.split[path[0]] || path[0] == "scope" || path[0] == "permission"), v)
	if err != nil {
		return nil, err
	}
	if m.GetInvert() {
		e = authz.Not(e)
	}
	return authz.Named("request.auth.claims["+strings.Join(path, "][")+"]", e), nil
}

// claimPath returns the path of a claim in the token.
func claimPath(m *matcherv3.MetadataMatcher) ([]string, error) {
	if m.GetFilter() != jwtMetadata {
		return nil, fmt.Errorf("metadata of %q is not supported", m.GetFilter())
	}
	var path []string
	for _, s := range m.GetPath() {
		path = append(path, s.GetKey())
	}
	if len(path) < 2 || path[0] != jwtPayloadKey {
		return nil, fmt.Errorf("metadata %s%v is no claim", jwtMetadata, path)
	}
	return path[1:], nil
}

func claimValue(m *matcherv3.ValueMatcher) (*authz.ValueMatch, error) {
	switch x := m.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_StringMatch:
		s, err := stringMatch(x.StringMatch)
		if err != nil {
			return nil, err
		}
		return authz.ValueString(s)
	case *matcherv3.ValueMatcher_ListMatch:
		v, err := claimValue(x.ListMatch.GetOneOf())
		if err != nil {
			return nil, err
		}
		return authz.ValueListOneOf(v), nil
	case *matcherv3.ValueMatcher_OrMatch:
		var or []*authz.ValueMatch
		for _, k := range x.OrMatch.GetValueMatchers() {
			v, err := claimValue(k)
			if err != nil {
				return nil, err
			}
			or = append(or, v)
		}
		return authz.ValueOr(or...), nil
	case *matcherv3.ValueMatcher_PresentMatch:
		if x.PresentMatch {
			return authz.ValuePresent(), nil
		}
	}
	return nil, fmt.Errorf("value matcher %s is not supported", oneof(m.GetMatchPattern(), "ValueMatcher_"))
}

// oneof names the set member of a oneof, as the proto does.
func oneof(x any, prefix string) string {
	if x == nil {
		return "of an unknown kind"
	}
	name := fmt.Sprintf("%T", x)
	if i := strings.LastIndex(name, prefix); i >= 0 {
		name = name[i+len(prefix):]
	}
	return strings.TrimSuffix(name, "_")
}

// readsSNI reports whether a policy compares the server name of a TLS hello.
func readsSNI(c *rbacv3.RBAC) bool {
	found := false
	var perm func(*rbacv3.Permission)
	set := func(s *rbacv3.Permission_Set) {
		for _, p := range s.GetRules() {
			perm(p)
		}
	}
	perm = func(p *rbacv3.Permission) {
		found = found || p.GetRequestedServerName() != nil
		set(p.GetAndRules())
		set(p.GetOrRules())
		if p.GetNotRule() != nil {
			perm(p.GetNotRule())
		}
	}
	for _, p := range c.GetPolicies() {
		for _, x := range p.GetPermissions() {
			perm(x)
		}
	}
	return found
}
