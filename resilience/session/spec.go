package session

import (
	"strconv"
	"strings"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// Spec is the session persistence of one rule.
type Spec struct {
	Name   string // of the cookie, or of the header in lower case
	Header bool   // the token is in a header of requests and responses, else in a cookie
	Path   string // of the cookie; empty: "/"
	// Scope names the rule, so that no other rule honours its tokens.
	Scope string

	Absolute  time.Duration // life of a session from its start; 0: unlimited
	Idle      time.Duration // life of a session without requests; 0: unlimited
	Permanent bool          // the cookie outlives the client's own session, for Absolute
}

// Find returns the token that a request carries, "" for none. Of several cookies of
// the name the first counts, as user agents send the most specific path first (RFC
// 6265 section 5.4). The result borrows from headers.
func (s *Spec) Find(headers []attrs.Field) string {
	for i := range headers {
		h := &headers[i]
		if s.Header {
			if h.Name == s.Name {
				return h.Value
			}
			continue
		}
		if h.Name != "cookie" {
			continue
		}
		for rest := h.Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			name, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if ok && name == s.Name {
				if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
					value = value[1 : n-1]
				}
				return value
			}
		}
	}
	return ""
}

// AppendCookie appends the value of a set-cookie header. With a secure scheme the
// caller appends "; Secure"; inside a mesh the request is plain HTTP.
func (s *Spec) AppendCookie(dst, token []byte) []byte {
	dst = append(dst, s.Name...)
	dst = append(dst, '=')
	dst = append(dst, token...)
	dst = append(dst, "; Path="...)
	if s.Path == "" {
		dst = append(dst, '/')
	} else {
		dst = append(dst, s.Path...)
	}
	if s.Permanent && s.Absolute > 0 {
		dst = append(dst, "; Max-Age="...)
		dst = strconv.AppendInt(dst, int64((s.Absolute+time.Second-1)/time.Second), 10)
	}
	return append(dst, "; HttpOnly; SameSite=Lax"...)
}

// Renew reports whether a good token has to be replaced to go on: with an idle
// timeout, when a quarter of it passed since the token was made.
func (s *Spec) Renew(t Token, now time.Time) bool {
	return s.Idle > 0 && now.Unix()-t.Seen >= int64(s.Idle/time.Second)/4
}
