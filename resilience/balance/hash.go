package balance

import (
	"math/bits"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"waypoint.dev/waypoint/internal/attrs"
)

// HashSource is one source of a request's hash key: Istio's consistentHash or
// one hash_policy of an Envoy route. Exactly one of Header, Cookie, SourceIP and
// Query is set.
type HashSource struct {
	Header   string // lower case name
	Cookie   *HashCookie
	SourceIP bool
	Query    string // parameter name
	Terminal bool   // stop here if a key was found so far
}

// HashCookie is a cookie that carries a client's place on the ring.
type HashCookie struct {
	Name string
	Path string
	// TTL is the life of a cookie made here, in whole seconds; 0 with Create makes
	// a session cookie.
	TTL    time.Duration
	Create bool // make one when the request has none (Istio: ttl is set)
	// Attributes are appended as "; Name=Value", or "; Name" without a value.
	Attributes []CookieAttribute
}

// CookieAttribute is an extra attribute of a cookie made here, such as SameSite.
type CookieAttribute struct{ Name, Value string }

// NewCookie is a cookie to be set on the response. The zero value is none.
type NewCookie struct {
	spec  *HashCookie
	value uint64
}

// Needed reports whether there is a cookie to set.
func (c NewCookie) Needed() bool { return c.spec != nil }

// Append appends the value of a set-cookie header. The form is Envoy's: quoted
// value, Max-Age, Path, attributes, HttpOnly.
func (c NewCookie) Append(dst []byte) []byte {
	if c.spec == nil {
		return dst
	}
	dst = append(dst, c.spec.Name...)
	dst = append(dst, '=', '"')
	dst = appendHex(dst, c.value)
	dst = append(dst, '"')
	if s := int64(c.spec.TTL / time.Second); s > 0 {
		dst = append(dst, "; Max-Age="...)
		dst = strconv.AppendInt(dst, s, 10)
	}
	if c.spec.Path != "" {
		dst = append(dst, "; Path="...)
		dst = append(dst, c.spec.Path...)
	}
	for i := range c.spec.Attributes {
		a := &c.spec.Attributes[i]
		dst = append(dst, "; "...)
		dst = append(dst, a.Name...)
		if a.Value != "" {
			dst = append(dst, '=')
			dst = append(dst, a.Value...)
		}
	}
	return append(dst, "; HttpOnly"...)
}

// hexLen is the length of a made cookie's value: 64 bits in hex.
const hexLen = 16

func appendHex(dst []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[v>>uint(shift)&15])
	}
	return dst
}

// HashKey computes the hash of a request from a list of sources, the way Envoy
// does: xxHash64 of each value, later ones mixed into a left rotation of the
// earlier. It returns 0 when no source had a value, never 0 otherwise. The cookie
// is to be set on the response if it is needed; it holds what random, which must
// not be nil when a source makes cookies, returned. It does not allocate.
func HashKey(sources []HashSource, r *attrs.Request, random func() uint64) (hash uint64, set NewCookie) {
	found := false
	for i := range sources {
		s := &sources[i]
		var h uint64
		ok := false
		switch {
		case s.Header != "":
			h, ok = hashHeader(r, s.Header)
		case s.Cookie != nil:
			var v string
			if v, ok = cookieValue(r, s.Cookie.Name); ok {
				h = xxhash.Sum64String(v)
			} else if s.Cookie.Create && !set.Needed() {
				set = NewCookie{spec: s.Cookie, value: random()}
				var buf [hexLen]byte
				h, ok = xxhash.Sum64(appendHex(buf[:0], set.value)), true
			}
		case s.SourceIP:
			h, ok = hashSource(r)
		case s.Query != "":
			var v string
			if v, ok = r.QueryParam(s.Query); ok {
				h = xxhash.Sum64String(v)
			}
		}
		if ok {
			if found {
				h ^= bits.RotateLeft64(hash, 1)
			}
			hash, found = h, true
		}
		if found && s.Terminal {
			break
		}
	}
	if found && hash == 0 {
		hash = 1
	}
	return hash, set
}

// hashHeader hashes all lines of a header: one line as its plain xxHash64,
// several as one text with a separator, so that no value is lost.
func hashHeader(r *attrs.Request, name string) (uint64, bool) {
	switch name {
	case ":authority", "host":
		return xxhash.Sum64String(r.Authority), r.Authority != ""
	case ":method":
		return xxhash.Sum64String(r.Method), r.Method != ""
	case ":path":
		return hashPath(r), r.Path != ""
	}
	var h uint64
	found := false
	for i := range r.Headers {
		if f := &r.Headers[i]; f.Name == name {
			v := xxhash.Sum64String(f.Value)
			if found {
				v ^= bits.RotateLeft64(h, 1)
			}
			h, found = v, true
		}
	}
	return h, found
}

// hashPath hashes what Envoy's :path holds, the path with its query.
func hashPath(r *attrs.Request) uint64 {
	if !r.HasQuery {
		return xxhash.Sum64String(r.Path)
	}
	var d xxhash.Digest
	d.Reset()
	d.WriteString(r.Path)
	d.WriteString("?")
	d.WriteString(r.Query)
	return d.Sum64()
}

// hashSource hashes the client's address as text: of the pod behind the tunnel,
// not what a header claims, since a header is the client's to choose.
func hashSource(r *attrs.Request) (uint64, bool) {
	if r.Conn == nil || !r.Conn.Source.IsValid() {
		return 0, false
	}
	var buf [64]byte
	return xxhash.Sum64(r.Conn.Source.Addr().Unmap().AppendTo(buf[:0])), true
}

// cookieValue finds a cookie by name in all cookie lines (RFC 6265 section 4.2);
// quotes around the value are not part of it.
func cookieValue(r *attrs.Request, name string) (string, bool) {
	for i := range r.Headers {
		if r.Headers[i].Name != "cookie" {
			continue
		}
		rest := r.Headers[i].Value
		for rest != "" {
			var pair string
			pair, rest = cutByte(rest, ';')
			for pair != "" && (pair[0] == ' ' || pair[0] == '\t') {
				pair = pair[1:]
			}
			if len(pair) <= len(name) || pair[len(name)] != '=' || pair[:len(name)] != name {
				continue
			}
			v := pair[len(name)+1:]
			for v != "" && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
				v = v[:len(v)-1]
			}
			if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			if v != "" {
				return v, true
			}
		}
	}
	return "", false
}

func cutByte(s string, sep byte) (before, after string) {
	for i := 0; i < len(s); i++ {
		if s[i] == sep {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
