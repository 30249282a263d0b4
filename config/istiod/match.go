package istiod

import (
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	uritemplatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/routing"
)

// routeMatch is a translated RouteMatch.
type routeMatch struct {
	match    routing.Match
	whole    bool           // the matched prefix is the whole path
	template []templatePart // of a URI template
	connect  bool           // for CONNECT requests only, which never get to a route here
}

// readMatch translates what a route matches.
func readMatch(m *routev3.RouteMatch) (out routeMatch, err error) {
	if at := unknownField(m); at != "" {
		return out, fmt.Errorf("match: a field of %s is not known", at)
	}
	fold := m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue()
	path := func(k routing.PathKind, v string) {
		out.match.Path = routing.PathMatch{Kind: k, Value: v, IgnoreCase: fold}
	}
	switch s := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		path(routing.PathRawPrefix, s.Prefix)
	case *routev3.RouteMatch_Path:
		path(routing.PathExact, s.Path)
		out.whole = true
	case *routev3.RouteMatch_SafeRegex:
		path(routing.PathRegex, s.SafeRegex.GetRegex())
		out.match.Path.IgnoreCase = false
		out.whole = true
	case *routev3.RouteMatch_PathSeparatedPrefix:
		path(routing.PathPrefix, s.PathSeparatedPrefix)
	case *routev3.RouteMatch_ConnectMatcher_:
		out.connect = true
		return out, nil
	case *routev3.RouteMatch_PathMatchPolicy:
		var t uritemplatev3.UriTemplateMatchConfig
		if err := unpack(s.PathMatchPolicy.GetTypedConfig(), &t); err != nil {
			return out, fmt.Errorf("path match policy %w", err)
		}
		text, parts, err := readTemplate(t.GetPathTemplate())
		if err != nil {
			return out, err
		}
		path(routing.PathTemplate, text)
		out.match.Path.IgnoreCase, out.whole, out.template = false, true, parts
	default:
		return out, fmt.Errorf("path match %s is not supported", oneof(s, "RouteMatch_"))
	}
	if err := readHeaders(&out.match, m.GetHeaders()); err != nil {
		return out, err
	}
	for _, q := range m.GetQueryParameters() {
		v, err := queryMatch(q)
		if err != nil {
			return out, err
		}
		out.match.Query = append(out.match.Query, v)
	}
	for _, d := range m.GetDynamicMetadata() {
		c, err := claimMatch(d)
		if err != nil {
			return out, err
		}
		out.match.Claims = append(out.match.Claims, c)
	}
	if m.GetGrpc() != nil {
		// Envoy: content-type application/grpc, alone or with a +suffix.
		out.match.Headers = append(out.match.Headers, routing.ValueMatch{
			Name: "content-type", Kind: routing.ValueRegex, Value: `application/grpc(\+.*)?`,
		})
	}
	switch {
	case m.GetTlsContext() != nil:
		err = fmt.Errorf("match: tls_context is not supported")
	case len(m.GetCookies()) > 0:
		err = fmt.Errorf("match: cookies are not supported")
	case len(m.GetFilterState()) > 0:
		err = fmt.Errorf("match: filter_state is not supported")
	case m.GetRuntimeFraction() != nil && !isAll(m.GetRuntimeFraction().GetDefaultValue()):
		err = fmt.Errorf("match: runtime_fraction is not supported")
	}
	return out, err
}

// readHeaders translates header conditions; an exact method becomes the match's own.
func readHeaders(m *routing.Match, in []*routev3.HeaderMatcher) error {
	for _, x := range in {
		h, err := readHeaderMatch(x)
		if err != nil {
			return err
		}
		v, err := h.value()
		if err != nil {
			return err
		}
		v.Name = strings.ToLower(v.Name)
		plain := v.Kind == routing.ValueExact && !v.Invert && !v.IgnoreCase
		switch {
		case v.Name == ":method" && plain && m.Method == "" && v.Value != "":
			m.Method = v.Value
		case v.Name == ":authority" && m.Authority == nil:
			m.Authority = &v
		case v.Name == ":scheme" && m.Scheme == nil:
			m.Scheme = &v
		default:
			m.Headers = append(m.Headers, v)
		}
	}
	return nil
}

func queryMatch(q *routev3.QueryParameterMatcher) (routing.ValueMatch, error) {
	switch s := q.GetQueryParameterMatchSpecifier().(type) {
	case *routev3.QueryParameterMatcher_StringMatch:
		m, err := stringMatch(s.StringMatch)
		if err != nil {
			return routing.ValueMatch{}, fmt.Errorf("query parameter %s: %w", q.GetName(), err)
		}
		return routeValue(q.GetName(), m), nil
	case *routev3.QueryParameterMatcher_PresentMatch:
		return routing.ValueMatch{Name: q.GetName(), Kind: routing.ValuePresent, Invert: !s.PresentMatch}, nil
	case nil:
		return routing.ValueMatch{Name: q.GetName(), Kind: routing.ValuePresent}, nil
	}
	return routing.ValueMatch{}, fmt.Errorf("query parameter %s: match is not supported", q.GetName())
}

// claimMatch reads a condition on a token's claim. Istio asks for a string or a
// list with such a string, which is how routing compares claims.
func claimMatch(m *matcherv3.MetadataMatcher) (routing.ClaimMatch, error) {
	path, err := claimPath(m)
	if err != nil {
		return routing.ClaimMatch{}, err
	}
	out := routing.ClaimMatch{Path: path}
	v := m.GetValue()
	if p, ok := v.GetMatchPattern().(*matcherv3.ValueMatcher_PresentMatch); ok {
		out.Value = routing.ValueMatch{Kind: routing.ValuePresent, Invert: p.PresentMatch == m.GetInvert()}
		return out, nil
	}
	sm, err := stringOrList(v)
	if err != nil {
		return out, fmt.Errorf("claim %s: %w", strings.Join(path, "."), err)
	}
	out.Value = routeValue("", sm)
	out.Value.Invert = m.GetInvert()
	return out, nil
}

// stringOrList reads or(list(one_of x), x).
func stringOrList(v *matcherv3.ValueMatcher) (sm authz.StringMatch, err error) {
	or := v.GetOrMatch().GetValueMatchers()
	if len(or) != 2 {
		return sm, fmt.Errorf("value matcher %s is not supported in routes", oneof(v.GetMatchPattern(), "ValueMatcher_"))
	}
	list, one := or[0], or[1]
	if list.GetListMatch() == nil {
		list, one = one, list
	}
	in := list.GetListMatch().GetOneOf().GetStringMatch()
	if in == nil || one.GetStringMatch() == nil {
		return sm, fmt.Errorf("value matcher is not supported in routes")
	}
	a, err := stringMatch(in)
	if err != nil {
		return sm, err
	}
	b, err := stringMatch(one.GetStringMatch())
	if err == nil && a != b {
		err = fmt.Errorf("value matcher is not supported in routes")
	}
	return b, err
}
