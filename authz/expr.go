package authz

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"waypoint.dev/waypoint/internal/pathtemplate"
)

// Expr is one node of a condition. It is immutable once built and safe for
// concurrent use; constructors share their arguments. A nil *Expr never holds.
//
// A leaf whose attribute is missing (no identity, no such header, no token, or
// any HTTP attribute of a connection) does not hold, so Not of it does.
type Expr struct {
	op    op
	neg   bool // leaf: Envoy's invert_match, which still needs the attribute
	split bool // opClaim: strings are lists separated by spaces
	empty bool // opHeader: a missing header counts as ""

	lo, hi uint16 // opPort, inclusive
	num    [2]int64

	field string // what Explain calls the node, as the user wrote it
	name  string // header name, or claim of one part
	path  []string
	str   *matcher
	value *ValueMatch
	tmpl  *pathtemplate.Template
	ips   *ipSet
	set   map[string]struct{} // opPrincipalSet, opPathSet, opHostSet
	kids  []*Expr
}

type op uint8

const (
	opFalse op = iota // the zero value never holds
	opTrue
	opAnd
	opOr
	opNot
	// Connection facts.
	opPort
	opDestIP
	opSourceIP
	opRemoteIP
	opPrincipal
	opPrincipalSet
	opNamespace
	opServiceAccount
	opTrustDomain
	opSNI
	// HTTP facts; every op from here on reads the request.
	opHeader
	opHeaderPresent
	opHeaderRange
	opMethod
	opHost
	opHostSet
	opPath
	opPathSet
	opTemplate
	opClaim
	opIssuer
	opSubject
)

func (o op) http() bool { return o >= opHeader }

var (
	exprTrue  = &Expr{op: opTrue}
	exprFalse = &Expr{op: opFalse}
)

// Any always holds.
func Any() *Expr { return exprTrue }

// Never never holds.
func Never() *Expr { return exprFalse }

// And holds if every part does; without parts it holds.
func And(parts ...*Expr) *Expr { return &Expr{op: opAnd, kids: parts} }

// Or holds if one part does; without parts it never does.
func Or(parts ...*Expr) *Expr { return &Expr{op: opOr, kids: parts} }

// Not holds if e does not.
func Not(e *Expr) *Expr { return &Expr{op: opNot, kids: []*Expr{e}} }

// Named gives e the name under which Explain reports it.
func Named(field string, e *Expr) *Expr {
	if e == nil {
		return nil
	}
	n := *e
	n.field = field
	return &n
}

// HeaderMatch says how a header is compared, as Envoy's HeaderMatcher does.
type HeaderMatch struct {
	StringMatch
	Invert               bool // holds if no line matches; a missing header still does not hold
	MissingHeaderAsEmpty bool // treat_missing_header_as_empty
}

// Header compares each line of a header separately. Name is case-insensitive;
// ":method", ":authority" (also "host"), ":path" (with its query) and ":scheme"
// read the request's parts. The error is that of a bad regular expression.
func Header(name string, m HeaderMatch) (*Expr, error) {
	if name == "" {
		return nil, errors.New("header name is empty")
	}
	sm, err := m.compile()
	if err != nil {
		return nil, err
	}
	e := &Expr{op: opHeader, name: strings.ToLower(name), str: sm, neg: m.Invert, empty: m.MissingHeaderAsEmpty}
	if !e.neg && !e.empty {
		switch e.name {
		case ":method":
			e.op = opMethod
		case ":authority", "host":
			e.op = opHost
		}
	}
	return e, nil
}

// HeaderPresent holds if the header is there (want) or missing (!want); an empty
// value counts as there.
func HeaderPresent(name string, want bool) *Expr {
	return &Expr{op: opHeaderPresent, name: strings.ToLower(name), neg: !want}
}

// HeaderRange holds if one line is a decimal integer in [start, end).
func HeaderRange(name string, start, end int64, invert bool) *Expr {
	return &Expr{op: opHeaderRange, name: strings.ToLower(name), num: [2]int64{start, end}, neg: invert}
}

// Path compares the normalized path without its query (Envoy's url_path).
func Path(m StringMatch) (*Expr, error) { return leaf(opPath, m) }

// PathTemplate matches a template in the {*} {**} form.
func PathTemplate(pattern string) (*Expr, error) {
	t, err := pathtemplate.Parse(pattern)
	if err != nil {
		return nil, err
	}
	return &Expr{op: opTemplate, tmpl: t}, nil
}

// DestinationPort holds for one port: the service port on a service, the pod
// port on a workload.
func DestinationPort(p uint16) *Expr { return &Expr{op: opPort, lo: p, hi: p} }

// DestinationPortRange holds for ports in [start, end), as Envoy's Int32Range.
// The error says why the range is not one.
func DestinationPortRange(start, end int32) (*Expr, error) {
	if start < 0 || end > 65536 || start >= end {
		return nil, fmt.Errorf("port range [%d, %d) is empty or outside 0-65535", start, end)
	}
	return &Expr{op: opPort, lo: uint16(start), hi: uint16(end - 1)}, nil
}

// DestinationIP holds if the original destination address is in one of the prefixes.
func DestinationIP(ps ...netip.Prefix) *Expr { return &Expr{op: opDestIP, ips: newIPSet(ps)} }

// DirectRemoteIP compares the address of the client pod (source.ip, ipBlocks).
func DirectRemoteIP(ps ...netip.Prefix) *Expr { return &Expr{op: opSourceIP, ips: newIPSet(ps)} }

// RemoteIP compares the XFF-aware address (remote.ip, remoteIpBlocks).
func RemoteIP(ps ...netip.Prefix) *Expr { return &Expr{op: opRemoteIP, ips: newIPSet(ps)} }

// Principal compares the peer's URI, "spiffe://" included. The regular
// expressions that Istio writes for namespaces and service accounts are
// recognized and compared without a regular expression engine.
func Principal(m StringMatch) (*Expr, error) {
	if m.Kind == MatchRegex && !m.IgnoreCase {
		if e := principalShape(m.Value); e != nil {
			return e, nil
		}
	}
	return leaf(opPrincipal, m)
}

// RequestedServerName compares the SNI of an inner TLS hello.
func RequestedServerName(m StringMatch) (*Expr, error) { return leaf(opSNI, m) }

// Claim compares a claim of the verified token, found by its path in the JSON
// payload. With spaceDelimited a string there is first split on spaces into a
// list, as Istio does for scope, permission and the configured claims.
func Claim(path []string, spaceDelimited bool, v *ValueMatch) (*Expr, error) {
	if len(path) == 0 || v == nil {
		return nil, errors.New("claim without a path or a value")
	}
	return &Expr{op: opClaim, name: path[0], path: path, split: spaceDelimited, value: v}, nil
}

func leaf(o op, m StringMatch) (*Expr, error) {
	sm, err := m.compile()
	if err != nil {
		return nil, err
	}
	return &Expr{op: o, str: sm}, nil
}

// readsHTTP reports whether any part reads the request.
func (e *Expr) readsHTTP() bool {
	if e == nil {
		return false
	}
	for _, k := range e.kids {
		if k.readsHTTP() {
			return true
		}
	}
	return e.op.http()
}
