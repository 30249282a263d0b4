package envoy

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"time"
)

// issuers are those of the generated worlds: the first takes tokens from a header
// of its own and tells the application what they say, the second is as Istio has it.
var jwtRules = []JWTRule{
	{Issuer: "first@example.com", FromHeaders: [][2]string{{"x-jwt", "Token "}}, Forward: true, PayloadHeader: "x-payload", ClaimHeaders: [][2]string{{"x-sub", "sub"}, {"x-group", "nested.group"}}},
	{Issuer: "second@example.com"},
}

// Keys sign tokens.
type Keys struct {
	Good, Bad *rsa.PrivateKey // the one in JWKS, and another
	JWKS      string
}

const keyID = "test-key"

// NewKeys makes a pair of keys.
func NewKeys() (*Keys, error) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	bad, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return &Keys{Good: good, Bad: bad, JWKS: string(mustJSON(Object{"keys": []any{Object{
		"kty": "RSA", "kid": keyID, "e": b64(big.NewInt(int64(good.E)).Bytes()), "n": b64(good.N.Bytes())}}}))}, nil
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Sign makes a token of a header and a payload.
func Sign(k *rsa.PrivateKey, header Object, payload []byte) string {
	text := b64(mustJSON(header)) + "." + b64(payload)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // the key is ours
	}
	return text + "." + b64(sig)
}

// token is what a generated question shall carry; nil where nobody reads one.
type token struct {
	keys   *Keys
	claims Object // nil: none
	rules  []JWTRule
}

func (g *Generator) token(s *Subject) *token {
	if len(s.JWT) == 0 {
		return nil
	}
	c := Object{"iss": one(g, s.JWT).Issuer, "sub": one(g, []string{"ann", "bob", "joann"}), "exp": float64(farFuture), "nested": Object{}}
	for _, k := range claimConditions[1:] {
		if g.chance(50) {
			setClaim(c, k, one(g, claimValues[k]))
		}
	}
	return &token{keys: g.keys, claims: c, rules: s.JWT}
}

// farFuture is 2100: tokens of generated questions are the same in every run.
const farFuture = 4102444800

// claimValues are values of the claims that rules ask for, in all JSON kinds.
var claimValues = map[string][]any{
	"request.auth.audiences":             {"shop", []any{"web-1", "x"}, []any{}, "other"},
	"request.auth.presenter":             {"bot", "bob", "cat"},
	"request.auth.claims[groups]":        {"admin", []any{"x", "dev-1"}, []any{"ops"}, 5.0, "plain"},
	"request.auth.claims[nested][group]": {"banned", "ok", []any{"banned", "b"}, true},
	"request.auth.claims[scope]":         {"read write", "readonly", "", []any{"read"}},
	"request.auth.claims[level]":         {5.0, "5", true, "true", 1.5},
}

func setClaim(c Object, field string, v any) {
	at, _ := claimPath(field)
	for _, k := range at[:len(at)-1] {
		c = c[k].(Object)
	}
	c[at[len(at)-1]] = v
}

// meetClaim makes the token satisfy one value of a field, if it can.
func (g *Generator) meetClaim(t *token, field, v string) {
	if t.claims == nil {
		return
	}
	if at, _ := claimPath(field); at != nil {
		text := sample(v, "s")
		setClaim(t.claims, field, one(g, []any{text, []any{text}, []any{"x", text}}))
		return
	}
	i := strings.LastIndexByte(v, '/')
	for _, r := range t.rules {
		if i < 0 && fits(v, r.Issuer) && strings.HasSuffix(v, "*") || i >= 0 && fits(v[:i], r.Issuer) {
			t.claims["iss"] = r.Issuer
		}
	}
	switch {
	case i >= 0:
		t.claims["sub"] = sample(v[i+1:], "ob")
	case v != "*" && strings.HasPrefix(v, "*"):
		t.claims["sub"] = sample(v, "a")
	}
}

// carry says that a question has the token; sign writes it.
func (t *token) carry(q *Question) {
	if t == nil || t.claims == nil {
		return
	}
	q.token = t
	// As a proxy reads it: numbers are float64 and lists []any.
	if err := json.Unmarshal(mustJSON(t.claims), &q.Claims); err != nil {
		panic(err)
	}
}

// sign writes the token of a question where its issuer wants it. A signature takes
// long, and most questions are only thought of.
func (q *Question) sign() *Question {
	t := q.token
	if t == nil {
		return q
	}
	text := Sign(t.keys.Good, Object{"alg": "RS256", "kid": keyID}, mustJSON(t.claims))
	if q.Claims["iss"] == jwtRules[0].Issuer {
		q.Headers = append(q.Headers, [2]string{"X-Jwt", "Token " + text})
	} else {
		q.Headers = append(q.Headers, [2]string{"Authorization", "Bearer " + text})
	}
	return q
}

// in is a time as a claim has it.
func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }
