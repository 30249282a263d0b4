package jwt

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// maxCached is the longest token that is cached, so that the cache stays small.
const maxCached = 8 << 10

// verify checks one token for one provider, by the order of Envoy's checks.
func (a *Authenticator) verify(ctx context.Context, p *provider, audiences []string, tok string) (*verified, status) {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(tok), len(tok)))
	keys := p.inline
	if p.src != nil {
		keys = p.src.keys.Load()
	}
	if v := p.cache.get(keys, &sum); v != nil {
		st := p.live(v.exp, v.nbf)
		if st == expired {
			p.cache.drop(&sum)
		}
		if st == ok && !audienceAllowed(v.claims.Audiences, audiences) {
			st = badAudience
		}
		return v, st
	}
	if p.Issuer != "" && a.issuedFor(p, &sum) {
		return nil, unknownIssuer
	}
	// What outlives the request must not borrow from it.
	t, st := parse(strings.Clone(tok))
	if st != ok {
		return nil, st
	}
	if p.Issuer != "" && t.claims.Issuer != p.Issuer {
		return nil, unknownIssuer
	}
	if st := p.live(t.exp, t.nbf); st != ok {
		return nil, st
	}
	if !audienceAllowed(t.claims.Audiences, audiences) {
		return nil, badAudience
	}
	if keys == nil {
		if keys = p.src.first(ctx); keys == nil {
			return nil, fetchFailed
		}
	}
	st = keys.verify(t)
	if st == noMatchingKey && p.src != nil {
		if newer := p.src.newer(ctx, keys); newer != keys {
			keys = newer
			st = keys.verify(t)
		}
	}
	if st != ok {
		return nil, st
	}
	v := &verified{claims: t.claims, exp: t.exp, nbf: t.nbf, set: p.outputs(t)}
	if len(tok) <= maxCached {
		p.cache.put(keys, &sum, v)
	}
	return v, ok
}

// issuedFor reports whether the token is known to be of another issuer, which
// saves parsing it again for each provider.
func (a *Authenticator) issuedFor(p *provider, sum *[sha256.Size]byte) bool {
	for _, q := range a.providers {
		if q == p {
			continue
		}
		keys := q.inline
		if q.src != nil {
			keys = q.src.keys.Load()
		}
		if v := q.cache.get(keys, sum); v != nil && v.claims.Issuer != p.Issuer {
			return true
		}
	}
	return false
}

func (p *provider) live(exp, nbf int64) status {
	now := time.Now().Unix()
	switch {
	case nbf != 0 && now+p.skew < nbf:
		return notYetValid
	case exp != 0 && now-p.skew > exp:
		return expired
	}
	return ok
}

func audienceAllowed(have, want []string) bool {
	if len(want) == 0 {
		return true
	}
	for _, h := range have {
		h = bareAudience(h)
		for _, w := range want {
			if h == bareAudience(w) {
				return true
			}
		}
	}
	return false
}

// bareAudience is an audience as Envoy compares it: without the scheme of a URL
// and one slash at its end.
func bareAudience(s string) string {
	if rest, found := strings.CutPrefix(s, "https://"); found {
		s = rest
	} else {
		s = strings.TrimPrefix(s, "http://")
	}
	return strings.TrimSuffix(s, "/")
}

// outputs makes the headers that tell the application about the token.
func (p *provider) outputs(t *parsed) []Header {
	var out []Header
	if p.PayloadHeader != "" {
		out = append(out, Header{p.PayloadHeader, t.payload})
	}
	for _, c := range p.ClaimHeaders {
		if v, has := claimText(t.claims.Raw, c.Claim); has {
			out = append(out, Header{c.Header, v})
		}
	}
	return out
}

// angles writes as protobuf's JSON does what would be HTML.
var angles = strings.NewReplacer("<", `\u003c`, ">", `\u003e`)

// claimText is the value of a claim as a header; ok is false if it is missing,
// null, or cannot stand in a header. A list or an object is its JSON in base64, as
// Envoy's jwt_authn writes it.
func claimText(raw map[string]any, path string) (string, bool) {
	var val any = raw
	for path != "" {
		var part string
		part, path, _ = strings.Cut(path, ".")
		m, isMap := val.(map[string]any)
		if !isMap {
			return "", false
		}
		val = m[part]
	}
	switch v := val.(type) {
	case string:
		return v, v != "" && headerText(v)
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	case []any, map[string]any:
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(v)
		return base64.StdEncoding.EncodeToString([]byte(angles.Replace(strings.TrimRight(b.String(), "\n")))), err == nil
	}
	return "", false
}

// headerText refuses what RFC 9110 section 5.5 keeps out of field values: a claim
// must not be able to write another header.
func headerText(s string) bool {
	if s[0] == ' ' || s[0] == '\t' || s[len(s)-1] == ' ' || s[len(s)-1] == '\t' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
