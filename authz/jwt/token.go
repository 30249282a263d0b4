package jwt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// parsed is a token taken apart; nothing in it is verified yet.
type parsed struct {
	alg, kid  string
	signed    string // header.payload, as sent
	payload   string // base64url
	signature []byte
	claims    *attrs.Claims
	exp, nbf  int64 // Unix seconds; 0: not set
}

// strict refuses padding, foreign characters and stray bits in the last one, so
// that a token has one spelling.
var strict = base64.RawURLEncoding.Strict()

func parse(tok string) (*parsed, status) {
	header, rest, dot1 := strings.Cut(tok, ".")
	payload, sig, dot2 := strings.Cut(rest, ".")
	if !dot1 || !dot2 || strings.IndexByte(sig, '.') >= 0 || header == "" || payload == "" {
		return nil, badFormat
	}
	p := &parsed{signed: tok[:len(header)+1+len(payload)], payload: payload}
	if st := p.parseHeader(header); st != ok {
		return nil, st
	}
	if st := p.parsePayload(payload); st != ok {
		return nil, st
	}
	var err error
	if p.signature, err = strict.DecodeString(sig); err != nil {
		return nil, badSignatureBase64
	}
	return p, ok
}

func decodeObject(part string, bad64, badJSON status) (map[string]any, status) {
	text, err := strict.DecodeString(part)
	if err != nil {
		return nil, bad64
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // claims keep their digits, for outputClaimToHeaders
	if err := d.Decode(&m); err != nil || m == nil || d.More() {
		return nil, badJSON
	}
	return m, ok
}

func (p *parsed) parseHeader(part string) status {
	h, st := decodeObject(part, badHeaderBase64, badHeaderJSON)
	if st != ok {
		return st
	}
	var isString bool
	if p.alg, isString = h["alg"].(string); !isString {
		return badAlg
	}
	if algorithms[p.alg] == "" {
		return unsupportedAlg
	}
	if v, has := h["kid"]; has {
		if p.kid, isString = v.(string); !isString {
			return badKid
		}
	}
	if _, has := h["crit"]; has {
		return badCrit // RFC 7515 section 4.1.11: what is not understood is refused
	}
	return ok
}

func (p *parsed) parsePayload(part string) status {
	raw, st := decodeObject(part, badPayloadBase64, badPayloadJSON)
	if st != ok {
		return st
	}
	c := &attrs.Claims{Raw: raw}
	p.claims = c
	var good bool
	if c.Issuer, good = optional[string](raw, "iss"); !good {
		return badIss
	}
	if c.Subject, good = optional[string](raw, "sub"); !good {
		return badSub
	}
	c.Presenter, _ = raw["azp"].(string)
	if p.exp, good = seconds(raw, "exp"); !good {
		return badExp
	}
	if p.nbf, good = seconds(raw, "nbf"); !good {
		return badNbf
	}
	if _, good = seconds(raw, "iat"); !good {
		return badIat
	}
	switch aud := raw["aud"].(type) {
	case nil:
	case string:
		c.Audiences = []string{aud}
	case []any:
		for _, a := range aud {
			s, isString := a.(string)
			if !isString {
				return badAud
			}
			c.Audiences = append(c.Audiences, s)
		}
	default:
		return badAud
	}
	return ok
}

// optional reads a claim that may be missing but not of another type.
func optional[T any](raw map[string]any, name string) (v T, good bool) {
	x, has := raw[name]
	if !has {
		return v, true
	}
	v, good = x.(T)
	return v, good
}

// seconds reads a NumericDate (RFC 7519 section 2), fractions cut off.
func seconds(raw map[string]any, name string) (int64, bool) {
	n, good := optional[json.Number](raw, name)
	if !good || n == "" {
		return 0, good
	}
	if i, err := n.Int64(); err == nil {
		return i, i >= 0
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > math.MaxInt64/2 {
		return 0, false
	}
	return int64(f), true
}
