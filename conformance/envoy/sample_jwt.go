package envoy

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

// sampleToken is one token with what is said about it.
type sampleToken struct {
	name, text string
}

// sampleClaims are a payload that 04-jwt takes; edit changes it.
func sampleClaims(edit func(Object)) []byte {
	c := Object{"iss": "issuer@example.com", "sub": "ann", "aud": "shop", "exp": in(time.Hour), "iat": in(-time.Minute), "groups": []any{"x", "admin"}, "nested": Object{"group": "staff"}}
	if edit != nil {
		edit(c)
	}
	return mustJSON(c)
}

// sampleTokens are tokens of all kinds that a verifier must tell apart.
func sampleTokens(k *Keys) []sampleToken {
	rs := Object{"alg": "RS256", "kid": keyID, "typ": "JWT"}
	sign := func(edit func(Object)) string { return Sign(k.Good, rs, sampleClaims(edit)) }
	set := func(key string, v any) string { return sign(func(c Object) { c[key] = v }) }
	drop := func(key string) string { return sign(func(c Object) { delete(c, key) }) }
	head := func(h Object) string { return Sign(k.Good, h, sampleClaims(nil)) }
	good := sign(nil)
	part := strings.Split(good, ".")
	none := b64(mustJSON(Object{"alg": "none"})) + "." + part[1]
	der, err := x509.MarshalPKIXPublicKey(&k.Good.PublicKey)
	if err != nil {
		panic(err) // an RSA key
	}
	hs := b64(mustJSON(Object{"alg": "HS256", "kid": keyID})) + "." + part[1]
	mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	mac.Write([]byte(hs))
	return []sampleToken{
		{"good", good}, {"second issuer", set("iss", "second@example.com")},
		{"unknown issuer", set("iss", "third@example.com")}, {"no issuer", drop("iss")}, {"issuer is a number", set("iss", 5)},
		{"expired", set("exp", in(-time.Hour))}, {"just expired", set("exp", in(-30*time.Second))}, {"no expiry", drop("exp")},
		{"exp is text", set("exp", "soon")}, {"exp is negative", set("exp", -1)}, {"exp is a fraction", set("exp", float64(in(time.Hour))+0.5)}, {"exp is 0", set("exp", 0)},
		{"not yet", set("nbf", in(time.Hour))}, {"almost yet", set("nbf", in(30*time.Second))}, {"since long", set("nbf", in(-time.Hour))}, {"issued in the future", set("iat", in(time.Hour))},
		{"wrong key", Sign(k.Bad, rs, sampleClaims(nil))}, {"changed payload", part[0] + "." + b64(sampleClaims(func(c Object) { c["sub"] = "eve" })) + "." + part[2]},
		{"no signature", part[0] + "." + part[1] + "."}, {"alg none", none + "."}, {"alg none, two parts", none}, {"alg None signed", head(Object{"alg": "None", "kid": keyID})},
		{"alg HS256 by the public key", hs + "." + b64(mac.Sum(nil))}, {"no alg", head(Object{"kid": keyID})}, {"alg is a number", head(Object{"alg": 1, "kid": keyID})},
		{"alg RS384 over a RS256 signature", head(Object{"alg": "RS384", "kid": keyID})}, {"alg ES256", head(Object{"alg": "ES256", "kid": keyID})}, {"alg XX", head(Object{"alg": "XX", "kid": keyID})},
		{"no kid", head(Object{"alg": "RS256"})}, {"other kid", head(Object{"alg": "RS256", "kid": "other"})}, {"kid is a number", head(Object{"alg": "RS256", "kid": 7})}, {"crit", head(Object{"alg": "RS256", "kid": keyID, "crit": []any{"x"}})},
		{"aud of a list", set("aud", []any{"a", "web"})}, {"wrong aud", set("aud", "none")}, {"wrong auds", set("aud", []any{"a", "b"})}, {"no aud", drop("aud")}, {"empty aud", set("aud", []any{})}, {"aud is a number", set("aud", 5)}, {"aud with slash", set("aud", "https://shop/")},
		{"no groups", drop("groups")}, {"group by prefix", set("groups", "dev-7")}, {"other groups", set("groups", []any{"a", "b"})}, {"groups are numbers", set("groups", []any{1, 2})}, {"groups is an object", set("groups", Object{"admin": true})},
		{"banned", set("nested", Object{"group": "banned"})}, {"banned in a list", set("nested", Object{"group": []any{"a", "banned"}})}, {"no nested", drop("nested")}, {"nested is text", set("nested", "banned")},
		{"nested group is an object", set("nested", Object{"group": Object{"b": []any{1, 2.5, "x<&>\"\u00e9", nil, true}}})}, {"nested group is a number", set("nested", Object{"group": 1234567890123})}, {"nested group is a fraction", set("nested", Object{"group": 1.25})},
		{"nested group is true", set("nested", Object{"group": true})}, {"nested group is null", set("nested", Object{"group": nil})}, {"nested group is empty", set("nested", Object{"group": ""})}, {"nested group is a list of many", set("nested", Object{"group": []any{"???>>>", "~~~"}})},
		{"bot", set("azp", "bot")}, {"other azp", set("azp", "web")}, {"no sub", drop("sub")}, {"empty sub", set("sub", "")}, {"sub is a number", set("sub", 42)}, {"sub with slash", set("sub", "a/b")}, {"sub with a line end", set("sub", "a\r\nx: y")}, {"sub beyond ASCII", set("sub", "\u00e9")},
		{"jti", set("jti", "1")}, {"scope", set("scope", "admin read")},
		{"empty", ""}, {"one part", "abc"}, {"two parts", "a.b"}, {"four parts", good + ".x"}, {"not base64", "a!.b!.c!"}, {"padded", part[0] + "=." + part[1] + "." + part[2]}, {"spaces", " " + good}, {"two tokens", good + " " + good}, {"comma", good + "," + good}, {"colon before", ":" + good}, {"semicolon behind", good + ";"}, {"quoted", "\"" + good + "\""}, {"tab before", "\t" + good},
		{"header is no JSON", b64([]byte("{")) + "." + part[1] + "." + part[2]}, {"header is a list", b64([]byte("[]")) + "." + part[1] + "." + part[2]}, {"payload is no JSON", Sign(k.Good, rs, []byte("hello"))}, {"payload is a list", Sign(k.Good, rs, []byte("[]"))}, {"payload is empty", Sign(k.Good, rs, nil)}, {"payload has a key twice", Sign(k.Good, rs, []byte(`{"iss":"third@example.com","iss":"issuer@example.com","aud":"shop","exp":4102444800}`))},
		{"long", set("x", strings.Repeat("a", 6000))},
	}
}

// places put a token into a request in the ways that 04-jwt reads, and in others.
var places = []func(q *Question, token string){
	func(q *Question, t string) { q.Headers = append(q.Headers, [2]string{"X-Jwt", "Token " + t}) },
	func(q *Question, t string) { q.Target += "?token=" + t + "&a=b" },
	func(q *Question, t string) {
		q.Headers = append(q.Headers, [2]string{"Cookie", "a=b; session=" + t + "; c=d"})
	},
	func(q *Question, t string) {
		q.Headers = append(q.Headers, [2]string{"Authorization", "Bearer " + t})
	},
	func(q *Question, t string) { q.Target += "?access_token=" + t },
	func(q *Question, t string) { q.Headers = append(q.Headers, [2]string{"X-Jwt", "token " + t}) }, // another prefix
	func(q *Question, t string) { q.Headers = append(q.Headers, [2]string{"X-Jwt", t}) },
	func(q *Question, t string) {
		q.Headers = append(q.Headers, [2]string{"Authorization", "bearer " + t})
	},
}

// jwtQuestions carry every token in every place, and none.
func (g *Generator) jwtQuestions(name string) []*Question {
	var qs []*Question
	ask := func(edit func(*Question)) {
		q := g.sampleBase(name, sampleWeb)
		q.Kind = "jwt"
		q.Target = one(g, []string{"/x", "/public", "/public/a", "/"})
		q.Method = one(g, []string{"GET", "GET", "POST", "HEAD"})
		if g.chance(30) {
			q.Headers = append(q.Headers, one(g, [][2]string{{"X-Payload", "forged"}, {"X-Sub", "forged"}, {"X-Group", "forged"}}))
		}
		edit(q)
		qs = append(qs, q)
	}
	tokens := sampleTokens(g.keys)
	for _, t := range tokens {
		for i, put := range places {
			if i > 4 && t.name != "good" && t.name != "expired" {
				continue // read nowhere
			}
			if strings.ContainsAny(t.text, " ,\t\"") && (i == 1 || i == 4) {
				continue // another request line
			}
			times := 1
			if t.name == "nested group is a fraction" {
				times = 8 // what the application sees is compared where both chose the same of three pods
			}
			for range times {
				ask(func(q *Question) {
					if strings.HasPrefix(t.name, "nested group") || strings.HasPrefix(t.name, "sub ") {
						q.Target, q.Method = "/public", "GET" // where what the application sees can be compared
					}
					q.Note = fmt.Sprint(t.name, ", place ", i)
					put(q, t.text)
				})
			}
		}
	}
	good, bad := tokens[0].text, tokens[5].text
	for _, put := range places {
		ask(func(q *Question) { // a preflight is not read
			put(q, bad)
			q.Method = "OPTIONS"
			q.Headers = append(q.Headers, [2]string{"Origin", "https://app.example.com"}, [2]string{"Access-Control-Request-Method", "GET"})
		})
		ask(func(q *Question) { put(q, bad); q.Method = "OPTIONS" })
	}
	for range 20 {
		ask(func(q *Question) {})
	}
	for _, h := range [][2]string{{"Authorization", "Basic YTpi"}, {"Authorization", ""}, {"Authorization", "Bearer"}, {"X-Jwt", ""}, {"X-Jwt", "Token"}, {"Cookie", "session="}, {"Cookie", "session=\"" + good + "\""}, {"Cookie", "xsession=" + bad}} {
		ask(func(q *Question) { q.Headers = append(q.Headers, h) })
	}
	return qs
}
