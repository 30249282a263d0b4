package scenarios

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"time"
)

// theirModulus is of the key in 04-jwt, whose private part is not here.
const theirModulus = "xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ"

var b64 = base64.RawURLEncoding

// token signs claims with our key.
func token(key *rsa.PrivateKey, claims map[string]any) string {
	head, _ := json.Marshal(map[string]any{"alg": "RS256", "kid": "test-key", "typ": "JWT"})
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	s := b64.EncodeToString(head) + "." + b64.EncodeToString(body)
	sum := sha256.Sum256([]byte(s))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return s + "." + b64.EncodeToString(sig)
}

// jwtScenario is 04-jwt with a key of ours in place of theirs.
func jwtScenario() scenario {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	with := func(more ...any) string {
		c := map[string]any{"iss": "issuer@example.com", "sub": "u", "aud": []string{"shop"}, "groups": []string{"x", "dev-1"},
			"nested": map[string]any{"group": "ops"}, "exp": time.Now().Add(time.Hour).Unix()}
		for i := 0; i < len(more); i += 2 {
			maps.Copy(c, map[string]any{more[i].(string): more[i+1]})
		}
		return token(key, c)
	}
	good := with()
	own := func(t string) []string { return []string{"x-jwt", "Token " + t} }
	in := []string{"x-sub", "u", "x-group", "ops", "x-jwt", "Token " + good}
	return scenario{
		prepare: func(m *world) {
			old := m.rewrite
			m.rewrite = func(s string) string {
				return strings.ReplaceAll(old(s), theirModulus, b64.EncodeToString(key.N.Bytes()))
			}
		},
		questions: []question{
			q(ask{to: web, path: "/"}, denied),
			q(ask{to: web, path: "/public"}, want{status: 200, apps: anyWeb, seen: []string{"x-sub", "", "x-payload", ""}}),
			q(ask{to: web, path: "/public/a/b"}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/publicity"}, denied),
			q(ask{to: web, path: "/", headers: own(good)}, want{status: 200, apps: anyWeb, seen: in}),
			q(ask{to: web, path: "/?token=" + good}, want{status: 200, apps: anyWeb, seen: in[:4]}),
			q(ask{to: web, path: "/", headers: []string{"cookie", "a=b; session=" + good}}, want{status: 200, apps: anyWeb, seen: in[:4]}),
			q(ask{to: web, path: "/", headers: []string{"authorization", "Bearer " + good}}, want{status: 401}), // the other issuer's place
			q(ask{to: web, path: "/public", headers: own(good[:len(good)-8] + "AAAAAAAA")}, want{status: 401}),
			q(ask{to: web, path: "/public", headers: own("garbage")}, want{status: 401}),
			q(ask{to: web, path: "/public", headers: own(with("exp", time.Now().Add(-time.Hour).Unix()))}, want{status: 401}),
			q(ask{to: web, path: "/public", headers: own(with("aud", "other"))}, want{status: 403}),
			q(ask{to: web, path: "/", headers: own(with("groups", []string{"user"}))}, denied),
			q(ask{to: web, path: "/", headers: own(with("groups", "admin"))}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/", headers: own(with("aud", "web"))}, denied),
			q(ask{to: web, path: "/", headers: own(with("nested", map[string]any{"group": "banned"}))}, denied),
			q(ask{to: web, path: "/", headers: own(with("azp", "bot"))}, denied),
			q(ask{to: web, path: "/", headers: []string{"authorization", "Bearer " + with("iss", "second@example.com")}}, denied),
			q(ask{to: web, path: "/public", headers: []string{"authorization", "Bearer " + with("iss", "second@example.com")}}, want{status: 200, apps: anyWeb}),
			q(ask{to: web, path: "/", headers: []string{"x-sub", "admin"}}, denied),
			q(ask{to: web, path: "/public", headers: []string{"x-sub", "admin"}}, want{status: 200, apps: anyWeb}),
		},
	}
}
