package jwt

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// TestTokenEdges has the spellings next to those that are refused.
func TestTokenEdges(t *testing.T) {
	rs := sign("RS256", rsaKey, "r", good(nil))
	sig := strings.LastIndexByte(rs, '.')
	a := build(t, nil, basic())
	for _, tt := range []struct{ name, token, body string }{
		{"no header", rs[strings.IndexByte(rs, '.'):], statusText[badFormat]},
		{"no dot", strings.ReplaceAll(rs, ".", ""), statusText[badFormat]},
		{"empty third part of four", rs[:sig] + "." + rs[sig:], statusText[badFormat]},
		{"header is cut", tampered(rs, 0, `{"alg":"RS256"`), statusText[badHeaderJSON]},
		{"payload is cut", tampered(rs, 1, `{"iss":"issuer"`), statusText[badPayloadJSON]},
		{"padding", strings.Replace(rs, ".", "=.", 1), statusText[badHeaderBase64]},
		{"payload no base64", strings.Replace(rs, ".", ".*", 1), statusText[badPayloadBase64]},
		{"exp a small fraction below zero", tampered(rs, 1, `{"exp":-0.5}`), statusText[expRange]},
		{"exp without a value", tampered(rs, 1, `{"exp":null}`), statusText[badExp]},
		{"exp of the year 292 billion", tampered(rs, 1, `{"exp":9223372036854775808}`), statusText[expRange]},
		{"exp zero is none", sign("RS256", rsaKey, "r", good(m{"exp": 0})), ""},
		{"nbf zero is none", sign("RS256", rsaKey, "r", good(m{"nbf": 0})), ""},
		{"same key in an inner object", sign("RS256", rsaKey, "r", good(m{"a": m{"b": m{"sub": 1}, "iss": 2}})), ""},
		{"key twice behind an inner object", raw(`{"alg":"RS256"}`, `{"iss":"x","a":{},"iss":"issuer"}`, "e30"), statusText[badPayloadJSON]},
	} {
		if res := check(t, a, bearer(tt.token)); res.Body != tt.body || (res.Status == 0) != (tt.body == "") {
			t.Errorf("%s: %d %q, want %q", tt.name, res.Status, res.Body, tt.body)
		}
	}
}

// The clock skew is exact, for a token that is new and for one that is cached.
func TestSkewIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		for _, skew := range []time.Duration{0, 10 * time.Second, -1} {
			p := basic()
			p.ClockSkew = skew
			a := build(t, nil, p)
			s := map[time.Duration]int64{0: 60, 10 * time.Second: 10, -1: 0}[skew]
			for _, tt := range []struct {
				claims m
				body   string
			}{
				{m{"exp": now - s}, ""}, {m{"exp": now - s - 1}, statusText[expired]},
				{m{"nbf": now + s}, ""}, {m{"nbf": now + s + 1}, statusText[notYetValid]},
			} {
				r := bearer(sign("RS256", rsaKey, "r", good(tt.claims)))
				for range 2 {
					if res := check(t, a, r); res.Body != tt.body {
						t.Errorf("skew %v, %v: %q, want %q", skew, tt.claims, res.Body, tt.body)
					}
				}
			}
		}
	})
}

// A token of a curve that its algorithm does not name is refused, though the
// signature is good.
func TestAlgorithmNamesTheCurve(t *testing.T) {
	e := base64.RawURLEncoding.EncodeToString
	signed := e([]byte(`{"alg":"ES256"}`)) + "." + e([]byte(`{"iss":"issuer"}`))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, ec384Key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 96)
	r.FillBytes(sig[:48])
	s.FillBytes(sig[48:])
	p := basic()
	p.JWKS = jwks(jwkOf(ec384Key, ""))
	if res := check(t, build(t, nil, p), bearer(signed+"."+e(sig))); res.Body != statusText[badSignature] {
		t.Errorf("%d %q", res.Status, res.Body)
	}
}

// TestKeysThatSign: what a key set says of a key's purpose is honoured.
func TestKeysThatSign(t *testing.T) {
	with := func(name string, v any) string {
		k := jwkOf(rsaKey, "r")
		k[name] = v
		return jwks(k)
	}
	r := bearer(sign("RS256", rsaKey, "r", good(nil)))
	for _, tt := range []struct {
		jwks string
		n    int
	}{
		{jwks(jwkOf(rsaKey, "r")), 1}, {with("use", "sig"), 1}, {with("use", "enc"), 0},
		{with("key_ops", []string{"verify"}), 1}, {with("key_ops", []string{"sign"}), 1}, {with("key_ops", []string{}), 1},
		{with("key_ops", []string{"encrypt", "wrapKey"}), 0}, {with("key_ops", []string{"encrypt", "verify"}), 1},
		{jwks(m{"kty": "OKP", "crv": "X25519", "x": base64.RawURLEncoding.EncodeToString(make([]byte, 32))}), 0},
		{`{"keys":[` + strings.Repeat(`{"kty":"oct","k":"AAAA"},`, maxKeys-1) + `{"kty":"oct","k":"AAAA"}]}`, maxKeys},
	} {
		n, err := Usable(tt.jwks)
		if err != nil || n != tt.n {
			t.Errorf("%.100s: %d usable, %v, want %d", tt.jwks, n, err, tt.n)
		}
		p := basic()
		p.JWKS = tt.jwks
		want := statusText[noKeys]
		switch tt.n {
		case 1:
			want = ""
		case maxKeys:
			want = statusText[badSignature]
		}
		if res := check(t, build(t, nil, p), r); res.Body != want {
			t.Errorf("%.100s: %q, want %q", tt.jwks, res.Body, want)
		}
	}
	for text, want := range map[string]string{
		"{": "is no JSON", `{"a":1}`: `is no JSON Web Key Set, an object with "keys"`, `{"keys":7}`: "not a JSON Web Key Set",
		`{"keys":[` + strings.Repeat(`{"kty":"oct","k":"AAAA"},`, maxKeys) + `{"kty":"oct","k":"AAAA"}]}`: "key set has 257 keys, at most 256 are allowed",
	} {
		if n, err := Usable(text); n != 0 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %d, %v", text, n, err)
		}
	}
}

// TestPlaces: a token counts only where the provider that it names looks for it.
func TestPlaces(t *testing.T) {
	one, two := basic(), basic()
	one.FromHeaders, one.FromParams, one.FromCookies = []HeaderLocation{{"x-one", ""}, {"x-both", "One "}}, []string{"one"}, []string{"c1"}
	two.Name, two.Issuer = "q", "second"
	two.FromHeaders, two.FromParams, two.FromCookies = []HeaderLocation{{"x-two", ""}, {"x-both", "Two "}}, []string{"two"}, []string{"c2"}
	a := build(t, &Requirement{Kind: AllowMissing}, one, two)
	tok := sign("RS256", rsaKey, "r", good(nil))
	query := func(q string) *attrs.Request {
		r := request()
		r.Query, r.HasQuery = q, true
		return r
	}
	for name, tt := range map[string]struct {
		r      *attrs.Request
		status int
	}{
		"its header": {request("x-one: " + tok), 0}, "its parameter": {query("one=" + tok), 0}, "its cookie": {request("cookie: c1=" + tok), 0},
		"its prefix": {request("x-both: One " + tok), 0}, "other prefix": {request("x-both: Two " + tok), 401},
		"other header": {request("x-two: " + tok), 401}, "other parameter": {query("two=" + tok), 401}, "other cookie": {request("cookie: c2=" + tok), 401},
		"cookie's name in a header": {request("x-one: x", "cookie: c1="+tok), 401}, "eight, for each of two": {request(repeated("x-one: "+tok, 16)...), 0},
	} {
		if res := check(t, a, tt.r); res.Status != tt.status || (res.Claims == nil) != (tt.status != 0) {
			t.Errorf("%s: %d %q, claims %v", name, res.Status, res.Body, res.Claims)
		}
	}
	only := build(t, &Requirement{Provider: "p"}, one)
	if res := check(t, only, request(repeated("x-one: "+tok, maxTokens)...)); res.Status != 0 {
		t.Errorf("as many tokens as may be: %q", res.Body)
	}
	if res := check(t, only, request(repeated("x-one: "+tok, maxTokens+1)...)); res.Body != statusText[tooMany] {
		t.Errorf("one token too many: %q", res.Body)
	}

	for _, tt := range []struct {
		name, line, value string
		has               bool
	}{
		{"plain", "c=v", "v", true}, {"quoted", `c="v"`, "v", true}, {"one quote", `c="`, `"`, true}, {"quote at the end", `c=v"`, `v"`, true},
		{"quote at the start", `c="v`, `"v`, true}, {"blanks", "a=b; c =v", "v", true}, {"no value", "c", "", false}, {"empty", "c=", "", true}, {"other", "d=c=v", "", false},
	} {
		if v, has := cookie(request("x: c=no", "cookie: "+tt.line), "c"); v != tt.value || has != tt.has {
			t.Errorf("cookie %s: %q %v", tt.name, v, has)
		}
	}
	for _, tt := range []struct {
		query, name, value string
		has                bool
	}{
		{"a=1&a=2", "a", "1", true}, {"a+b=c+d", "a b", "c d", true}, {"a=%zz", "a", "%zz", true}, {"%zz=1", "%zz", "1", true},
		{"&a=1", "a", "1", true}, {"&=1", "", "1", true}, {"&", "", "", false}, {"a", "a", "", true},
	} {
		if v, has := param(tt.query, tt.name); v != tt.value || has != tt.has {
			t.Errorf("parameter %q of %q: %q %v", tt.name, tt.query, v, has)
		}
	}
	for _, v := range []string{"-a", "_a", ".a", "0a", "9a", "aa", "za", "Aa", "Za"} {
		if got := tokenText("x, (;"+v, 1); got != v {
			t.Errorf("%q starts a token: %q", v, got)
		}
	}
	for _, c := range []string{"/", ":", "@", "[", "`", "{", "+", "="} {
		if got := tokenText("x"+c+"a", 1); got != "a" {
			t.Errorf("%q starts no token: %q", c, got)
		}
	}
}

func repeated(line string, n int) []string {
	l := make([]string, n)
	for i := range l {
		l[i] = line
	}
	return l
}

// TestRequirementEdges: which error wins, and what a branch that failed leaves.
func TestRequirementEdges(t *testing.T) {
	one, two := basic(), basic()
	one.ClaimHeaders = []ClaimHeader{{"x-one", "sub"}}
	two.Name, two.Issuer, two.FromHeaders, two.ClaimHeaders = "q", "second", []HeaderLocation{{"x-q", ""}}, []ClaimHeader{{"x-two", "sub"}}
	same := basic()
	same.Name, same.ClaimHeaders = "s", []ClaimHeader{{"x-same", "sub"}}
	p, q, s, missing := &Requirement{Provider: "p"}, &Requirement{Provider: "q"}, &Requirement{Provider: "s"}, &Requirement{Kind: AllowMissing}
	of := func(k RequirementKind, rs ...*Requirement) *Requirement { return &Requirement{Kind: k, Of: rs} }
	t1, forged, stranger := sign("RS256", rsaKey, "r", good(nil)), sign("RS256", rsaOther, "r", good(nil)), sign("RS256", rsaKey, "r", good(m{"iss": "x"}))
	for _, tt := range []struct {
		name string
		req  *Requirement
		r    *attrs.Request
		body string
		set  string
	}{
		{"forged before a stranger", of(RequireAny, p, q), request("authorization: Bearer "+forged, "x-q: "+stranger), statusText[badSignature], ""},
		{"forged behind a stranger", of(RequireAny, q, p), request("authorization: Bearer "+forged, "x-q: "+stranger), statusText[badSignature], ""},
		{"stranger before none", of(RequireAny, p, q), request("authorization: Bearer " + stranger), statusText[unknownIssuer], ""},
		{"stranger behind none", of(RequireAny, q, p), request("authorization: Bearer " + stranger), statusText[unknownIssuer], ""},
		{"half of all leaves nothing", of(RequireAny, of(RequireAll, p, q), s), bearer(t1), "", "x-same"},
		{"none of all", of(RequireAny, of(RequireAll, p, q), of(RequireAll, q, s)), bearer(t1), statusText[missed], ""},
		{"missing beside all reads the rest", of(RequireAll, p, missing), request("authorization: Bearer "+t1, "x-q: broken"), statusText[badFormat], ""},
	} {
		res := check(t, build(t, tt.req, one, two, same), tt.r)
		set := ""
		for _, h := range res.Set {
			set += h.Name
		}
		if res.Body != tt.body || set != tt.set || (res.Claims == nil) != (tt.body != "") {
			t.Errorf("%s: %q, set %q, claims %v", tt.name, res.Body, set, res.Claims)
		}
	}
}

// TestResultIsNotCarriedOver: a Result that served one request tells nothing of it
// to the next.
func TestResultIsNotCarriedOver(t *testing.T) {
	p := basic()
	p.FromHeaders, p.FromParams, p.FromCookies = []HeaderLocation{{"authorization", "Bearer "}}, []string{"t"}, []string{"c"}
	p.ClaimHeaders = []ClaimHeader{{"x-sub", "sub"}}
	a := build(t, nil, p)
	tok := sign("RS256", rsaKey, "r", good(nil))
	full := request("authorization: Bearer "+tok, "cookie: c="+tok+"; d=e")
	full.Query, full.HasQuery = "t="+tok+"&a=b", true
	var res Result
	for range 2 {
		if a.Check(t.Context(), full, &res); res.Status != 0 || res.Claims == nil || len(res.Set) != 3 || !res.QueryChanged || !res.CookiesChanged {
			t.Fatalf("%+v", res)
		}
		if a.Check(t.Context(), request(), &res); res.Status != 0 || res.Claims != nil || len(res.Set) != 0 || len(res.Remove) != 1 || res.QueryChanged || res.CookiesChanged {
			t.Errorf("behind a token: %+v", res)
		}
		if a.Check(t.Context(), bearer("broken"), &res); res.Status != 401 {
			t.Errorf("%+v", res)
		}
		if a.Check(t.Context(), request(), &res); res.Status != 0 || res.Body != "" || res.Details != "" {
			t.Errorf("behind a denial: %+v", res)
		}
	}
}

func TestPreflight(t *testing.T) {
	pre := request("origin: http://o", "access-control-request-method: PUT", "authorization: Bearer broken")
	pre.Method = "OPTIONS"
	get := *pre
	get.Method = "GET"
	for bypass, want := range map[bool]int{true: 0, false: 401} {
		a, err := New(&Config{Providers: []Provider{basic()}, Require: OptionalAny("p"), BypassCORSPreflight: bypass}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res := check(t, a, pre); res.Status != want {
			t.Errorf("bypass %v: %d", bypass, res.Status)
		}
		if res := check(t, a, &get); res.Status != 401 {
			t.Errorf("bypass %v: a GET passes with %d", bypass, res.Status)
		}
	}
}

// TestHeaderText: a claim writes one header, or none.
func TestHeaderText(t *testing.T) {
	for v, want := range map[string]bool{
		"a": true, "a b": true, "a\tb": true, "~": true, "\u00e4": true, "!": true,
		" a": false, "a ": false, "\ta": false, "a\t": false, "a\nb": false, "a\rb": false, "a\x00": false, "\x1fa": false, "a\x7fb": false, "\n": false,
	} {
		if got := headerText(v); got != want {
			t.Errorf("%q: %v", v, got)
		}
		if _, has := claimText(m{"a": v}, "a"); has != want {
			t.Errorf("claim %q: %v", v, has)
		}
	}
	if _, has := claimText(m{"a": ""}, "a"); has {
		t.Error("an empty claim makes a header")
	}
	if v, has := claimText(m{"a": []any{"<&>"}}, "a"); !has || v != base64.StdEncoding.EncodeToString([]byte(`["\u003c&\u003e"]`)) {
		t.Errorf("list: %q", v)
	}
}

// Both generations of the cache are read, and both forget an expired token.
func TestCacheGenerations(t *testing.T) {
	var c cache
	ks, v := &keySet{}, &verified{}
	sum := func(i int) *[32]byte { return &[32]byte{byte(i), byte(i >> 8)} }
	fill := func(from int) {
		for i := range cacheSize / 2 {
			c.put(ks, sum(from+i), v)
		}
	}
	fill(0)
	c.put(ks, sum(10000), v) // the first generation is the old one now
	if len(c.young) != 1 || len(c.old) != cacheSize/2 {
		t.Fatalf("%d young, %d old", len(c.young), len(c.old))
	}
	if c.get(ks, sum(7)) == nil || c.young[*sum(7)] == nil {
		t.Error("a hit in the old generation does not become young")
	}
	if c.get(ks, sum(20000)) != nil || len(c.young) != 2 {
		t.Error("a miss was stored")
	}
	c.drop(sum(7))
	c.drop(sum(8))
	if c.get(ks, sum(7)) != nil || c.get(ks, sum(8)) != nil {
		t.Error("a dropped token is served")
	}
}

func TestURLs(t *testing.T) {
	for u, want := range map[string]bool{
		"http://x": true, "https://x/y": true, "http://": false, "http:///x": false, "https://": false, "": false, "file:///x": false, "x": false, "ftp://x": false,
	} {
		if httpURL(u) != want {
			t.Errorf("%q: %v", u, !want)
		}
	}
	for name, want := range map[string]bool{"a": true, "z": true, "A": true, "Z": true, "0": true, "9": true, "x-y_z": true, "!#$%&'*+-.^_`|~": true, "": false, "a b": false, "a:": false, "/": false, "@": false, "[": false, "{": false, "a\x00": false} {
		if token(name) != want {
			t.Errorf("%q is a header name: %v", name, !want)
		}
	}
}

// TestFetchEdges has the answers of an issuer that are nearly good.
func TestFetchEdges(t *testing.T) {
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	keys := jwks(jwkOf(ecKey, "one"))
	serve := func(path, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
	}
	const config = "/.well-known/openid-configuration"
	serve("/full", keys+strings.Repeat(" ", maxDocument-len(keys)))
	serve("/over", keys+strings.Repeat(" ", maxDocument+1-len(keys)))
	serve("/good"+config, `{"jwks_uri":"`+srv.URL+`/full"}`)
	serve("/file"+config, `{"jwks_uri":"file:///etc/keys"}`)
	serve("/none"+config, `{}`)
	serve("/text"+config, `jwks`)
	store := NewKeyStore(srv.Client(), nil)
	defer store.Close()
	for _, tt := range []struct {
		url      string
		discover bool
		want     string
	}{
		{srv.URL + "/full", false, ""}, {srv.URL + "/over", false, "larger than 1048576 bytes"},
		{srv.URL + "/good", true, ""}, {srv.URL + "/good/", true, ""}, {srv.URL + "/file", true, `"file:///etc/keys" is not an http or https URL`},
		{srv.URL + "/none", true, `"" is not an http or https URL`}, {srv.URL + "/text", true, "discovery: invalid"}, {srv.URL + "/missing", true, "status 404"},
		{"http://\x00", false, "invalid"},
	} {
		ks, err := (&source{id: sourceID{url: tt.url, discover: tt.discover, timeout: 10 * time.Second}, store: store}).fetch(t.Context())
		if tt.want == "" && (err != nil || len(ks.keys) != 1) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.url, err)
		}
	}
}

// A source ends with the last of its users, not with the first; a configuration that
// is refused has none.
func TestSourceReferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewKeyStore(&fakeIssuer{doc: jwks(jwkOf(ecKey, "one"))}, nil)
		a, b := buildRemote(t, store, remote()), buildRemote(t, store, remote())
		slow := remote()
		slow.Refresh = time.Hour
		c := buildRemote(t, store, slow)
		if len(store.sources) != 2 {
			t.Errorf("%d sources", len(store.sources))
		}
		c.Close()
		a.Close()
		a.Close()
		if len(store.sources) != 1 {
			t.Errorf("%d sources with one user left", len(store.sources))
		}
		b.Close()
		if len(store.sources) != 0 {
			t.Error("a source outlives its users")
		}
		for _, c := range []Config{
			{Providers: []Provider{remote(), {Name: "broken"}}},
			{Providers: []Provider{remote()}, Require: &Requirement{Provider: "nobody"}},
		} {
			if _, err := New(&c, store); err == nil || len(store.sources) != 0 {
				t.Errorf("a refused configuration keeps %d sources, error %v", len(store.sources), err)
			}
		}
		store.Close()
	})
}
