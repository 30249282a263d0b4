package authz

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"waypoint.dev/waypoint/internal/attrs"
)

// input is what an expression reads. r is nil for a connection.
type input struct {
	c *attrs.Conn
	r *attrs.Request
}

var noConn attrs.Conn

func requestInput(r *attrs.Request) input {
	if r.Conn == nil {
		return input{&noConn, r}
	}
	return input{r.Conn, r}
}

// Match reports whether e holds for a request.
func (e *Expr) Match(r *attrs.Request) bool { return e.eval(requestInput(r)) }

// MatchConn reports whether e holds for a connection; HTTP attributes are missing.
func (e *Expr) MatchConn(c *attrs.Conn) bool { return e.eval(input{c: c}) }

func (e *Expr) eval(in input) bool {
	if e == nil {
		return false
	}
	switch e.op {
	case opTrue:
		return true
	case opFalse:
		return false
	case opAnd:
		for _, k := range e.kids {
			if !k.eval(in) {
				return false
			}
		}
		return true
	case opOr:
		for _, k := range e.kids {
			if k.eval(in) {
				return true
			}
		}
		return false
	case opNot:
		return !e.kids[0].eval(in)
	case opPort:
		return in.c.DestPort >= e.lo && in.c.DestPort <= e.hi
	case opDestIP:
		return e.ips.contains(in.c.Dest.Addr())
	case opSourceIP:
		return e.ips.contains(in.c.Source.Addr())
	case opRemoteIP:
		return e.ips.contains(remote(in))
	case opPrincipal:
		return in.c.Peer.URI != "" && e.str.match(in.c.Peer.URI)
	case opPrincipalSet:
		_, ok := e.set[in.c.Peer.URI]
		return ok
	case opNamespace:
		return e.str.parts.match(in.c.Peer.URI)
	case opServiceAccount:
		return matchServiceAccount(in.c.Peer.URI, e.path[0], e.path[1])
	case opTrustDomain:
		return matchTrustDomain(in.c.Peer.URI, e.str)
	case opSNI:
		return in.c.SNI != "" && e.str.match(in.c.SNI)
	}
	return in.r != nil && e.evalHTTP(in.r)
}

func remote(in input) netip.Addr {
	if in.r != nil && in.r.Remote.IsValid() {
		return in.r.Remote
	}
	return in.c.Source.Addr()
}

func (e *Expr) evalHTTP(r *attrs.Request) bool {
	switch e.op {
	case opMethod:
		return r.Method != "" && e.str.match(r.Method)
	case opHost:
		return r.Authority != "" && e.str.match(r.Authority)
	case opHostSet:
		var buf [maxHost]byte
		host, ok := lowerHost(buf[:0], r.Authority)
		if !ok {
			return false
		}
		_, ok = e.set[string(host)]
		return ok
	case opPath:
		return r.Path != "" && e.str.match(r.Path)
	case opPathSet:
		_, ok := e.set[r.Path]
		return ok
	case opTemplate:
		return r.Path != "" && e.tmpl.Match(r.Path)
	case opHeader, opHeaderRange:
		return e.evalHeader(r)
	case opHeaderPresent:
		return headerPresent(r, e.name) != e.neg
	case opIssuer:
		return r.Claims != nil && r.Claims.Issuer != "" && e.str.match(r.Claims.Issuer)
	case opSubject:
		return r.Claims != nil && r.Claims.Subject != "" && e.str.match(r.Claims.Subject)
	case opClaim:
		return r.Claims != nil && e.evalClaim(r.Claims)
	}
	return false
}

// maxHost bounds the names that are compared through a set (RFC 1035 255 octets
// and a port).
const maxHost = 264

// lowerHost writes the authority in lower case to dst, if it fits.
func lowerHost(dst []byte, s string) ([]byte, bool) {
	if len(s) == 0 || len(s) > maxHost {
		return nil, false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst, true
}

func headerPresent(r *attrs.Request, name string) bool {
	switch name {
	case ":method":
		return r.Method != ""
	case ":authority", "host":
		return r.Authority != ""
	case ":scheme":
		return r.Scheme != ""
	case ":path":
		return r.Path != ""
	}
	_, ok := r.Header(name)
	return ok
}

func (e *Expr) evalHeader(r *attrs.Request) bool {
	seen, hit := false, false
	switch e.name {
	case ":method":
		seen, hit = r.Method != "", e.testHeader(r.Method)
	case ":authority", "host":
		seen, hit = r.Authority != "", e.testHeader(r.Authority)
	case ":scheme":
		seen, hit = r.Scheme != "", e.testHeader(r.Scheme)
	case ":path":
		if seen = r.Path != ""; seen {
			hit = e.testPathAndQuery(r)
		}
	default:
		for i := range r.Headers {
			if r.Headers[i].Name != e.name {
				continue
			}
			seen = true
			if e.testHeader(r.Headers[i].Value) {
				hit = true
				break
			}
		}
	}
	if !seen {
		if !e.empty {
			return false // also when inverted, as Envoy has it
		}
		hit = e.testHeader("")
	}
	return hit != e.neg
}

func (e *Expr) testHeader(v string) bool {
	if e.op == opHeaderRange {
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && n >= e.num[0] && n < e.num[1]
	}
	return e.str.match(v)
}

var pathBufs = sync.Pool{New: func() any { return new([]byte) }}

// testPathAndQuery tests the :path header, which an attrs.Request holds in two parts.
func (e *Expr) testPathAndQuery(r *attrs.Request) bool {
	if !r.HasQuery {
		return e.testHeader(r.Path)
	}
	buf := pathBufs.Get().(*[]byte)
	b := append((*buf)[:0], r.Path...)
	b = append(b, '?')
	b = append(b, r.Query...)
	ok := e.testHeader(unsafe.String(unsafe.SliceData(b), len(b)))
	*buf = b
	pathBufs.Put(buf)
	return ok
}

func (e *Expr) evalClaim(c *attrs.Claims) bool {
	val, ok := c.Raw[e.name]
	if !ok {
		return len(e.path) == 1 && e.evalStandardClaim(c)
	}
	for _, p := range e.path[1:] {
		m, isMap := val.(map[string]any)
		if !isMap {
			return false
		}
		if val, ok = m[p]; !ok {
			return false
		}
	}
	if e.split {
		if s, isString := val.(string); isString {
			return e.value.matchSplit(s)
		}
	}
	return e.value.match(val)
}

// evalStandardClaim serves the claims that have a field, for a Claims without Raw.
func (e *Expr) evalStandardClaim(c *attrs.Claims) bool {
	switch e.name {
	case "iss":
		return c.Issuer != "" && e.value.matchString(c.Issuer)
	case "sub":
		return c.Subject != "" && e.value.matchString(c.Subject)
	case "azp":
		return c.Presenter != "" && e.value.matchString(c.Presenter)
	case "aud":
		return len(c.Audiences) > 0 && e.value.matchStrings(c.Audiences)
	}
	return false
}

const spiffeScheme = "spiffe://"

// matchTrustDomain compares the text between "spiffe://" and the next slash.
func matchTrustDomain(uri string, m *matcher) bool {
	if !strings.HasPrefix(uri, spiffeScheme) {
		return false
	}
	td, _, ok := strings.Cut(uri[len(spiffeScheme):], "/")
	return ok && td != "" && m.match(td)
}

// matchServiceAccount is the full match of
// spiffe://.+/ns/NS/(.+/|)sa/SA(/.+)?  which Istio uses for service accounts.
// ns is "/ns/NS/" and sa is "sa/SA".
func matchServiceAccount(uri, ns, sa string) bool {
	if !strings.HasPrefix(uri, spiffeScheme) || strings.IndexByte(uri, '\n') >= 0 {
		return false
	}
	rest := uri[len(spiffeScheme):]
	for from := 1; from < len(rest); {
		i := strings.Index(rest[from:], ns)
		if i < 0 {
			return false
		}
		from += i
		if hasAccount(rest[from+len(ns):], sa) {
			return true
		}
		from++
	}
	return false
}

// hasAccount matches (.+/|)sa/SA(/.+)? to the whole of s.
func hasAccount(s, sa string) bool {
	for from := 0; ; {
		i := strings.Index(s[from:], sa)
		if i < 0 {
			return false
		}
		i += from
		starts := i == 0 || (i > 1 && s[i-1] == '/')
		end := s[i+len(sa):]
		if starts && (end == "" || (len(end) > 1 && end[0] == '/')) {
			return true
		}
		from = i + 1
	}
}
