package jwt

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

func basic() Provider {
	return Provider{Name: "p", Issuer: "issuer", JWKS: jwks(
		jwkOf(rsaKey, "r"), jwkOf(ecKey, "e"), jwkOf(ec384Key, "e384"), jwkOf(ec521Key, "e521"), jwkOf(edKey, "ed"), jwkOf(hmacKey, "h"))}
}

func build(t testing.TB, req *Requirement, ps ...Provider) *Authenticator {
	t.Helper()
	if req == nil {
		var names []string
		for _, p := range ps {
			names = append(names, p.Name)
		}
		req = OptionalAny(names...)
	}
	a, err := New(&Config{Providers: ps, Require: req}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func request(lines ...string) *attrs.Request {
	r := &attrs.Request{Method: "GET", Scheme: "http", Authority: "shop.example", Path: "/cart"}
	for _, l := range lines {
		n, v, _ := strings.Cut(l, ": ")
		r.Headers = append(r.Headers, attrs.Field{Name: n, Value: v})
	}
	return r
}

func bearer(tok string) *attrs.Request { return request("authorization: Bearer " + tok) }

func check(t testing.TB, a *Authenticator, r *attrs.Request) *Result {
	t.Helper()
	res := &Result{}
	a.Check(t.Context(), r, res)
	return res
}

// tampered replaces part i of a token.
func tampered(tok string, i int, text string) string {
	parts := strings.Split(tok, ".")
	parts[i] = base64.RawURLEncoding.EncodeToString([]byte(text))
	return strings.Join(parts, ".")
}

func TestVerification(t *testing.T) {
	now := time.Now().Unix()
	rs := sign("RS256", rsaKey, "r", good(nil))
	rsaPublic := []byte(jwks(jwkOf(rsaKey, "r")))
	tests := []struct {
		name, token string
		status      int
		body        string
	}{
		{"RS256", rs, 0, ""},
		{"RS384", sign("RS384", rsaKey, "r", good(nil)), 0, ""},
		{"RS512", sign("RS512", rsaKey, "r", good(nil)), 0, ""},
		{"PS256", sign("PS256", rsaKey, "r", good(nil)), 0, ""},
		{"PS384", sign("PS384", rsaKey, "r", good(nil)), 0, ""},
		{"PS512", sign("PS512", rsaKey, "r", good(nil)), 0, ""},
		{"ES256", sign("ES256", ecKey, "e", good(nil)), 0, ""},
		{"ES384", sign("ES384", ec384Key, "e384", good(nil)), 0, ""},
		{"ES512", sign("ES512", ec521Key, "e521", good(nil)), 0, ""},
		{"EdDSA", sign("EdDSA", edKey, "ed", good(nil)), 0, ""},
		{"HS256 inline", sign("HS256", hmacKey, "h", good(nil)), 0, ""},
		{"HS384 inline", sign("HS384", hmacKey, "h", good(nil)), 0, ""},
		{"HS512 inline", sign("HS512", hmacKey, "h", good(nil)), 0, ""},
		{"no kid", sign("RS256", rsaKey, "", good(nil)), 0, ""},
		{"no exp", sign("RS256", rsaKey, "r", m{"iss": "issuer"}), 0, ""},
		{"expired within skew", sign("RS256", rsaKey, "r", good(m{"exp": now - 50})), 0, ""},
		{"not before within skew", sign("RS256", rsaKey, "r", good(m{"nbf": now + 50})), 0, ""},
		{"fractional exp", sign("RS256", rsaKey, "r", good(m{"exp": float64(now) + 100.5})), 0, ""},

		{"expired", sign("RS256", rsaKey, "r", good(m{"exp": now - 70})), 401, "Jwt is expired"},
		{"not yet", sign("RS256", rsaKey, "r", good(m{"nbf": now + 70})), 401, "Jwt not yet valid"},
		{"other issuer", sign("RS256", rsaKey, "r", good(m{"iss": "x"})), 401, "Jwt issuer is not configured"},
		{"no issuer", sign("RS256", rsaKey, "r", m{"sub": "x"}), 401, "Jwt issuer is not configured"},
		{"other key", sign("RS256", rsaOther, "r", good(nil)), 401, "Jwt verification fails"},
		{"unknown kid", sign("RS256", rsaKey, "zz", good(nil)), 401, "Jwks doesn't have key to match kid or alg from Jwt"},
		{"kid of another type", sign("RS256", rsaKey, "e", good(nil)), 401, "Jwt verification fails"},
		{"HMAC with the public key", sign("HS256", rsaPublic, "r", good(nil)), 401, "Jwt verification fails"},
		{"HMAC with another key", sign("HS256", rsaPublic, "h", good(nil)), 401, "Jwt verification fails"},
		{"none", raw(`{"alg":"none"}`, `{"iss":"issuer"}`, ""), 401, statusText[badFormat]},
		{"none, signed", raw(`{"alg":"none"}`, `{"iss":"issuer"}`, "e30"), 401, "Jwt header [alg] is not supported"},
		{"None", raw(`{"alg":"None"}`, `{"iss":"issuer"}`, "x"), 401, "Jwt header [alg] is not supported"},
		{"no alg", raw(`{}`, `{"iss":"issuer"}`, "x"), 401, "Jwt header [alg] field is required and must be a string"},
		{"kid number", raw(`{"alg":"RS256","kid":1}`, `{}`, "x"), 401, "Jwt header [kid] field is not a string"},
		{"crit", raw(`{"alg":"RS256","crit":["b64"],"b64":false}`, `{}`, "x"), 401, "Jwt header [crit] is not supported"},
		{"two parts", "a.b", 401, statusText[badFormat]},
		{"four parts", rs + ".x", 401, statusText[badFormat]},
		{"word", "token", 401, statusText[badFormat]},
		{"nothing behind the prefix", "", 401, statusText[badFormat]},
		{"header no base64", "a+." + strings.SplitN(rs, ".", 2)[1], 401, statusText[badHeaderBase64]},
		{"key twice", raw(`{"alg":"RS256"}`, `{"iss":"other","iss":"issuer"}`, "e30"), 401, statusText[badPayloadJSON]},
		{"key twice, deep", raw(`{"alg":"RS256"}`, `{"iss":"issuer","a":[{"b":{"c":1,"d":2,"c":3}}]}`, "e30"), 401, statusText[badPayloadJSON]},
		{"key in several objects", raw(`{"alg":"RS256"}`, `{"iss":"other","a":[{"iss":1},{"iss":{"a":2}}]}`, "e30"), 401, statusText[unknownIssuer]},
		{"header one character", "a." + strings.SplitN(rs, ".", 2)[1], 401, statusText[badHeaderBase64]},
		{"header no JSON", tampered(rs, 0, "x"), 401, statusText[badHeaderJSON]},
		{"header an array", tampered(rs, 0, "[]"), 401, statusText[badHeaderJSON]},
		{"header two values", tampered(rs, 0, `{"alg":"RS256"} {}`), 401, statusText[badHeaderJSON]},
		{"payload no JSON", tampered(rs, 1, "x"), 401, statusText[badPayloadJSON]},
		{"payload null", tampered(rs, 1, "null"), 401, statusText[badPayloadJSON]},
		{"payload changed", tampered(rs, 1, `{"iss":"issuer","sub":"eve"}`), 401, "Jwt verification fails"},
		{"signature cut", rs[:strings.LastIndex(rs, ".")+5], 401, "Jwt verification fails"},
		{"signature not base64", rs[:strings.LastIndex(rs, ".")+2], 401, statusText[badSignatureBase64]},
		{"signature empty", rs[:strings.LastIndex(rs, ".")+1], 401, statusText[badFormat]},
		{"iss number", tampered(rs, 1, `{"iss":1}`), 401, statusText[badIss]},
		{"sub list", tampered(rs, 1, `{"sub":[]}`), 401, statusText[badSub]},
		{"exp string", tampered(rs, 1, `{"exp":"1"}`), 401, statusText[badExp]},
		{"exp negative", tampered(rs, 1, `{"exp":-1}`), 401, statusText[expRange]},
		{"nbf negative", tampered(rs, 1, `{"nbf":-1}`), 401, statusText[nbfRange]},
		{"iat negative", tampered(rs, 1, `{"iat":-1}`), 401, statusText[iatRange]},
		{"exp huge", tampered(rs, 1, `{"exp":1e300}`), 401, statusText[expRange]},
		{"nbf bool", tampered(rs, 1, `{"nbf":true}`), 401, statusText[badNbf]},
		{"iat null", tampered(rs, 1, `{"iat":null}`), 401, statusText[badIat]},
		{"aud number", tampered(rs, 1, `{"aud":1}`), 401, statusText[badAud]},
		{"aud mixed list", tampered(rs, 1, `{"aud":["a",1]}`), 401, statusText[badAud]},
	}
	a := build(t, nil, basic())
	for _, tt := range tests {
		for _, try := range []string{"first", "cached"} {
			res := check(t, a, bearer(tt.token))
			if res.Status != tt.status || res.Body != tt.body {
				t.Errorf("%s, %s: %d %q, want %d %q", tt.name, try, res.Status, res.Body, tt.status, tt.body)
			}
			if (res.Claims != nil) != (tt.status == 0) {
				t.Errorf("%s: claims %v", tt.name, res.Claims)
			}
		}
	}
}

func TestDenial(t *testing.T) {
	p := basic()
	p.Audiences = []string{"shop", "web"}
	a := build(t, &Requirement{Kind: RequireProvider, Provider: "p"}, p)
	r := request()
	r.Path, r.HasQuery, r.Query = `/a"b`, true, strings.Repeat("q", 300)
	res := check(t, a, r)
	if res.Status != 401 || res.Body != "Jwt is missing" || res.Details != "jwt_authn_access_denied{Jwt_is_missing}" {
		t.Errorf("%+v", res)
	}
	if c := res.Challenge(r); c != `Bearer realm="http://shop.example/a%22b?`+strings.Repeat("q", 251)+`"` {
		t.Errorf("challenge %s", c)
	}
	for _, aud := range []any{nil, "other", []string{"x", "y"}} {
		r = bearer(sign("RS256", rsaKey, "r", good(m{"aud": aud})))
		if aud == nil {
			r = bearer(sign("RS256", rsaKey, "r", good(nil)))
		}
		res = check(t, a, r)
		if res.Status != 403 || res.Body != "Audiences in Jwt are not allowed" || res.Claims != nil {
			t.Errorf("aud %v: %+v", aud, res)
		}
		if c := res.Challenge(r); c != `Bearer realm="http://shop.example/cart", error="invalid_token"` {
			t.Errorf("challenge %s", c)
		}
	}
	p.Audiences = []string{"shop", "https://web.example/"}
	a = build(t, &Requirement{Kind: RequireProvider, Provider: "p"}, p)
	for _, aud := range []any{"shop", []string{"x", "shop"}, "https://web.example/", "http://web.example", "web.example", "shop/"} {
		if res = check(t, a, bearer(sign("RS256", rsaKey, "r", good(m{"aud": aud})))); res.Status != 0 {
			t.Errorf("aud %v: %+v", aud, res)
		}
	}
	for _, aud := range []any{"shop//", "ftp://shop", "Shop", "web.example/x", "", []string{}} {
		if res = check(t, a, bearer(sign("RS256", rsaKey, "r", good(m{"aud": aud})))); res.Status != 403 {
			t.Errorf("aud %v: %+v", aud, res)
		}
	}
	// A token cached for one requirement does not pass another's audiences.
	tok := sign("RS256", rsaKey, "r", good(m{"aud": "shop"}))
	if res = check(t, a, bearer(tok)); res.Status != 0 {
		t.Fatal(res.Body)
	}
	n := &node{kind: RequireProvider, provider: a.providers[0], audiences: []string{"strict"}}
	if st := a.eval(t.Context(), n, bearer(tok), &Result{}); st != badAudience {
		t.Errorf("cached token passed other audiences: %v", statusText[st])
	}
}

// A provider without an issuer verifies the tokens of any; one with an issuer wants
// exactly that.
func TestAnyIssuer(t *testing.T) {
	p := basic()
	p.Issuer = ""
	a := build(t, nil, p)
	for _, c := range []m{good(nil), good(m{"iss": "https://other.example"}), {"sub": "bob"}} {
		res := check(t, a, bearer(sign("RS256", rsaKey, "r", c)))
		if iss, _ := c["iss"].(string); res.Status != 0 || res.Claims == nil || res.Claims.Issuer != iss {
			t.Errorf("%v: %d %q, claims %+v", c, res.Status, res.Body, res.Claims)
		}
	}
	if res := check(t, a, bearer(sign("RS256", rsaOther, "r", good(nil)))); res.Status != 401 || res.Claims != nil {
		t.Errorf("another key: %d %+v", res.Status, res.Claims)
	}
	a = build(t, nil, basic())
	for _, iss := range []string{"Issuer", "issuer/", "issuer ", "issue", "https://issuer", ""} {
		if res := check(t, a, bearer(sign("RS256", rsaKey, "r", good(m{"iss": iss})))); res.Body != "Jwt issuer is not configured" {
			t.Errorf("iss %q: %d %q", iss, res.Status, res.Body)
		}
	}
}

// What policies read of a token.
func TestClaims(t *testing.T) {
	a := build(t, nil, basic())
	for _, tt := range []struct {
		more      m
		sub       string
		audiences []string
		presenter string
	}{
		{nil, "bob", nil, ""},
		{m{"sub": "", "aud": "shop"}, "", []string{"shop"}, ""},
		{m{"aud": []string{"shop", "web"}, "azp": "app"}, "bob", []string{"shop", "web"}, "app"},
		{m{"azp": 7}, "bob", nil, ""},
	} {
		res := check(t, a, bearer(sign("RS256", rsaKey, "r", good(tt.more))))
		if c := res.Claims; c == nil || c.Subject != tt.sub || !slices.Equal(c.Audiences, tt.audiences) || c.Presenter != tt.presenter {
			t.Errorf("%v: %d %q, %+v", tt.more, res.Status, res.Body, c)
		}
	}
}

func TestLocations(t *testing.T) {
	tok := sign("RS256", rsaKey, "r", good(nil))
	bad := sign("RS256", rsaOther, "r", good(nil))
	custom := basic()
	custom.FromHeaders = []HeaderLocation{{"X-Jwt", "Token "}, {"x-raw", ""}}
	custom.FromParams = []string{"token"}
	custom.FromCookies = []string{"session"}
	query := func(q string) *attrs.Request {
		r := request()
		r.Query, r.HasQuery = q, true
		return r
	}
	tests := []struct {
		name   string
		p      Provider
		r      *attrs.Request
		status int
		claims bool
	}{
		{"default header", basic(), bearer(tok), 0, true},
		{"default header, other scheme", basic(), request("authorization: Basic " + tok), 0, false},
		{"default header, lower case scheme", basic(), request("authorization: bearer " + tok), 0, false},
		{"default header, text behind", basic(), request("authorization: Bearer  " + tok + ", x"), 401, false},
		{"default header, spaces before", basic(), request("authorization: Bearer   " + tok), 0, true},
		{"default header, second line", basic(), request("authorization: Basic x", "authorization: Bearer "+tok), 0, true},
		{"default param", basic(), query("a=1&access_token=" + tok), 0, true},
		{"default param encoded", basic(), query("access%5Ftoken=" + strings.ReplaceAll(tok, ".", "%2E")), 0, true},
		{"default param bad", basic(), query("access_token=" + bad), 401, false},
		{"header and param, both must hold", basic(), func() *attrs.Request {
			r := query("access_token=" + bad)
			r.Headers = bearer(tok).Headers
			return r
		}(), 401, false},
		{"custom replaces defaults", custom, bearer(bad), 0, false},
		{"custom header", custom, request("x-jwt: Token " + tok), 0, true},
		{"custom header without prefix", custom, request("x-raw: " + tok), 0, true},
		{"custom param", custom, query("token=" + tok), 0, true},
		{"custom replaces param", custom, query("access_token=" + bad), 0, false},
		{"cookie", custom, request("cookie: a=b; session=" + tok + "; c=d"), 0, true},
		{"cookie quoted, second line", custom, request("cookie: a=b", `cookie: session="`+tok+`"`), 0, true},
		{"cookie bad", custom, request("cookie: session=" + bad), 401, false},
		{"cookie of similar name", custom, request("cookie: xsession=" + bad), 0, false},
		{"too many", basic(), request(slices.Repeat([]string{"authorization: Bearer " + tok}, 9)...), 401, false},
	}
	for _, tt := range tests {
		a := build(t, &Requirement{Kind: RequireAny, Of: []*Requirement{{Provider: "p"}, {Kind: AllowMissing}}}, tt.p)
		res := check(t, a, tt.r)
		if res.Status != tt.status || (res.Claims != nil) != tt.claims {
			t.Errorf("%s: %d %q, claims %v", tt.name, res.Status, res.Body, res.Claims)
		}
	}
}

func TestEdits(t *testing.T) {
	claims := good(m{"nested": m{"group": "g", "n": 12345678901234567}, "flag": true, "list": []string{"a"}, "evil": "a\r\nx: y", "f": 1.5})
	tok := sign("RS256", rsaKey, "r", claims)
	p := basic()
	p.FromHeaders = []HeaderLocation{{"Authorization", "Bearer "}}
	p.FromParams, p.FromCookies = []string{"token"}, []string{"session"}
	p.PayloadHeader = "X-Payload"
	p.ClaimHeaders = []ClaimHeader{
		{"X-Sub", "sub"}, {"x-group", "nested.group"}, {"x-n", "nested.n"}, {"x-flag", "flag"}, {"x-f", "f"},
		{"x-list", "list"}, {"x-nested", "nested"}, {"x-none", "missing.a"}, {"x-evil", "evil"}, {"x-deep", "sub.a"},
	}
	a := build(t, nil, p)
	reserved := []string{"x-sub", "x-group", "x-n", "x-flag", "x-f", "x-list", "x-nested", "x-none", "x-evil", "x-deep", "x-payload"}

	res := check(t, a, request("x-sub: forged"))
	if !slices.Equal(res.Remove, reserved) || len(res.Set) > 0 || res.QueryChanged || res.CookiesChanged {
		t.Errorf("without a token: %+v", res)
	}
	r := bearer(tok)
	r.Query, r.HasQuery = "a=1&token="+tok+"&b=2&token=x", true
	r.Headers = append(r.Headers, attrs.Field{Name: "cookie", Value: "session=" + tok}, attrs.Field{Name: "cookie", Value: "a=b; session=" + tok + ";c=d"})
	res = check(t, a, r)
	if res.Status != 0 {
		t.Fatal(res.Body)
	}
	if want := append(slices.Clone(reserved), "authorization"); !slices.Equal(res.Remove, want) {
		t.Errorf("removed %v, want %v", res.Remove, want)
	}
	if !res.QueryChanged || res.Query != "a=1&b=2" || !res.HasQuery {
		t.Errorf("query %q %v", res.Query, res.HasQuery)
	}
	if !res.CookiesChanged || !slices.Equal(res.Cookies, []string{"a=b; c=d"}) {
		t.Errorf("cookies %q", res.Cookies)
	}
	want := []Header{
		{"x-payload", strings.Split(tok, ".")[1]}, {"x-sub", "bob"}, {"x-group", "g"}, {"x-n", "12345678901234567"}, {"x-flag", "true"}, {"x-f", "1.5"},
		{"x-list", base64.StdEncoding.EncodeToString([]byte(`["a"]`))}, {"x-nested", base64.StdEncoding.EncodeToString([]byte(`{"group":"g","n":12345678901234567}`))},
	}
	// Once for each of the three places, and nothing of what cannot be a header.
	if !slices.Equal(res.Set, slices.Repeat(want, 3)) {
		t.Errorf("set %v, want %v", res.Set, want)
	}
	r = request()
	r.Query, r.HasQuery = "token="+tok, true
	if res = check(t, a, r); !res.QueryChanged || res.Query != "" || res.HasQuery {
		t.Errorf("query %q %v", res.Query, res.HasQuery)
	}

	p.Forward = true
	a = build(t, nil, p)
	if res = check(t, a, bearer(tok)); !slices.Equal(res.Remove, reserved) || res.Claims == nil {
		t.Errorf("forward: removed %v", res.Remove)
	}
	if c := res.Claims; c.Issuer != "issuer" || c.Subject != "bob" || c.Raw["flag"] != true {
		t.Errorf("claims %+v", c)
	}
	// A preflight is not read, but cannot forge outputs either.
	a.preflight = true
	r = bearer("broken")
	r.Method = "OPTIONS"
	r.Headers = append(r.Headers, attrs.Field{Name: "origin", Value: "http://o"}, attrs.Field{Name: "access-control-request-method", Value: "GET"})
	if res = check(t, a, r); res.Status != 0 || !slices.Equal(res.Remove, reserved) {
		t.Errorf("preflight: %+v", res)
	}
	r.Headers = r.Headers[:2]
	if res = check(t, a, r); res.Status != 401 {
		t.Errorf("OPTIONS that is no preflight: %d", res.Status)
	}
}

func TestSeveralIssuers(t *testing.T) {
	one, two := basic(), basic()
	two.Name, two.Issuer, two.JWKS = "q", "second", jwks(jwkOf(rsaOther, "r"))
	two.ClaimHeaders = []ClaimHeader{{"x-second", "sub"}}
	header := two
	header.Name, header.Issuer, header.FromHeaders = "h", "third", []HeaderLocation{{"x-h", ""}}
	a := build(t, nil, one, two, header)
	t1 := sign("RS256", rsaKey, "r", good(nil))
	t2 := sign("RS256", rsaOther, "r", good(m{"iss": "second"}))
	t3 := sign("RS256", rsaOther, "r", good(m{"iss": "third"}))
	stranger := sign("RS256", rsaOther, "r", good(m{"iss": "x"}))
	forged := sign("RS256", rsaOther, "r", good(nil)) // second's key for the first issuer
	tests := []struct {
		name   string
		r      *attrs.Request
		status int
		issuer string
		body   string
	}{
		{"none", request(), 0, "", ""},
		{"first", bearer(t1), 0, "issuer", ""},
		{"second", bearer(t2), 0, "second", ""},
		{"third place", request("x-h: " + t3), 0, "third", ""},
		{"stranger", bearer(stranger), 401, "", "Jwt issuer is not configured"},
		{"forged", bearer(forged), 401, "", "Jwt verification fails"},
		{"wrong place", request("x-h: " + t1), 401, "", "Jwt issuer is not configured"},
		{"word", bearer("x"), 401, "", statusText[badFormat]},
	}
	for _, tt := range tests {
		for range 2 {
			res := check(t, a, tt.r)
			issuer := ""
			if res.Claims != nil {
				issuer = res.Claims.Issuer
			}
			if res.Status != tt.status || issuer != tt.issuer || res.Body != tt.body {
				t.Errorf("%s: %d %q, issuer %q", tt.name, res.Status, res.Body, issuer)
			}
			if !slices.Contains(res.Remove, "x-second") {
				t.Errorf("%s: x-second not sanitized", tt.name)
			}
		}
	}
}
