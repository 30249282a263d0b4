package istiod

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

const tlsInspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"

// inspectsTLS reports whether the listener reads the TLS hello of connections to a
// port before it chooses a chain.
func inspectsTLS(filters []*listenerv3.ListenerFilter, port uint16) bool {
	for _, f := range filters {
		if innerType(f.GetTypedConfig()) == tlsInspector && !disabled(f.GetFilterDisabled(), port) {
			return true
		}
	}
	return false
}

// disabled evaluates the predicate that switches a listener filter off.
func disabled(p *listenerv3.ListenerFilterChainMatchPredicate, port uint16) bool {
	switch x := p.GetRule().(type) {
	case *listenerv3.ListenerFilterChainMatchPredicate_AnyMatch:
		return x.AnyMatch
	case *listenerv3.ListenerFilterChainMatchPredicate_NotMatch:
		return !disabled(x.NotMatch, port)
	case *listenerv3.ListenerFilterChainMatchPredicate_OrMatch:
		for _, r := range x.OrMatch.GetRules() {
			if disabled(r, port) {
				return true
			}
		}
	case *listenerv3.ListenerFilterChainMatchPredicate_AndMatch:
		for _, r := range x.AndMatch.GetRules() {
			if !disabled(r, port) {
				return false
			}
		}
		return len(x.AndMatch.GetRules()) > 0
	case *listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange:
		return int32(port) >= x.DestinationPortRange.GetStart() && int32(port) < x.DestinationPortRange.GetEnd()
	}
	return false
}
