package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Keys are made once: RSA keys take long.
var (
	rsaKey, rsaOther = mustRSA(), mustRSA()
	ecKey            = mustEC(elliptic.P256())
	ec384Key         = mustEC(elliptic.P384())
	ec521Key         = mustEC(elliptic.P521())
	edKey            = mustEd()
	hmacKey          = []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
)

func mustRSA() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func mustEC(c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func mustEd() ed25519.PrivateKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// jwkOf is the public JWK of a key, with further members.
func jwkOf(key any, kid string, more ...string) map[string]any {
	if s, ok := key.(crypto.Signer); ok {
		key = s.Public()
	}
	k, err := jwk.Import(key)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(k)
	if err != nil {
		panic(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		panic(err)
	}
	if kid != "" {
		m["kid"] = kid
	}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func jwks(keys ...map[string]any) string {
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(text)
}

type m = map[string]any

// sign makes a token; kid may be empty.
func sign(alg string, key any, kid string, claims m) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	a, ok := jwa.LookupSignatureAlgorithm(alg)
	if !ok {
		panic(alg)
	}
	h := jws.NewHeaders()
	if kid != "" {
		if err := h.Set("kid", kid); err != nil {
			panic(err)
		}
	}
	tok, err := jws.Sign(payload, jws.WithKey(a, key, jws.WithProtectedHeaders(h)))
	if err != nil {
		panic(err)
	}
	return string(tok)
}

// raw makes a token of parts that nothing checks.
func raw(header, payload, sig string) string {
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(header)) + "." + e([]byte(payload)) + "." + e([]byte(sig))
}

func good(more m) m {
	c := m{"iss": "issuer", "sub": "bob", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range more {
		c[k] = v
	}
	return c
}
