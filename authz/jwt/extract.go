package jwt

import (
	"net/url"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

type place uint8

const (
	inHeader place = iota
	inParam
	inCookie
)

// found is a token as the request carries it.
type found struct {
	token  string
	place  place
	name   string
	prefix string // in a header
}

// maxTokens bounds the tokens read for one provider: each may cost a signature.
const maxTokens = 8

// extract appends the tokens at the provider's places, as Envoy finds them.
func (p *provider) extract(r *attrs.Request, out []found) []found {
	for i := range p.headers {
		h := &p.headers[i]
		for j := range r.Headers {
			if r.Headers[j].Name != h.Name {
				continue
			}
			v := r.Headers[j].Value
			if h.Prefix != "" {
				// The prefix may stand anywhere in the value; Envoy looks for it so.
				at := strings.Index(v, h.Prefix)
				if at < 0 {
					continue
				}
				v = tokenText(v, at+len(h.Prefix))
			}
			out = append(out, found{v, inHeader, h.Name, h.Prefix})
		}
	}
	for _, name := range p.params {
		if v, has := param(r.Query, name); has {
			out = append(out, found{v, inParam, name, ""})
		}
	}
	for _, name := range p.cookies {
		if v, has := cookie(r, name); has {
			out = append(out, found{v, inCookie, name, ""})
		}
	}
	return out
}

// tokenText is what follows the prefix, from the first token character on. What
// stands behind a token is part of it, so that it is refused.
func tokenText(v string, i int) string {
	for j := i; j < len(v); j++ {
		if tokenChar(v[j]) {
			return v[j:]
		}
	}
	return v
}

func tokenChar(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// param returns the first value of a query parameter, decoded.
func param(query, name string) (string, bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if k, v, _ := strings.Cut(pair, "="); pair != "" && unescape(k) == name {
			return unescape(v), true
		}
	}
	return "", false
}

func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if d, err := url.QueryUnescape(s); err == nil {
		return d
	}
	return s
}

// cookie returns the first cookie of that name in all lines.
func cookie(r *attrs.Request, name string) (string, bool) {
	for i := range r.Headers {
		if r.Headers[i].Name != "cookie" {
			continue
		}
		for rest := r.Headers[i].Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			if k, v, has := strings.Cut(strings.Trim(pair, " \t"), "="); has && strings.TrimRight(k, " \t") == name {
				if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
					v = v[1 : len(v)-1]
				}
				return v, true
			}
		}
	}
	return "", false
}

// withoutParam appends query without the parameters of that name.
func withoutParam(dst []byte, query, name string) []byte {
	start := len(dst)
	for first := true; query != "" || first; first = false {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if k, _, _ := strings.Cut(pair, "="); pair == "" || unescape(k) == name {
			continue
		}
		if len(dst) > start {
			dst = append(dst, '&')
		}
		dst = append(dst, pair...)
	}
	return dst
}

// withoutCookie appends one cookie line without the cookies of that name.
func withoutCookie(dst []byte, line, name string) []byte {
	start := len(dst)
	for line != "" {
		var pair string
		pair, line, _ = strings.Cut(line, ";")
		pair = strings.Trim(pair, " \t")
		if k, _, _ := strings.Cut(pair, "="); pair == "" || strings.TrimRight(k, " \t") == name {
			continue
		}
		if len(dst) > start {
			dst = append(dst, "; "...)
		}
		dst = append(dst, pair...)
	}
	return dst
}
