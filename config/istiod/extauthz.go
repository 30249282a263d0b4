package istiod

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	netauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
)

// extAuthz translates an ext_authz filter into a CUSTOM stage. Which requests it
// is asked about is said by a shadow RBAC filter before it, through metadata.
func (t *translator) extAuthz(c *extauthzv3.ExtAuthz, field string) error {
	if at := unknownField(c); at != "" {
		return fmt.Errorf("a field of %s is not known", at)
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"shadow_mode", c.GetShadowMode()},
		{"filter_enabled", c.GetFilterEnabled() != nil && !isAll(c.GetFilterEnabled().GetDefaultValue())},
		{"deny_at_disable", c.GetDenyAtDisable().GetDefaultValue().GetValue()},
		{"disallowed_headers", c.GetDisallowedHeaders() != nil},
		{"decoder_header_mutation_rules", c.GetDecoderHeaderMutationRules() != nil},
	} {
		if x.set {
			return fmt.Errorf("%s is not supported", x.name)
		}
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"metadata_context_namespaces", len(c.GetMetadataContextNamespaces())+len(c.GetTypedMetadataContextNamespaces()) > 0},
		{"include_peer_certificate", c.GetIncludePeerCertificate()},
		{"failure_mode_allow_header_add", c.GetFailureModeAllowHeaderAdd()},
	} {
		if x.set {
			t.missing(field, x.name)
		}
	}
	t.heed(field, c)
	cfg := &extauthz.Config{
		FailOpen:        c.GetFailureModeAllow(),
		StatusOnError:   int(c.GetStatusOnError().GetCode()),
		ClearRouteCache: c.GetClearRouteCache(),
	}
	if b := c.GetWithRequestBody(); b != nil {
		cfg.Body = &extauthz.Body{MaxBytes: int(b.GetMaxRequestBytes()), Partial: b.GetAllowPartialMessage(), AsBytes: b.GetPackAsBytes()}
	}
	headers, err := patterns(c.GetAllowedHeaders())
	if err != nil {
		return err
	}
	switch s := c.GetServices().(type) {
	case *extauthzv3.ExtAuthz_GrpcService:
		if err = grpcService(cfg, s.GrpcService); err != nil {
			return err
		}
		cfg.GRPC.IncludeHeaders, cfg.GRPC.IncludeSNI = headers, c.GetIncludeTlsSession()
	case *extauthzv3.ExtAuthz_HttpService:
		if err = httpService(cfg, s.HttpService, headers); err != nil {
			return err
		}
	default:
		return fmt.Errorf("service %s is not supported", oneof(s, "ExtAuthz_"))
	}
	t.ref(cfg.Backend)
	ps, err := t.gate(c.GetFilterEnabledMetadata(), cfg)
	if err != nil {
		return err
	}
	t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageCustom, Policies: ps, Spec: cfg})
	return nil
}

// gate makes the CUSTOM policies of a filter: those shadow rules whose name the
// metadata matcher takes, or everything when there is none.
func (t *translator) gate(m *matcherv3.MetadataMatcher, cfg *extauthz.Config) ([]authz.Policy, error) {
	cfg.Name = cfg.Backend
	if m == nil {
		return []authz.Policy{{Name: cfg.Name, Action: authz.Custom, Provider: cfg.Name, Rules: []authz.Rule{{Name: "all", When: authz.Any()}}}}, nil
	}
	if m.GetFilter() != rbacMetadata || len(m.GetPath()) != 1 || m.GetInvert() {
		return nil, fmt.Errorf("filter_enabled_metadata of %q is not supported", m.GetFilter())
	}
	sm, err := stringMatch(m.GetValue().GetStringMatch())
	if err != nil {
		return nil, fmt.Errorf("filter_enabled_metadata: %w", err)
	}
	var take func(id string) bool
	switch sm.Kind {
	case authz.MatchPrefix:
		take = func(id string) bool { return strings.HasPrefix(id, sm.Value) }
	case authz.MatchExact:
		take = func(id string) bool { return id == sm.Value }
	default:
		return nil, errString("filter_enabled_metadata: only exact and prefix matches are supported")
	}
	if sm.IgnoreCase {
		return nil, errString("filter_enabled_metadata: ignore_case is not supported")
	}
	cfg.Name = strings.TrimSuffix(strings.TrimPrefix(sm.Value, "istio-ext-authz-"), "-")
	var mine []namedRule
	for _, r := range t.shadow[m.GetPath()[0].GetKey()] {
		if take(r.id) {
			mine = append(mine, r)
		}
	}
	if len(mine) == 0 {
		return nil, errString("no shadow rule before it has a name that filter_enabled_metadata takes")
	}
	return group(mine, authz.Custom, cfg.Name), nil
}

func grpcService(cfg *extauthz.Config, s *corev3.GrpcService) error {
	e := s.GetEnvoyGrpc()
	if e == nil {
		return fmt.Errorf("grpc service %s is not supported", oneof(s.GetTargetSpecifier(), "GrpcService_"))
	}
	cfg.Backend, cfg.Timeout = e.GetClusterName(), duration(s.GetTimeout())
	cfg.GRPC = &extauthz.GRPC{Authority: e.GetAuthority()}
	if len(s.GetInitialMetadata()) > 0 {
		return errString("initial_metadata is not supported")
	}
	return nil
}

func httpService(cfg *extauthz.Config, s *extauthzv3.HttpService, headers []extauthz.Pattern) (err error) {
	h := &extauthz.HTTP{PathPrefix: s.GetPathPrefix()}
	cfg.HTTP = h
	cfg.Backend, cfg.Timeout = s.GetServerUri().GetCluster(), duration(s.GetServerUri().GetTimeout())
	_, rest, _ := strings.Cut(s.GetServerUri().GetUri(), "://")
	h.Authority, _, _ = strings.Cut(rest, "/")
	if s.GetPathOverride() != "" || s.GetRetryPolicy() != nil {
		return errString("path_override and retry_policy are not supported")
	}
	h.IncludeHeaders = headers
	req, res := s.GetAuthorizationRequest(), s.GetAuthorizationResponse()
	if req.GetAllowedHeaders() != nil { // where istiod before 1.20 put them
		if h.IncludeHeaders, err = patterns(req.GetAllowedHeaders()); err != nil {
			return err
		}
	}
	for _, a := range req.GetHeadersToAdd() {
		h.AdditionalHeaders = append(h.AdditionalHeaders, extauthz.Header{Name: strings.ToLower(a.GetKey()), Value: a.GetValue()})
	}
	if res.GetDynamicMetadataFromHeaders() != nil {
		return errString("dynamic_metadata_from_headers is not supported")
	}
	for _, x := range []struct {
		to   *[]extauthz.Pattern
		from *matcherv3.ListStringMatcher
	}{
		{&h.UpstreamOnAllow, res.GetAllowedUpstreamHeaders()},
		{&h.UpstreamAppendOnAllow, res.GetAllowedUpstreamHeadersToAppend()},
		{&h.DownstreamOnAllow, res.GetAllowedClientHeadersOnSuccess()},
		{&h.DownstreamOnDeny, res.GetAllowedClientHeaders()},
	} {
		if *x.to, err = patterns(x.from); err != nil {
			return err
		}
	}
	return nil
}

// patterns reads a selection of header names.
func patterns(l *matcherv3.ListStringMatcher) ([]extauthz.Pattern, error) {
	var out []extauthz.Pattern
	for _, m := range l.GetPatterns() {
		sm, err := stringMatch(m)
		if err != nil {
			return nil, err
		}
		if sm.Kind > authz.MatchContains {
			return nil, errString("regular expressions of header names are not supported")
		}
		out = append(out, extauthz.Pattern{Kind: extauthz.PatternKind(sm.Kind), Value: strings.ToLower(sm.Value)})
	}
	return out, nil
}

// netExtAuthz translates external authorization of connections: a CUSTOM policy
// among those of connections, and a stage that no request runs, which holds the
// provider.
func (t *translator) netExtAuthz(c *netauthzv3.ExtAuthz) error {
	if at := unknownField(c); at != "" {
		return fmt.Errorf("a field of %s is not known", at)
	}
	cfg := &extauthz.Config{FailOpen: c.GetFailureModeAllow()}
	if err := grpcService(cfg, c.GetGrpcService()); err != nil {
		return err
	}
	cfg.GRPC.IncludeSNI = c.GetIncludeTlsSession()
	ps, err := t.gate(c.GetFilterEnabledMetadata(), cfg)
	if err != nil {
		return err
	}
	t.ref(cfg.Backend)
	t.p.conn = both(t.p.conn, ps)
	t.p.custom = append(t.p.custom, config.Stage{Kind: config.StageCustom, Spec: cfg})
	return nil
}
