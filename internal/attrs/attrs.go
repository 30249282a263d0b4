package attrs

import (
	"net/netip"
	"strings"
)

// Field is one header field line. Name is lower case and never starts with ':'.
type Field struct {
	Name, Value string
}

// Principal is a SPIFFE identity split into its parts. The zero value means
// "no identity": URI is empty and matches no positive principal condition.
type Principal struct {
	URI            string // whole URI, "spiffe://td/ns/N/sa/S"
	TrustDomain    string
	Namespace      string
	ServiceAccount string
}

// Name is the identity as policies write it: the URI without its scheme.
func (p Principal) Name() string { return strings.TrimPrefix(p.URI, "spiffe://") }

// Conn is what is known of one tunnel before any HTTP is read.
type Conn struct {
	Peer     Principal      // authenticated identity of the client workload
	Local    Principal      // this waypoint's own identity
	Source   netip.AddrPort // client pod address (the HBONE TCP peer)
	Dest     netip.AddrPort // original destination; invalid when DestHost is used
	DestHost string         // host of a host:port authority, else empty
	DestPort uint16         // service port (service chains) or pod port (workload chains)
	SNI      string         // server name of an inner TLS hello, else empty
}

// Request is the head of one HTTP request as policies see it, after
// normalization and sanitizing.
type Request struct {
	Conn      *Conn
	Method    string
	Scheme    string // "http" or "https"
	Authority string // as sent, with any port
	Path      string // normalized, without query and fragment
	Query     string // raw text behind the first '?', without it
	HasQuery  bool
	Headers   []Field
	Remote    netip.Addr // the XFF-aware "remote.ip"; Conn.Source's address if no XFF
	Claims    *Claims    // nil until a token was verified
	GRPC      bool       // content-type application/grpc or application/grpc+...
	HTTP2     bool       // arrived as HTTP/2
}

// Claims are those of a verified JSON Web Token. A nil *Claims means none.
type Claims struct {
	Issuer, Subject string
	Audiences       []string
	Presenter       string         // azp
	Raw             map[string]any // decoded JSON payload; strings and lists as sent
}

// Header returns the first line named name (lower case).
func (r *Request) Header(name string) (value string, ok bool) {
	for i := range r.Headers {
		if r.Headers[i].Name == name {
			return r.Headers[i].Value, true
		}
	}
	return "", false
}

// QueryParam returns the raw, undecoded value of the first parameter named name.
func (r *Request) QueryParam(name string) (value string, ok bool) {
	q := r.Query
	for q != "" {
		var pair string
		pair, q = cut(q, '&')
		k, v := cut(pair, '=')
		if k == name && pair != "" {
			return v, true
		}
	}
	return "", false
}

func cut(s string, sep byte) (before, after string) {
	for i := 0; i < len(s); i++ {
		if s[i] == sep {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
