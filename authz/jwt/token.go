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
	if !dot1 || !dot2 || strings.IndexByte(sig, '.') >= 0 || header == "" || payload == "" || sig == "" {
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
	if err := d.Decode(&m); err != nil || m == nil || d.More() || !uniqueKeys(text) {
		return nil, badJSON
	}
	return m, ok
}

// uniqueKeys reports whether no object of a JSON text has a key twice: RFC 7519
// section 4 lets a parser refuse that, and readers differ in which one they take.
func uniqueKeys(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	var open []map[string]bool // nil: a list
	key := false               // an object's next token is a key, or its end
	for {
		tok, err := d.Token()
		if err != nil {
			return true // the end; what is no JSON was refused before
		}
		switch v := tok.(type) {
		case json.Delim:
			switch v {
			case '{':
				open = append(open, map[string]bool{})
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
			key = len(open) > 0 && open[len(open)-1] != nil
			continue
		case string:
			if key {
				in := open[len(open)-1]
				if in[v] {
					return false
				}
				in[v], key = true, false
				continue
			}
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
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
	if p.exp, st = seconds(raw, "exp", badExp, expRange); st != ok {
		return st
	}
	if p.nbf, st = seconds(raw, "nbf", badNbf, nbfRange); st != ok {
		return st
	}
	if _, st = seconds(raw, "iat", badIat, iatRange); st != ok {
		return st
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

// seconds reads a NumericDate (RFC 7519 section 2), fractions cut off. kind is the
// status of what is no number, outside that of one that is no date.
func seconds(raw map[string]any, name string, kind, outside status) (int64, status) {
	n, good := optional[json.Number](raw, name)
	if !good {
		return 0, kind
	}
	if n == "" {
		return 0, ok
	}
	if i, err := n.Int64(); err == nil {
		if i < 0 {
			return 0, outside
		}
		return i, ok
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > math.MaxInt64/2 {
		return 0, outside
	}
	return int64(f), ok
}
