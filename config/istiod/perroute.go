package istiod

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

// perRoute applies what the route says to filters of its chain, by their names. A
// filter that the chain does not have is not affected by anything (Envoy), which
// is how istiod leaves stateful sessions and inference pools without effect here.
func (s *routeScope) perRoute(r *routing.Rule, in *routev3.Route, field string) error {
	names := make([]string, 0, 4)
	for _, m := range []map[string]*anyMessage{in.GetTypedPerFilterConfig(), s.vh.GetTypedPerFilterConfig(), s.config.GetTypedPerFilterConfig()} {
		for n := range m {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	for _, n := range names {
		cfg := in.GetTypedPerFilterConfig()[n]
		if cfg == nil {
			cfg = s.vh.GetTypedPerFilterConfig()[n]
		}
		if cfg == nil {
			cfg = s.config.GetTypedPerFilterConfig()[n]
		}
		filter, there := s.t.names[n]
		if !there {
			s.t.note(config.Info, ReasonNotImplemented, field+".typed_per_filter_config", n+" names no filter of the chain, so it has no effect, as in Envoy")
			continue
		}
		if err := s.override(r, n, filter, cfg, field); err != nil {
			return fmt.Errorf("typed_per_filter_config of %s: %w", n, err)
		}
	}
	return nil
}

// override applies one entry. Anything that changes a decision about security is
// refused with its rule.
func (s *routeScope) override(r *routing.Rule, name, filter string, cfg *anyMessage, field string) error {
	switch typeName(cfg.GetTypeUrl()) {
	case "envoy.config.route.v3.FilterConfig":
		var c routev3.FilterConfig
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		if c.GetDisabled() || c.GetConfig() == nil {
			if harmless(filter) {
				return nil
			}
			return errors.New("switching a filter off or on for a route is not supported")
		}
		return s.override(r, name, filter, c.GetConfig(), field)
	case "envoy.extensions.filters.http.cors.v3.CorsPolicy":
		var c corsv3.CorsPolicy
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		p, err := cors(&c)
		r.Filters.CORS = p
		return err
	case "envoy.extensions.filters.http.fault.v3.HTTPFault":
		var c faultv3.HTTPFault
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		r.Fault = s.t.fault(&c, field)
		return nil
	}
	if harmless(filter) {
		s.t.missing(field+".typed_per_filter_config", name)
		return nil
	}
	return fmt.Errorf("%s is not supported per route", typeName(cfg.GetTypeUrl()))
}

// cors translates a CORS policy; nil when it is switched off.
func cors(c *corsv3.CorsPolicy) (*routing.CORS, error) {
	if f := c.GetFilterEnabled(); f != nil {
		if n, _ := fraction(f.GetDefaultValue()); n == 0 {
			return nil, nil
		}
	}
	out := &routing.CORS{
		AllowMethods:     list(c.GetAllowMethods()),
		AllowHeaders:     list(c.GetAllowHeaders()),
		ExposeHeaders:    list(c.GetExposeHeaders()),
		AllowCredentials: c.GetAllowCredentials().GetValue(),
		MaxAge:           -1,
		// Envoy's default is to pass them on.
		ForwardUnmatched: c.GetForwardNotMatchingPreflights() == nil || c.GetForwardNotMatchingPreflights().GetValue(),
	}
	if c.GetMaxAge() != "" {
		n, err := strconv.ParseUint(c.GetMaxAge(), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("max_age %q is no number of seconds", c.GetMaxAge())
		}
		out.MaxAge = time.Duration(n) * time.Second
		if n == 0 {
			out.MaxAge = 1 // below a second: written as 0
		}
	}
	for _, m := range c.GetAllowOriginStringMatch() {
		sm, err := stringMatch(m)
		if err != nil {
			return nil, err
		}
		v := routeValue("", sm)
		if sm.Kind == authz.MatchExact && sm.Value == "*" {
			v = routing.ValueMatch{Kind: routing.ValuePresent}
		}
		out.AllowOrigins = append(out.AllowOrigins, v)
	}
	return out, nil
}

// list reads a comma separated list.
func list(s string) []string {
	var out []string
	for v := range strings.SplitSeq(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// fault translates an injected fault and returns its index, -1 for none. A fault
// for only some of the callers is left out: it must not hit the others.
func (t *translator) fault(c *faultv3.HTTPFault, field string) int {
	switch {
	case len(c.GetHeaders()) > 0, len(c.GetDownstreamNodes()) > 0, c.GetUpstreamCluster() != "":
		t.missing(field, "a fault for some requests only")
		return -1
	case c.GetResponseRateLimit() != nil:
		t.missing(field, "response_rate_limit")
	}
	if c.GetMaxActiveFaults() != nil {
		t.missing(field, "max_active_faults")
	}
	f := &resilience.Fault{}
	if d := c.GetDelay(); d != nil {
		if d.GetHeaderDelay() != nil {
			t.missing(field, "header_delay")
		}
		f.Delay, f.DelayShare = duration(d.GetFixedDelay()), share(d.GetPercentage())
	}
	if a := c.GetAbort(); a != nil {
		f.AbortShare = share(a.GetPercentage())
		switch x := a.GetErrorType().(type) {
		case *faultv3.FaultAbort_HttpStatus:
			f.AbortStatus = int(x.HttpStatus)
		case *faultv3.FaultAbort_GrpcStatus:
			f.AbortGRPC = strconv.Itoa(int(x.GrpcStatus))
		default:
			t.missing(field, "header_abort")
		}
	}
	if *f == (resilience.Fault{}) {
		return -1
	}
	t.p.faults = append(t.p.faults, f)
	return len(t.p.faults) - 1
}
