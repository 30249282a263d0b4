package authz

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// namespaces compares the peer URI with .*/ns/<v>/.*; each star is any text.
var namespaces = each(func(v string) (*Expr, error) {
	return namespaceExpr(namespaceWildcard(v)), nil
})

func (b *builder) principals(values []string) ([]*Expr, int, error) {
	var or []*Expr
	for _, v := range b.scope.expandPrincipals(values) {
		or = append(or, principalExpr(v))
	}
	return or, -1, nil
}

func principalExpr(v string) *Expr {
	m := &matcher{kind: MatchExact, value: spiffeScheme + v}
	switch {
	case v == "*":
		m = &matcher{kind: MatchNonEmpty}
	case strings.HasPrefix(v, "*"):
		m = &matcher{kind: MatchRegex, glob: true, parts: globParts{
			lits: []string{spiffeScheme, v[1:]}, gaps: []int8{noGap, 0, noGap},
		}}
	case strings.HasSuffix(v, "*"):
		m = &matcher{kind: MatchPrefix, value: spiffeScheme + v[:len(v)-1]}
	}
	return &Expr{op: opPrincipal, str: m}
}

func (b *builder) serviceAccounts(values []string) ([]*Expr, int, error) {
	if len(values) > maxServiceAccounts {
		return nil, -1, fmt.Errorf("has %d entries, at most %d are allowed", len(values), maxServiceAccounts)
	}
	return each(func(v string) (*Expr, error) {
		ns, sa, ok := strings.Cut(v, "/")
		if !ok {
			ns, sa = b.scope.Namespace, v
		}
		switch {
		case len(v) > maxServiceAccount:
			return nil, fmt.Errorf("is longer than %d characters", maxServiceAccount)
		case strings.Contains(v, "*"):
			return nil, fmt.Errorf("%q: wildcards are not allowed; use namespaces or principals", v)
		case sa == "" || strings.Contains(sa, "/") || ok && ns == "":
			return nil, fmt.Errorf("%q must be <name> or <namespace>/<name>", v)
		}
		return serviceAccountExpr(ns, sa), nil
	})(values)
}

func (b *builder) trustDomains(values []string) ([]*Expr, int, error) {
	for i, v := range values {
		inner := strings.TrimSuffix(strings.TrimPrefix(v, "*"), "*")
		switch {
		case strings.Contains(v, "/"):
			return nil, i, fmt.Errorf("%q must not contain a slash", v)
		case strings.Contains(inner, "*"), len(v) > 1 && v[0] == '*' && v[len(v)-1] == '*':
			return nil, i, fmt.Errorf("%q may have one leading or one trailing *", v)
		}
	}
	return each(func(v string) (*Expr, error) { return leaf(opTrustDomain, Wildcard(v)) })(b.scope.expandTrustDomains(values))
}

// requestPrincipals follows Istio's table: the value is split at its last slash,
// since an issuer may be a URL, and both parts are compared separately.
var requestPrincipals = each(func(v string) (*Expr, error) {
	iss, sub := v, ""
	i := strings.LastIndexByte(v, '/')
	if i >= 0 {
		iss, sub = v[:i], v[i+1:]
	}
	anyText := StringMatch{Kind: MatchNonEmpty}
	mi, ms := StringMatch{Value: iss}, StringMatch{Value: sub}
	switch {
	case v == "*":
		mi, ms = anyText, anyText
	case v[0] == '*' && i < 0:
		mi, ms = anyText, StringMatch{Kind: MatchSuffix, Value: v[1:]}
	case v[0] == '*':
		mi = anyText
		if iss != "*" {
			mi = StringMatch{Kind: MatchSuffix, Value: iss[1:]}
		}
	case v[len(v)-1] == '*' && i < 0:
		mi, ms = StringMatch{Kind: MatchPrefix, Value: v[:len(v)-1]}, anyText
	case v[len(v)-1] == '*':
		ms = anyText
		if sub != "*" {
			ms = StringMatch{Kind: MatchPrefix, Value: sub[:len(sub)-1]}
		}
	}
	ei, err := leaf(opIssuer, mi)
	if err != nil {
		return nil, err
	}
	es, err := leaf(opSubject, ms)
	return And(ei, es), err
})

var hosts = each(func(v string) (*Expr, error) {
	if v == "*" {
		return HeaderPresent(":authority", true), nil
	}
	m := Wildcard(v)
	m.IgnoreCase = true
	return leaf(opHost, m)
})

var methods = each(func(v string) (*Expr, error) {
	if v == "*" {
		return HeaderPresent(":method", true), nil
	}
	return leaf(opMethod, Wildcard(v))
})

var ports = each(func(v string) (*Expr, error) {
	p, err := strconv.ParseUint(v, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("bad port %q: must be one number from 0 to 65535", v)
	}
	return DestinationPort(uint16(p)), nil
})

var paths = each(func(v string) (*Expr, error) {
	if t, angle := BraceTemplate(v); angle || strings.Contains(v, "{*}") || strings.Contains(v, "{**}") {
		return PathTemplate(t)
	}
	if strings.ContainsAny(v, "{}") {
		return nil, fmt.Errorf("%q: braces may only form the template operators {*} and {**}", v)
	}
	return Path(Wildcard(v))
})

// BraceTemplate rewrites the spelling <*> and <**> of the template operators to
// {*} and {**}, and reports whether there was any. Istiod reads it literally.
func BraceTemplate(path string) (string, bool) {
	if !strings.Contains(path, "<*>") && !strings.Contains(path, "<**>") {
		return path, false
	}
	return angles.Replace(path), true
}

var angles = strings.NewReplacer("<*>", "{*}", "<**>", "{**}")

// condition builds one entry of when.
func (b *builder) condition(at string, c *Condition) []*Expr {
	if len(c.Values)+len(c.NotValues) == 0 {
		b.fail(at, "needs values or notValues")
		return nil
	}
	f, http, err := b.conditionKey(c.Key)
	if err != nil {
		b.fail(at+".key", "%v", err)
		return nil
	}
	exprs := b.field(at+".values", at+".notValues", c.Values, c.NotValues, http, f)
	for _, e := range exprs { // each is fresh: Named made it
		e.field += " (" + c.Key + ")"
	}
	return exprs
}

func (b *builder) conditionKey(key string) (f makeExpr, http bool, err error) {
	switch key {
	case "source.ip":
		return addresses(DirectRemoteIP), false, nil
	case "remote.ip":
		return addresses(RemoteIP), false, nil
	case "destination.ip":
		return addresses(DestinationIP), false, nil
	case "destination.port":
		return ports, false, nil
	case "source.namespace":
		return namespaces, false, nil
	case "source.serviceAccount":
		return b.serviceAccounts, false, nil
	case "source.principal":
		return b.principals, false, nil
	case "source.trustDomain":
		return b.trustDomains, false, nil
	case "connection.sni":
		return each(func(v string) (*Expr, error) { return RequestedServerName(Wildcard(v)) }), false, nil
	}
	if b.custom && strings.HasPrefix(key, "request.auth.") {
		return nil, false, fmt.Errorf("%s cannot be used with action CUSTOM, which runs before tokens are verified", key)
	}
	switch key {
	case "request.auth.principal":
		return requestPrincipals, true, nil
	case "request.auth.audiences":
		return b.claim([]string{"aud"}), true, nil
	case "request.auth.presenter":
		return b.claim([]string{"azp"}), true, nil
	case "destination.namespace", "destination.name", "destination.user":
		return nil, false, fmt.Errorf("%s is not supported; targetRefs choose the destination", key)
	}
	switch name, rest, _ := strings.Cut(key, "["); name {
	case "request.headers":
		if len(rest) < 2 || rest[len(rest)-1] != ']' {
			return nil, false, fmt.Errorf("%q must be request.headers[name]", key)
		}
		return headerValues(rest[:len(rest)-1]), true, nil
	case "request.auth.claims":
		path, err := claimPath("[" + rest)
		if err != nil {
			return nil, false, fmt.Errorf("%q must be request.auth.claims[name], or [a][b] for nested claims", key)
		}
		return b.claim(path), true, nil
	case "destination.labels":
		return nil, false, fmt.Errorf("%s is not supported; targetRefs choose the destination", key)
	}
	if strings.HasPrefix(key, "experimental.envoy.filters.") {
		return nil, false, fmt.Errorf("%s reads metadata of Envoy filters, which do not exist here; no request can be checked against it", key)
	}
	return nil, false, fmt.Errorf("unknown key %q", key)
}

func headerValues(name string) makeExpr {
	return each(func(v string) (*Expr, error) {
		if v == "*" {
			return HeaderPresent(name, true), nil
		}
		return Header(name, HeaderMatch{StringMatch: Wildcard(v)})
	})
}

// claimPath splits "[a][b]".
func claimPath(s string) ([]string, error) {
	var path []string
	for s != "" {
		i := strings.IndexByte(s, ']')
		if s[0] != '[' || i < 2 {
			return nil, errors.New("bad claim name")
		}
		path = append(path, s[1:i])
		s = s[i+1:]
	}
	return path, nil
}

func (b *builder) claim(path []string) makeExpr {
	split := false
	if len(path) == 1 { // Istio splits claims of the top level only
		split = path[0] == "scope" || path[0] == "permission"
		for _, n := range b.scope.SpaceDelimited {
			split = split || n == path[0]
		}
	}
	return func(values []string) ([]*Expr, int, error) {
		ms := make([]StringMatch, len(values))
		for i, v := range values {
			ms[i] = Wildcard(v)
		}
		v, err := StringOrList(ms...)
		if err != nil {
			return nil, -1, err
		}
		e, err := Claim(path, split, v)
		return []*Expr{e}, -1, err
	}
}
