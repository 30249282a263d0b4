package istiod

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	networkInputs    = "envoy.extensions.matching.common_inputs.network.v3."
	connectAuthority = "io.istio.connect_authority"
)

// branch is one outcome of the matcher tree: which chains serve an address, a
// port and what is spoken there.
type branch struct {
	port uint16 // 0: any, which is how workloads are addressed
	// One chain for everything, or one for HTTP and one for the rest ("": closed).
	any, http, rest string
}

// served is what leads to a branch.
type served struct {
	branch
	addrs []netip.Prefix
	hosts []string
}

// matchTree flattens the matcher tree of main_internal.
type matchTree struct {
	order    []branch
	by       map[branch]*served
	problems []string
}

// where is the path through the tree so far.
type where struct {
	addrs []netip.Prefix
	port  uint16
	host  string
}

// flatten walks the tree. What it does not understand serves nothing and is told.
func flatten(m *xdsmatcherv3.Matcher) *matchTree {
	t := &matchTree{by: make(map[branch]*served)}
	t.matcher(m, where{})
	return t
}

func (t *matchTree) refuse(format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// add enters a branch for where the walk is.
func (t *matchTree) add(b branch, w where) {
	b.port = w.port
	s := t.by[b]
	if s == nil {
		s = &served{branch: b}
		t.by[b] = s
		t.order = append(t.order, b)
	}
	for _, a := range w.addrs {
		// Services without an address are listed under the unspecified one.
		if !(a.IsSingleIP() && a.Addr().IsUnspecified()) && !slices.Contains(s.addrs, a) {
			s.addrs = append(s.addrs, a)
		}
	}
	if w.host != "" && !slices.Contains(s.hosts, w.host) {
		s.hosts = append(s.hosts, w.host)
	}
}

// onMatch follows one edge.
func (t *matchTree) onMatch(m *xdsmatcherv3.Matcher_OnMatch, w where) {
	if name, ok := t.action(m); ok {
		t.add(branch{any: name}, w)
		return
	}
	if m.GetMatcher() == nil {
		t.refuse("an edge of the filter chain matcher leads nowhere")
		return
	}
	t.matcher(m.GetMatcher(), w)
}

// action reads the name of a filter chain.
func (t *matchTree) action(m *xdsmatcherv3.Matcher_OnMatch) (string, bool) {
	if m.GetAction() == nil {
		return "", false
	}
	var v wrapperspb.StringValue
	if err := unpack(m.GetAction().GetTypedConfig(), &v); err != nil {
		return m.GetAction().GetName(), true
	}
	return v.GetValue(), true
}

func (t *matchTree) matcher(m *xdsmatcherv3.Matcher, w where) {
	tree := m.GetMatcherTree()
	if tree == nil {
		t.refuse("a matcher of the kind %s is not supported", oneof(m.GetMatcherType(), "Matcher_"))
		return
	}
	kind := typeName(tree.GetInput().GetTypedConfig().GetTypeUrl())
	edges := tree.GetExactMatchMap().GetMap()
	switch kind {
	case networkInputs + "FilterStateInput":
		var in networkinputsv3.FilterStateInput
		if err := unpack(tree.GetInput().GetTypedConfig(), &in); err != nil || in.GetKey() != connectAuthority || in.GetField() != "" {
			t.refuse("the filter state %q is not supported as an input", in.GetKey())
			return
		}
		for _, key := range sorted(edges) {
			host, port, ok := cutPort(key)
			if !ok {
				t.refuse("the authority %q has no port", key)
				continue
			}
			t.onMatch(edges[key], where{host: host, port: port, addrs: w.addrs})
		}
	case networkInputs + "DestinationIPInput":
		t.addresses(tree.GetCustomMatch(), w)
	case networkInputs + "DestinationPortInput":
		for _, key := range sorted(edges) {
			n, err := strconv.ParseUint(key, 10, 16)
			if err != nil || n == 0 {
				t.refuse("the port %q is none", key)
				continue
			}
			t.onMatch(edges[key], where{host: w.host, port: uint16(n), addrs: w.addrs})
		}
	case networkInputs + "ApplicationProtocolInput":
		t.protocols(edges, m.GetOnNoMatch(), w)
		return
	default:
		t.refuse("the input %s is not supported", kind)
		return
	}
	if n := m.GetOnNoMatch(); n != nil {
		if name, ok := t.action(n); ok && len(w.addrs) == 0 && w.host == "" {
			t.refuse("the chain %s for what matches nothing is not supported; such connections are refused", name)
			return
		}
		t.onMatch(n, w)
	}
}

// addresses follows an IPMatcher.
func (t *matchTree) addresses(m *xdscorev3.TypedExtensionConfig, w where) {
	var ip xdsmatcherv3.IPMatcher
	if err := unpack(m.GetTypedConfig(), &ip); err != nil {
		t.refuse("the matcher of addresses %v", err)
		return
	}
	for _, r := range ip.GetRangeMatchers() {
		next := where{host: w.host, port: w.port}
		for _, c := range r.GetRanges() {
			a, err := netip.ParseAddr(c.GetAddressPrefix())
			if err != nil {
				t.refuse("%q is no address", c.GetAddressPrefix())
				continue
			}
			p := netip.PrefixFrom(a, int(c.GetPrefixLen().GetValue()))
			if !p.IsValid() {
				t.refuse("%s/%d is no prefix", a, c.GetPrefixLen().GetValue())
				continue
			}
			next.addrs = append(next.addrs, p.Masked())
		}
		if len(next.addrs) > 0 {
			t.onMatch(r.GetOnMatch(), next)
		}
	}
}

// protocols reads the choice between an HTTP chain and one for all else.
func (t *matchTree) protocols(edges map[string]*xdsmatcherv3.Matcher_OnMatch, rest *xdsmatcherv3.Matcher_OnMatch, w where) {
	var b branch
	for _, key := range sorted(edges) {
		name, ok := t.action(edges[key])
		switch {
		case !ok:
			t.refuse("the application protocol %s leads to a further matcher", key)
			return
		case key != "'h2c'" && key != "'http/1.1'" && key != "'http/1.0'":
			t.refuse("the application protocol %s is not supported", key)
		case b.http != "" && b.http != name:
			t.refuse("application protocols have different chains, %s and %s", b.http, name)
			return
		default:
			b.http = name
		}
	}
	if rest != nil {
		name, ok := t.action(rest)
		if !ok {
			t.refuse("what is no HTTP leads to a further matcher")
			return
		}
		b.rest = name
	}
	t.add(b, w)
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// cutPort splits host:port.
func cutPort(s string) (host string, port uint16, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	return s[:i], uint16(n), err == nil && n > 0
}
