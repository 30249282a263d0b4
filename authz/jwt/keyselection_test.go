package jwt

import (
	"testing"
)

func TestKeySelection(t *testing.T) {
	good := good(nil)
	tests := []struct {
		name  string
		jwks  string
		token string
		body  string
	}{
		{"fixed alg", jwks(jwkOf(rsaKey, "r", "alg", "RS256")), sign("RS256", rsaKey, "r", good), ""},
		{"fixed alg, other", jwks(jwkOf(rsaKey, "r", "alg", "RS256")), sign("PS256", rsaKey, "r", good), statusText[noMatchingKey]},
		{"alg of another family", jwks(jwkOf(rsaKey, "r", "alg", "HS256")), sign("RS256", rsaKey, "r", good), statusText[noKeys]},
		{"encryption key", jwks(jwkOf(rsaKey, "r", "use", "enc")), sign("RS256", rsaKey, "r", good), statusText[noKeys]},
		{"keys without kid are tried", jwks(jwkOf(rsaOther, ""), jwkOf(rsaKey, "")), sign("RS256", rsaKey, "r", good), ""},
		{"same kid twice", jwks(jwkOf(rsaOther, "r"), jwkOf(rsaKey, "r")), sign("RS256", rsaKey, "r", good), ""},
		{"empty set", `{"keys":[]}`, sign("RS256", rsaKey, "r", good), statusText[noKeys]},
		{"unknown type beside", jwks(m{"kty": "XYZ"}, jwkOf(rsaKey, "r")), sign("RS256", rsaKey, "r", good), ""},
		{"key_ops", jwks(func() map[string]any { k := jwkOf(rsaKey, "r"); k["key_ops"] = []string{"encrypt"}; return k }()), sign("RS256", rsaKey, "r", good), statusText[noKeys]},
	}
	for _, tt := range tests {
		p := basic()
		p.JWKS = tt.jwks
		if res := check(t, build(t, nil, p), bearer(tt.token)); res.Body != tt.body {
			t.Errorf("%s: %q, want %q", tt.name, res.Body, tt.body)
		}
	}
}
