package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"
)

// algorithms maps each supported algorithm to the key family that may use it.
// "none" is not among them.
var algorithms = map[string]string{
	"RS256": "RSA", "RS384": "RSA", "RS512": "RSA",
	"PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
	"ES256": "P-256", "ES384": "P-384", "ES512": "P-521",
	"EdDSA": "Ed25519",
	"HS256": "oct", "HS384": "oct", "HS512": "oct",
}

// maxKeys bounds a key set: verification may try each key (RFC 7517 sets a bound
// nowhere; the large public issuers publish fewer than ten).
const maxKeys = 256

// key is one public or shared key.
type key struct {
	kid, alg string // as declared; alg empty: any of the family
	family   string
	raw      any
}

// keySet is one version of a set of keys. It is immutable.
type keySet struct {
	sum  [sha256.Size]byte // of the JSON text
	keys []key
}

// parseKeys reads a JSON Web Key Set, or a single key. Keys of unknown types are
// left out, as are those for encryption, and HMAC keys unless allowed: a public
// document must not hold them. The error is that of text which is no key set.
func parseKeys(text []byte, allowHMAC bool) (*keySet, error) {
	set, err := jwk.Parse(text, jwk.WithIgnoreParseError(true))
	if err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set: %w", err)
	}
	if set.Len() > maxKeys {
		return nil, fmt.Errorf("key set has %d keys, at most %d are allowed", set.Len(), maxKeys)
	}
	ks := &keySet{sum: sha256.Sum256(text)}
	for i := range set.Len() {
		k, found := set.Key(i)
		if !found {
			continue
		}
		if c, err := convert(k); err == nil && (c.family != "oct" || allowHMAC) {
			ks.keys = append(ks.keys, c)
		}
	}
	return ks, nil
}

// Usable tells how many keys of an inline key set, Provider.JWKS, can verify tokens.
// The error is that of text which is no key set.
func Usable(text string) (int, error) {
	ks, err := parseKeys([]byte(text), true)
	switch {
	case err == nil:
		return len(ks.keys), nil
	case !json.Valid([]byte(text)):
		return 0, errors.New("is no JSON")
	case strings.Contains(text, `"keys"`):
		return 0, err
	}
	return 0, errors.New(`is no JSON Web Key Set, an object with "keys"`)
}

var errUnusable = errors.New("key cannot verify signatures")

func convert(k jwk.Key) (key, error) {
	var c key
	if use, has := k.KeyUsage(); has && use != "" && use != "sig" {
		return c, errUnusable
	}
	if ops, has := k.KeyOps(); has && len(ops) > 0 {
		verify := false
		for _, op := range ops {
			verify = verify || op == jwk.KeyOpVerify || op == jwk.KeyOpSign
		}
		if !verify {
			return c, errUnusable
		}
	}
	c.kid, _ = k.KeyID()
	if a, has := k.Algorithm(); has {
		c.alg = a.String()
	}
	raw, err := jwk.PublicRawKeyOf(k)
	if err != nil {
		return c, err
	}
	switch r := raw.(type) {
	case *rsa.PublicKey:
		c.family, c.raw = "RSA", r
	case *ecdsa.PublicKey:
		c.family, c.raw = r.Curve.Params().Name, r
	case ed25519.PublicKey:
		c.family, c.raw = "Ed25519", r
	case []byte:
		c.family, c.raw = "oct", r
	default:
		return c, errUnusable
	}
	if c.alg != "" && algorithms[c.alg] != c.family {
		return c, errUnusable // the key's own algorithm is not one of its type
	}
	return c, nil
}

// verify checks the signature with every key that fits the token's kid and
// algorithm. A kid on only one side does not exclude.
func (ks *keySet) verify(p *parsed) status {
	if len(ks.keys) == 0 {
		return noKeys
	}
	family, fits := algorithms[p.alg], false
	for i := range ks.keys {
		k := &ks.keys[i]
		if p.kid != "" && k.kid != "" && p.kid != k.kid {
			continue
		}
		if k.alg != "" && k.alg != p.alg {
			continue
		}
		fits = true
		if k.family != family {
			continue // a key fixes what may sign with it, whatever the token says
		}
		if jwsbb.Verify(k.raw, p.alg, []byte(p.signed), p.signature) == nil {
			return ok
		}
	}
	if fits {
		return badSignature
	}
	return noMatchingKey
}
