package istiod

import (
	"fmt"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// missing notes something that is not done and opens nothing.
func (t *translator) missing(field, what string) {
	t.note(config.Warning, ReasonNotImplemented, field, what+" is not implemented and has no effect")
}

// routes translates the inline route configuration. Envoy picks the virtual host
// by the authority first and never leaves it; here each rule of a host carries
// its domains, and a rule that answers 404 ends it.
func (t *translator) routes(rc *routev3.RouteConfiguration) {
	if at := unknownField(rc); at != "" {
		t.note(config.Warning, ReasonNotImplemented, "route_config", "a field of "+at+" is not known")
	}
	t.heed("route_config", rc)
	global, err := headerOps(rc.GetRequestHeadersToAdd(), rc.GetRequestHeadersToRemove(), requestOperators)
	globalReply, err2 := headerOps(rc.GetResponseHeadersToAdd(), rc.GetResponseHeadersToRemove(), responseOperators)
	if err == nil {
		err = err2
	}
	if err != nil {
		t.fail("route_config: %v", err)
		return
	}
	hosts := sortHosts(rc.GetVirtualHosts())
	for i, h := range hosts {
		vh := h.host
		scope := routeScope{t: t, vh: vh, config: rc, authority: h.match, field: "virtual_hosts[" + vh.GetName() + "]"}
		scope.request, err = headerOps(vh.GetRequestHeadersToAdd(), vh.GetRequestHeadersToRemove(), requestOperators)
		if err == nil {
			scope.response, err = headerOps(vh.GetResponseHeadersToAdd(), vh.GetResponseHeadersToRemove(), responseOperators)
		}
		scope.request, scope.response = then(scope.request, global), then(then(scope.response, globalReply), t.response)
		if err != nil {
			scope.broken = err.Error()
		}
		if vh.GetMatcher() != nil {
			scope.broken = "virtual host matcher is not supported"
		}
		if vh.GetRequireTls() != routev3.VirtualHost_NONE {
			scope.broken = "require_tls is not supported"
		}
		t.heed(scope.field, vh)
		for j, r := range vh.GetRoutes() {
			scope.route(r, j)
		}
		if vh.GetMatcher() != nil && len(vh.GetRoutes()) == 0 {
			t.p.routes = append(t.p.routes, scope.blank("matcher", scope.broken))
		}
		if h.match != nil && i < len(hosts)-1 {
			r := scope.blank("no route", "")
			r.Direct = &routing.DirectResponse{Status: 404}
			t.p.routes = append(t.p.routes, r)
		}
	}
	t.p.implicit = len(t.p.routes) == 1 && isImplicit(&t.p.routes[0])
}

// routeScope is what holds for the routes of one virtual host.
type routeScope struct {
	t                 *translator
	vh                *routev3.VirtualHost
	config            *routev3.RouteConfiguration
	authority         *routing.ValueMatch // nil: any
	request, response *routing.HeaderOps  // edits of the host and above it
	broken            string
	field             string
}

// blank returns a rule for everything that the host gets.
func (s *routeScope) blank(name, broken string) routing.Rule {
	r := routing.Rule{Name: name, Broken: broken, Retry: -1, Fault: -1, Session: -1, Hash: -1}
	r.Matches = []routing.Match{{Authority: s.authority}}
	return r
}

// route translates one route and appends its rule. A route that cannot be
// expressed becomes a rule that answers 500 to what it matches.
func (s *routeScope) route(in *routev3.Route, index int) {
	r := routing.Rule{Name: in.GetName(), Index: index, Retry: -1, Fault: -1, Session: -1, Hash: -1}
	r.Route, r.Kind, r.Index = origin(in, index)
	field := s.field + ".routes[" + strconv.Itoa(index) + "]"
	fail := func(err error) {
		if r.Broken == "" {
			r.Broken = err.Error()
		}
		s.t.note(config.Error, ReasonUnsupported, field, err.Error()+"; the rule answers 500")
	}
	m, err := readMatch(in.GetMatch())
	if m.connect {
		return // CONNECT inside a tunnel is refused before routing
	}
	s.t.heed(field, in)
	s.t.heed(field+".route", in.GetRoute())
	s.t.heed(field+".route.weighted_clusters", in.GetRoute().GetWeightedClusters())
	if err != nil {
		fail(err)
	}
	if s.authority != nil {
		if m.match.Authority != nil {
			m.match.Headers = append(m.match.Headers, *m.match.Authority)
			m.match.Headers[len(m.match.Headers)-1].Name = ":authority"
		}
		m.match.Authority = s.authority
	}
	r.Matches = []routing.Match{m.match}
	if s.broken != "" {
		fail(fmt.Errorf("%s", s.broken))
	}
	if err := s.action(&r, in, &m, field); err != nil {
		fail(err)
	}
	for _, set := range []struct {
		ops    **routing.HeaderOps
		outer  *routing.HeaderOps
		add    []*corev3.HeaderValueOption
		remove []string
		may    []string
	}{
		{&r.Filters.Request, s.request, in.GetRequestHeadersToAdd(), in.GetRequestHeadersToRemove(), requestOperators},
		{&r.Filters.Response, s.response, in.GetResponseHeadersToAdd(), in.GetResponseHeadersToRemove(), responseOperators},
	} {
		ops, err := headerOps(set.add, set.remove, set.may)
		if err != nil {
			fail(err)
		}
		*set.ops = then(ops, set.outer)
	}
	if err := s.perRoute(&r, in, field); err != nil {
		fail(err)
	}
	s.t.p.routes = append(s.t.p.routes, r)
}

// isImplicit reports whether r is what istiod sends for a service without
// routes: everything to one cluster, and nothing more.
func isImplicit(r *routing.Rule) bool {
	f := &r.Filters
	if r.Broken != "" || len(r.Backends) != 1 || len(r.Matches) != 1 || r.Fault >= 0 || r.Route != "" ||
		f.Request != nil || f.Response != nil || f.Rewrite != nil || f.CORS != nil || len(f.Mirrors) > 0 || r.Timeout != 0 {
		return false
	}
	m, b := &r.Matches[0], &r.Backends[0]
	return m.Path.Kind == routing.PathRawPrefix && m.Path.Value == "/" && m.Method == "" && len(m.Headers) == 0 &&
		len(m.Query) == 0 && len(m.Claims) == 0 && m.Authority == nil && m.Scheme == nil &&
		b.Filters.Request == nil && b.Filters.Response == nil
}

// origin names the object a route comes from. istiod notes the VirtualService in
// the metadata; one it made of Gateway API routes has a "~" in its name, and its
// routes are named namespace.name.rule unless the rule has a name.
func origin(in *routev3.Route, index int) (route, kind string, rule int) {
	cfg := in.GetMetadata().GetFilterMetadata()["istio"].GetFields()["config"].GetStringValue()
	_, rest, ok := strings.Cut(cfg, "/namespaces/")
	if !ok {
		return "", "", index
	}
	p := strings.Split(rest, "/")
	if len(p) != 3 {
		return "", "", index
	}
	if !strings.Contains(p[2], "~") {
		return p[0] + "/" + p[2], "VirtualService", index
	}
	if ns, rest, ok := strings.Cut(in.GetName(), "."); ok {
		if i := strings.LastIndexByte(rest, '.'); i > 0 {
			if n, err := strconv.Atoi(rest[i+1:]); err == nil {
				return ns + "/" + rest[:i], "HTTPRoute", n
			}
		}
	}
	return p[0] + "/" + p[2], "HTTPRoute", index
}
