package istiod

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

// defaultRouteTimeout is Envoy's for a route that says nothing.
const defaultRouteTimeout = 15 * time.Second

// action translates what a route does.
func (s *routeScope) action(r *routing.Rule, in *routev3.Route, m *routeMatch, field string) error {
	switch a := in.GetAction().(type) {
	case *routev3.Route_Route:
		return s.forward(r, a.Route, m, field)
	case *routev3.Route_Redirect:
		return redirect(r, a.Redirect, m)
	case *routev3.Route_DirectResponse:
		return direct(r, a.DirectResponse)
	}
	return fmt.Errorf("action %s is not supported", oneof(in.GetAction(), "Route_"))
}

func direct(r *routing.Rule, a *routev3.DirectResponseAction) error {
	if a.GetBodyFormat() != nil {
		return errors.New("direct_response.body_format is not supported")
	}
	body, err := inline(a.GetBody())
	if err != nil {
		return fmt.Errorf("direct_response.body: %w", err)
	}
	r.Direct = &routing.DirectResponse{Status: int(a.GetStatus()), Body: body}
	return nil
}

// inline reads a data source that carries its data.
func inline(d *corev3.DataSource) (string, error) {
	switch x := d.GetSpecifier().(type) {
	case nil:
		return "", nil
	case *corev3.DataSource_InlineString:
		return x.InlineString, nil
	case *corev3.DataSource_InlineBytes:
		return string(x.InlineBytes), nil
	}
	return "", fmt.Errorf("data source %s is not supported", oneof(d.GetSpecifier(), "DataSource_"))
}

func redirect(r *routing.Rule, a *routev3.RedirectAction, m *routeMatch) error {
	d := &routing.Redirect{Host: a.GetHostRedirect(), Port: int(a.GetPortRedirect()), AuthorityPort: true}
	switch x := a.GetSchemeRewriteSpecifier().(type) {
	case *routev3.RedirectAction_HttpsRedirect:
		if x.HttpsRedirect {
			d.Scheme = "https"
		}
	case *routev3.RedirectAction_SchemeRedirect:
		d.Scheme = x.SchemeRedirect
	}
	switch x := a.GetPathRewriteSpecifier().(type) {
	case *routev3.RedirectAction_PathRedirect:
		p, err := literal(x.PathRedirect)
		if err != nil {
			return fmt.Errorf("redirect.path_redirect: %w", err)
		}
		d.FullPath = &p
	case *routev3.RedirectAction_PrefixRewrite:
		if m.whole {
			d.FullPath = &x.PrefixRewrite
		} else {
			d.PrefixReplace, d.RawPrefix = &x.PrefixRewrite, true
		}
	case *routev3.RedirectAction_RegexRewrite:
		return errors.New("redirect.regex_rewrite is not supported")
	}
	if a.GetStripQuery() {
		return errors.New("redirect.strip_query is not supported")
	}
	d.Status = map[routev3.RedirectAction_RedirectResponseCode]int{
		routev3.RedirectAction_MOVED_PERMANENTLY:  301,
		routev3.RedirectAction_FOUND:              302,
		routev3.RedirectAction_SEE_OTHER:          303,
		routev3.RedirectAction_TEMPORARY_REDIRECT: 307,
		routev3.RedirectAction_PERMANENT_REDIRECT: 308,
	}[a.GetResponseCode()]
	r.Redirect = d
	return nil
}

// noDuration stands for a route that lifts the bound of the connection manager,
// until that is known.
const noDuration = -1

// forward translates a route to clusters.
func (s *routeScope) forward(r *routing.Rule, a *routev3.RouteAction, m *routeMatch, field string) error {
	r.Timeout = defaultRouteTimeout
	if a.GetTimeout() != nil {
		r.Timeout = duration(a.GetTimeout())
	}
	r.IdleTimeout = duration(a.GetIdleTimeout())
	if m := a.GetMaxStreamDuration(); m != nil {
		r.Timeout = 0 // Envoy: RouteEntryImplBase::using_new_timeouts_
		if m.GetMaxStreamDuration() != nil {
			r.MaxDuration = cmp.Or(duration(m.GetMaxStreamDuration()), noDuration)
		}
	}
	status := 503
	switch a.GetClusterNotFoundResponseCode() {
	case routev3.RouteAction_NOT_FOUND:
		status = 404
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		status = 500
	}
	if err := s.clusters(r, a, status); err != nil {
		return err
	}
	if err := rewrite(r, a, m); err != nil {
		return err
	}
	policy := a.GetRetryPolicy()
	if policy == nil {
		policy = s.vh.GetRetryPolicy()
	}
	r.Retry = s.t.retryIndex(field, policy)
	mirrors := a.GetRequestMirrorPolicies()
	if len(mirrors) == 0 {
		mirrors = s.vh.GetRequestMirrorPolicies()
	}
	for _, x := range mirrors {
		s.mirror(r, x, field)
	}
	if h := s.hash(a.GetHashPolicy(), field); len(h) > 0 {
		r.Hash = len(s.t.p.hashes)
		s.t.p.hashes = append(s.t.p.hashes, h)
	}
	s.leftOut(a, field)
	return nil
}

// leftOut names what a route asks for in vain. A grpc-timeout bounds a call here
// whatever the route says, so its maximum of 0, which is none, asks for nothing more:
// the default route of istiod 1.28 and 1.29 holds it.
func (s *routeScope) leftOut(a *routev3.RouteAction, field string) {
	for _, x := range []struct {
		what string
		set  bool
	}{
		{"append_x_forwarded_host", a.GetAppendXForwardedHost()},
		{"max_stream_duration.grpc_timeout_header_max", duration(a.GetMaxStreamDuration().GetGrpcTimeoutHeaderMax()) > 0},
		{"max_stream_duration.grpc_timeout_header_offset", a.GetMaxStreamDuration().GetGrpcTimeoutHeaderOffset() != nil},
		{"hedge_policy", a.GetHedgePolicy() != nil},
		{"internal_redirect_policy", a.GetInternalRedirectPolicy() != nil},
		{"rate_limits", len(a.GetRateLimits()) > 0},
		{"flush_timeout", a.GetFlushTimeout() != nil},
	} {
		if x.set {
			s.t.missing(field+".route", x.what)
		}
	}
}

// clusters translates the choice of a backend.
func (s *routeScope) clusters(r *routing.Rule, a *routev3.RouteAction, status int) error {
	if a.GetMetadataMatch() != nil {
		return errors.New("metadata_match is not supported")
	}
	switch c := a.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		r.Backends = []routing.Backend{{Ref: s.t.ref(c.Cluster), Weight: 1, Status: status}}
		return nil
	case *routev3.RouteAction_WeightedClusters:
		for _, w := range c.WeightedClusters.GetClusters() {
			b, err := s.weighted(w, status)
			if err != nil {
				return fmt.Errorf("weighted cluster %q: %w", w.GetName(), err)
			}
			r.Backends = append(r.Backends, b)
		}
		return nil
	}
	return fmt.Errorf("cluster specifier %s is not supported", oneof(a.GetClusterSpecifier(), "RouteAction_"))
}

func (s *routeScope) weighted(w *routev3.WeightedCluster_ClusterWeight, status int) (b routing.Backend, err error) {
	switch {
	case w.GetName() == "":
		return b, errors.New("cluster_header is not supported")
	case w.GetMetadataMatch() != nil:
		return b, errors.New("metadata_match is not supported")
	case w.GetHostRewriteLiteral() != "":
		return b, errors.New("host_rewrite_literal is not supported")
	}
	for name := range w.GetTypedPerFilterConfig() {
		if _, there := s.t.names[name]; there {
			return b, fmt.Errorf("typed_per_filter_config of %s is not supported", name)
		}
	}
	b = routing.Backend{Ref: s.t.ref(w.GetName()), Weight: w.GetWeight().GetValue(), Status: status}
	if b.Filters.Request, err = headerOps(w.GetRequestHeadersToAdd(), w.GetRequestHeadersToRemove(), requestOperators); err != nil {
		return b, err
	}
	b.Filters.Response, err = headerOps(w.GetResponseHeadersToAdd(), w.GetResponseHeadersToRemove(), responseOperators)
	return b, err
}

// rewrite translates the changes of path and host.
func rewrite(r *routing.Rule, a *routev3.RouteAction, m *routeMatch) error {
	w := &routing.Rewrite{}
	switch {
	case a.GetPrefixRewrite() != "" && m.whole:
		p := a.GetPrefixRewrite() // what matched is the path as a whole
		w.FullPath = &p
	case a.GetPrefixRewrite() != "":
		p := a.GetPrefixRewrite()
		w.PrefixReplace, w.RawPrefix = &p, true
	case a.GetRegexRewrite() != nil:
		w.Regex, w.RegexReplace = a.GetRegexRewrite().GetPattern().GetRegex(), a.GetRegexRewrite().GetSubstitution()
	case a.GetPathRewritePolicy() != nil:
		var t uritemplatev3.UriTemplateRewriteConfig
		if err := unpack(a.GetPathRewritePolicy().GetTypedConfig(), &t); err != nil {
			return fmt.Errorf("path_rewrite_policy %w", err)
		}
		if m.template == nil {
			return errors.New("path_rewrite_policy needs a path template")
		}
		var err error
		if w.Regex, w.RegexReplace, err = templateRewrite(m.template, t.GetPathTemplateRewrite()); err != nil {
			return err
		}
	case a.GetPathRewrite() != "":
		p, err := literal(a.GetPathRewrite())
		if err != nil {
			return fmt.Errorf("path_rewrite: %w", err)
		}
		w.FullPath = &p
	}
	switch h := a.GetHostRewriteSpecifier().(type) {
	case nil:
	case *routev3.RouteAction_HostRewriteLiteral:
		w.Host = h.HostRewriteLiteral
	case *routev3.RouteAction_AutoHostRewrite:
		if h.AutoHostRewrite.GetValue() {
			return errors.New("auto_host_rewrite is not supported")
		}
	default:
		return fmt.Errorf("host rewrite %s is not supported", oneof(h, "RouteAction_"))
	}
	if *w != (routing.Rewrite{}) {
		r.Filters.Rewrite = w
	}
	return nil
}

func (s *routeScope) mirror(r *routing.Rule, p *routev3.RouteAction_RequestMirrorPolicy, field string) {
	if p.GetCluster() == "" || len(p.GetRequestHeadersMutations()) > 0 || p.GetHostRewriteLiteral() != "" {
		s.t.missing(field+".route.request_mirror_policies", "a mirror by cluster_header or with edits")
		return
	}
	mir := routing.Mirror{Ref: s.t.ref(p.GetCluster())}
	if f := p.GetRuntimeFraction(); f != nil {
		mir.Numerator, mir.Denominator = fraction(f.GetDefaultValue())
	}
	if !p.GetDisableShadowHostSuffixAppend() {
		s.t.missing(field+".route.request_mirror_policies", "the -shadow suffix of the host")
	}
	r.Filters.Mirrors = append(r.Filters.Mirrors, mir)
}

// fraction reads a FractionalPercent; nil is none.
func fraction(p *typev3.FractionalPercent) (num, den uint32) {
	switch p.GetDenominator() {
	case typev3.FractionalPercent_TEN_THOUSAND:
		den = 10_000
	case typev3.FractionalPercent_MILLION:
		den = 1_000_000
	default:
		den = 100
	}
	return min(p.GetNumerator(), den), den
}

// isAll reports whether the fraction is everything.
func isAll(p *typev3.FractionalPercent) bool {
	n, d := fraction(p)
	return n == d
}

func share(p *typev3.FractionalPercent) resilience.Fraction {
	if p == nil {
		return resilience.Fraction{}
	}
	n, d := fraction(p)
	return resilience.Fraction{Num: n, Den: d}
}

// hash translates the sources of a route's hash key.
func (s *routeScope) hash(in []*routev3.RouteAction_HashPolicy, field string) []balance.HashSource {
	var out []balance.HashSource
	for _, p := range in {
		h := balance.HashSource{Terminal: p.GetTerminal()}
		switch x := p.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			h.Header = strings.ToLower(x.Header.GetHeaderName())
			if x.Header.GetRegexRewrite() != nil {
				s.t.missing(field+".route.hash_policy", "regex_rewrite")
			}
		case *routev3.RouteAction_HashPolicy_Cookie_:
			c := &balance.HashCookie{Name: x.Cookie.GetName(), Path: x.Cookie.GetPath(), TTL: duration(x.Cookie.GetTtl()), Create: x.Cookie.GetTtl() != nil}
			for _, at := range x.Cookie.GetAttributes() {
				c.Attributes = append(c.Attributes, balance.CookieAttribute{Name: at.GetName(), Value: at.GetValue()})
			}
			h.Cookie = c
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			if !x.ConnectionProperties.GetSourceIp() {
				continue
			}
			h.SourceIP = true
		case *routev3.RouteAction_HashPolicy_QueryParameter_:
			h.Query = x.QueryParameter.GetName()
		default:
			s.t.missing(field+".route.hash_policy", oneof(x, "RouteAction_HashPolicy_"))
			continue
		}
		out = append(out, h)
	}
	return out
}
