package istiod

import (
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"waypoint.dev/waypoint/routing"
)

// domainHost is a virtual host under one of its domains.
type domainHost struct {
	host  *routev3.VirtualHost
	match *routing.ValueMatch // of the authority; nil: any
	rank  int                 // exact, suffix, prefix, any
	size  int
}

// sortHosts lists virtual hosts in the order in which Envoy looks for a domain:
// exact, the longest suffix wildcard, the longest prefix wildcard, "*".
func sortHosts(in []*routev3.VirtualHost) []domainHost {
	var out []domainHost
	for _, vh := range in {
		for _, d := range vh.GetDomains() {
			h := domainHost{host: vh, size: len(d)}
			switch {
			case d == "*":
				h.rank = 3
			case strings.HasPrefix(d, "*"):
				// A wildcard stands for at least one character (Envoy).
				h.rank, h.match = 1, &routing.ValueMatch{Kind: routing.ValueRegex, Value: ".+" + quote(d[1:]), IgnoreCase: true}
			case strings.HasSuffix(d, "*"):
				h.rank, h.match = 2, &routing.ValueMatch{Kind: routing.ValueRegex, Value: quote(d[:len(d)-1]) + ".+", IgnoreCase: true}
			default:
				h.match = &routing.ValueMatch{Kind: routing.ValueExact, Value: d, IgnoreCase: true}
			}
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b domainHost) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return b.size - a.size
	})
	return out
}

func quote(s string) string { return regexp.QuoteMeta(s) }
