package jwt

import (
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

// FuzzCheck: whatever stands in the places of tokens, nothing but a signed token
// gives claims, and what is not one is refused.
func FuzzCheck(f *testing.F) {
	a := build(f, nil, basic())
	f.Add("Bearer "+sign("ES256", ecKey, "e", good(nil)), "access_token=x&a=b", "a=b; c")
	f.Add("Bearer "+raw(`{"alg":"none"}`, `{"iss":"issuer","exp":1e9}`, ""), "", "")
	f.Add("Bearer a.b.c", "access%5ftoken=%zz", `session="x"`)
	p := basic()
	p.FromCookies = []string{"session"}
	withCookie := build(f, nil, p)
	f.Fuzz(func(t *testing.T, auth, query, cookies string) {
		r := request()
		r.Headers = []attrs.Field{{Name: "authorization", Value: auth}, {Name: "cookie", Value: cookies}}
		r.Query, r.HasQuery = query, true
		var res Result
		for _, x := range []*Authenticator{a, withCookie} {
			x.Check(t.Context(), r, &res)
			if res.Status == 0 && res.Claims != nil && res.Claims.Issuer != "issuer" {
				t.Fatalf("claims of %q", res.Claims.Issuer)
			}
			if res.Status != 0 && (res.Claims != nil || len(res.Set) > 0 || res.Body == "") {
				t.Fatalf("denial with effects: %+v", res)
			}
		}
		if q := string(withoutParam(nil, query, "access_token")); func() bool { _, has := param(q, "access_token"); return has }() {
			t.Fatalf("%q keeps the token of %q", q, query)
		}
		line := string(withoutCookie(nil, cookies, "session"))
		if _, has := cookie(&attrs.Request{Headers: []attrs.Field{{Name: "cookie", Value: line}}}, "session"); has {
			t.Fatalf("%q keeps the token of %q", line, cookies)
		}
	})
}
