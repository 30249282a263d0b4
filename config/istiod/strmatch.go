package istiod

import (
	"fmt"
	"net/netip"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/routing"
)

// stringMatch reads Envoy's StringMatcher. Regular expressions match the whole
// value there and here.
func stringMatch(m *matcherv3.StringMatcher) (authz.StringMatch, error) {
	out := authz.StringMatch{IgnoreCase: m.GetIgnoreCase()}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = authz.MatchExact, p.Exact
	case *matcherv3.StringMatcher_Prefix:
		out.Kind, out.Value = authz.MatchPrefix, p.Prefix
	case *matcherv3.StringMatcher_Suffix:
		out.Kind, out.Value = authz.MatchSuffix, p.Suffix
	case *matcherv3.StringMatcher_Contains:
		out.Kind, out.Value = authz.MatchContains, p.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		out.Kind, out.Value, out.IgnoreCase = authz.MatchRegex, p.SafeRegex.GetRegex(), false
		if out.Value == ".+" { // how Istio writes "*"
			out.Kind, out.Value = authz.MatchNonEmpty, ""
		}
	default:
		return out, fmt.Errorf("string matcher %T is not known", p)
	}
	return out, nil
}

// routeValue is stringMatch for routing, which shares the kinds but the last.
func routeValue(name string, m authz.StringMatch) routing.ValueMatch {
	if m.Kind == authz.MatchNonEmpty {
		return routing.ValueMatch{Name: name, Kind: routing.ValueRegex, Value: ".+"}
	}
	return routing.ValueMatch{Name: name, Kind: routing.ValueKind(m.Kind), Value: m.Value, IgnoreCase: m.IgnoreCase}
}

// headerMatch is one condition on a header in Envoy's terms.
type headerMatch struct {
	name         string
	str          authz.StringMatch // unless presence or isRange
	presence     bool
	want         bool // presence: there or missing
	isRange      bool
	start, end   int64
	invert       bool
	missingEmpty bool
}

// readHeaderMatch reads Envoy's HeaderMatcher, its deprecated forms included.
func readHeaderMatch(m *routev3.HeaderMatcher) (headerMatch, error) {
	out := headerMatch{name: m.GetName(), invert: m.GetInvertMatch(), missingEmpty: m.GetTreatMissingHeaderAsEmpty()}
	if out.name == "" {
		return out, fmt.Errorf("header matcher without a name")
	}
	set := func(k authz.MatchKind, v string) { out.str = authz.StringMatch{Kind: k, Value: v} }
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_StringMatch:
		sm, err := stringMatch(s.StringMatch)
		if err != nil {
			return out, fmt.Errorf("header %s: %w", out.name, err)
		}
		out.str = sm
	case *routev3.HeaderMatcher_PresentMatch:
		out.presence, out.want = true, s.PresentMatch
	case nil: // Envoy: no specifier asks for presence
		if u := m.ProtoReflect().GetUnknown(); len(u) > 0 {
			return out, fmt.Errorf("header %s: unknown kind of match", out.name)
		}
		out.presence, out.want = true, true
	case *routev3.HeaderMatcher_RangeMatch:
		out.isRange, out.start, out.end = true, s.RangeMatch.GetStart(), s.RangeMatch.GetEnd()
	case *routev3.HeaderMatcher_ExactMatch:
		set(authz.MatchExact, s.ExactMatch)
	case *routev3.HeaderMatcher_PrefixMatch:
		set(authz.MatchPrefix, s.PrefixMatch)
	case *routev3.HeaderMatcher_SuffixMatch:
		set(authz.MatchSuffix, s.SuffixMatch)
	case *routev3.HeaderMatcher_ContainsMatch:
		set(authz.MatchContains, s.ContainsMatch)
	case *routev3.HeaderMatcher_SafeRegexMatch:
		set(authz.MatchRegex, s.SafeRegexMatch.GetRegex())
	default:
		return out, fmt.Errorf("header %s: match %T is not known", out.name, s)
	}
	if out.presence && out.invert {
		out.want, out.invert = !out.want, false
	}
	return out, nil
}

// expr is the condition in an authorization policy.
func (h *headerMatch) expr() (*authz.Expr, error) {
	switch {
	case h.presence:
		return authz.HeaderPresent(h.name, h.want), nil
	case h.isRange:
		return authz.HeaderRange(h.name, h.start, h.end, h.invert), nil
	}
	return authz.Header(h.name, authz.HeaderMatch{StringMatch: h.str, Invert: h.invert, MissingHeaderAsEmpty: h.missingEmpty})
}

// value is the condition in a route. Routing compares a missing header as empty
// under Invert, and never without it: what differs from that is refused.
func (h *headerMatch) value() (routing.ValueMatch, error) {
	switch {
	case h.presence:
		return routing.ValueMatch{Name: h.name, Kind: routing.ValuePresent, Invert: !h.want}, nil
	case h.isRange:
		return routing.ValueMatch{}, fmt.Errorf("header %s: range match is not supported in routes", h.name)
	case h.invert && !h.missingEmpty && h.name != ":method":
		return routing.ValueMatch{}, fmt.Errorf("header %s: invert_match needs treat_missing_header_as_empty", h.name)
	case !h.invert && h.missingEmpty && matchesEmpty(h.str):
		return routing.ValueMatch{}, fmt.Errorf("header %s: a missing header would have to match", h.name)
	}
	v := routeValue(h.name, h.str)
	v.Invert = h.invert
	return v, nil
}

// matchesEmpty reports whether m may hold for the empty string.
func matchesEmpty(m authz.StringMatch) bool {
	switch m.Kind {
	case authz.MatchNonEmpty:
		return false
	case authz.MatchRegex:
		return true // not known: the caller refuses
	}
	return m.Value == ""
}

// cidr reads a CidrRange. Envoy masks the address, and so does the caller's set.
func cidr(r *corev3.CidrRange) (netip.Prefix, error) {
	a, err := netip.ParseAddr(r.GetAddressPrefix())
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("bad address %q", r.GetAddressPrefix())
	}
	p := netip.PrefixFrom(a, int(r.GetPrefixLen().GetValue()))
	if !p.IsValid() {
		return p, fmt.Errorf("bad prefix length of %s/%d", a, r.GetPrefixLen().GetValue())
	}
	return p.Masked(), nil
}

// newerField names a field of m itself, not of what is in it, that this build's protos
// do not have; "" if there is none.
func newerField(m proto.Message) string {
	r := m.ProtoReflect()
	num, _, n := protowire.ConsumeTag(r.GetUnknown())
	if n < 0 || len(r.GetUnknown()) == 0 {
		return ""
	}
	return fmt.Sprintf("field %d of %s, which is newer than this build,", num, r.Descriptor().Name())
}

// unknownField returns the path to a field that this build's protos do not have,
// "" if there is none. A newer istiod may say something there that narrows what
// it allows.
func unknownField(m proto.Message) string {
	if m == nil {
		return ""
	}
	return unknownIn(m.ProtoReflect())
}

func unknownIn(m protoreflect.Message) (at string) {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().FullName())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
					at = unknownIn(e.Message())
					return at == ""
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for l, i := v.List(), 0; i < l.Len() && at == ""; i++ {
				at = unknownIn(l.Get(i).Message())
			}
		default:
			at = unknownIn(v.Message())
		}
		return at == ""
	})
	return at
}

func utoa(n uint16) string { return strconv.Itoa(int(n)) }
