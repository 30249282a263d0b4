package istiod

import (
	"fmt"
	"strings"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

// xfccFilter is the filter by which a waypoint tells apps who called, on request
// of the pod annotation ambient.istio.io/xfcc-include-client-identity.
const xfccFilter = "istio.waypoint.xfcc_client_identity"

// headerMutation translates edits of headers.
func (t *translator) headerMutation(name string, c *mutationv3.HeaderMutation, field string) error {
	m := c.GetMutations()
	if name == xfccFilter || statesIdentity(m.GetRequestMutations()) {
		t.p.settings.XFCC = true
		return nil
	}
	if len(m.GetQueryParameterMutations()) > 0 || len(m.GetRequestTrailersMutations()) > 0 {
		return errString("edits of query parameters and request trailers are not supported")
	}
	if len(m.GetResponseTrailersMutations()) > 0 {
		t.missing(field, "response_trailers_mutations")
	}
	req, err := mutations(m.GetRequestMutations(), requestOperators)
	if err != nil {
		return err
	}
	res, err := mutations(m.GetResponseMutations(), responseOperators)
	if err != nil {
		return err
	}
	if req != nil {
		t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageHeaders, Headers: req})
	}
	// Filters see a response in the opposite order, after the route's own edits.
	t.response = then(res, t.response)
	return nil
}

// statesIdentity reports whether the edits write the caller's identity into XFCC.
func statesIdentity(ms []*mutationrulesv3.HeaderMutation) bool {
	if len(ms) != 1 {
		return false
	}
	h := ms[0].GetAppend().GetHeader()
	return strings.EqualFold(h.GetKey(), "x-forwarded-client-cert") && strings.Contains(h.GetValue(), "%FILTER_STATE("+peerPrincipalKey)
}

func mutations(ms []*mutationrulesv3.HeaderMutation, allowed []string) (*routing.HeaderOps, error) {
	var out *routing.HeaderOps
	for _, m := range ms {
		o := &routing.HeaderOps{}
		switch a := m.GetAction().(type) {
		case *mutationrulesv3.HeaderMutation_Remove:
			o.Remove = []string{strings.ToLower(a.Remove)}
		case *mutationrulesv3.HeaderMutation_Append:
			if err := addHeader(o, a.Append, allowed); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("mutation %s is not supported", oneof(a, "HeaderMutation_"))
		}
		out = then(out, o)
	}
	return out, nil
}

// localRateLimit translates a token bucket for all requests of the chain.
func (t *translator) localRateLimit(c *localv3.LocalRateLimit, field string) error {
	enabled, enforced := c.GetFilterEnabled().GetDefaultValue(), c.GetFilterEnforced().GetDefaultValue()
	on := func(n, d uint32) bool { return n == d }
	if n, _ := fraction(enabled); n == 0 || c.GetTokenBucket() == nil {
		return nil // Envoy: off
	}
	if n, _ := fraction(enforced); n == 0 {
		t.missing(field, "a rate limit that is not enforced")
		return nil
	}
	if !on(fraction(enabled)) || !on(fraction(enforced)) {
		return errString("a rate limit for a share of the requests is not supported")
	}
	switch {
	case len(c.GetDescriptors()) > 0 || len(c.GetRateLimits()) > 0:
		return errString("descriptors are not supported")
	case c.GetLocalRateLimitPerDownstreamConnection():
		return errString("a rate limit per connection is not supported")
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"enable_x_ratelimit_headers", c.GetEnableXRatelimitHeaders() != 0},
		{"rate_limited_as_resource_exhausted", c.GetRateLimitedAsResourceExhausted()},
		{"local_cluster_rate_limit", c.GetLocalClusterRateLimit() != nil},
	} {
		if x.set {
			t.missing(field, x.name)
		}
	}
	b := c.GetTokenBucket()
	spec := &resilience.RateLimit{Default: &resilience.Bucket{Max: b.GetMaxTokens(), Fill: b.GetTokensPerFill().GetValue(), Each: duration(b.GetFillInterval())}}
	if s := int(c.GetStatus().GetCode()); s >= 400 { // below: 429 (Envoy)
		spec.Status = s
	}
	for _, h := range c.GetResponseHeadersToAdd() {
		name := strings.ToLower(h.GetHeader().GetKey())
		v, err := literal(h.GetHeader().GetValue())
		if err != nil || !routing.ValidValue(v) || !routing.ValidName(name) {
			t.missing(field, "response_headers_to_add "+name)
			continue
		}
		spec.Fields = append(spec.Fields, resilience.Header{Name: name, Value: v})
	}
	t.p.stages = append(t.p.stages, config.Stage{Kind: config.StageRateLimit, Spec: spec})
	return nil
}
