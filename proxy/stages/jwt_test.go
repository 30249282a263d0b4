package stages_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// signer makes ES256 tokens.
type signer struct {
	kid string
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T, kid string) *signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{kid, k}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (s *signer) jwks() string {
	p, _ := s.key.PublicKey.Bytes() // 4, x, y
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":%q,"x":%q,"y":%q}]}`, s.kid, b64(p[1:33]), b64(p[33:]))
}

func (s *signer) token(claims map[string]any) string {
	all := map[string]any{"iss": "https://issuer", "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	p, _ := json.Marshal(all)
	text := b64([]byte(`{"alg":"ES256","kid":"`+s.kid+`"}`)) + "." + b64(p)
	sum := sha256.Sum256([]byte(text))
	r, v, _ := ecdsa.Sign(rand.Reader, s.key, sum[:])
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	v.FillBytes(sig[32:])
	return text + "." + b64(sig)
}

// keyServer serves the JWKS that is set, in a pod of the mesh.
func (m *mesh) keyServer(doc *atomic.Value) (peers func() map[string]int) {
	return m.keyServerBehind(func(ln net.Listener) net.Listener { return ln },
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, doc.Load()) })
}

// keyServerBehind starts one that answers by h and whose connections come through
// wrap.
func (m *mesh) keyServerBehind(wrap func(net.Listener) net.Listener, h http.HandlerFunc) (peers func() map[string]int) {
	m.t.Helper()
	ip, node := m.pod("sys", "keys")
	ln, err := net.Listen("tcp", ip.String()+":8000")
	if err != nil {
		m.t.Fatal(err)
	}
	ln = wrap(ln)
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	m.t.Cleanup(func() { _ = srv.Close(); <-done })
	m.backend("keys.sys.svc.cluster.local", 8000, "sys", "keys", ln.Addr().(*net.TCPAddr).AddrPort())
	return node.Peers
}

func policy(t *testing.T, name string, a authz.Action, spec authz.RuleSpec) authz.Policy {
	t.Helper()
	r, err := authz.NewRule("shop", name, 0, a, &spec, authz.Scope{Namespace: "shop", TrustDomain: "cluster.local"})
	if err != nil {
		t.Fatal(err)
	}
	return authz.Policy{Namespace: "shop", Name: name, Action: a, Rules: []authz.Rule{r}}
}

func tokens(p jwt.Provider) config.Stage {
	p.Name, p.Issuer = "p", "https://issuer"
	return config.Stage{Kind: config.StageJWT, Spec: &jwt.Config{Providers: []jwt.Provider{p}, Require: jwt.OptionalAny("p"), BypassCORSPreflight: true}}
}

func TestTokens(t *testing.T) {
	m := newMesh(t)
	key := newSigner(t, "k1")
	m.serve(func(d *config.Destination) {
		d.Stages = []config.Stage{
			tokens(jwt.Provider{JWKS: key.jwks(), PayloadHeader: "x-payload", ClaimHeaders: []jwt.ClaimHeader{{Header: "x-user", Claim: "sub"}}}),
			{Kind: config.StageAuthz, Policies: []authz.Policy{policy(t, "admins", authz.Deny, authz.RuleSpec{
				To: []authz.Operation{{Paths: []string{"/admin/{**}"}}}, When: []authz.Condition{{Key: "request.auth.claims[group]", NotValues: []string{"admins"}}},
			})}},
		}
		beta := rule()
		beta.Name = "beta"
		beta.Matches = []routing.Match{{Claims: []routing.ClaimMatch{{Path: []string{"group"}, Value: routing.ValueMatch{Value: "beta"}}}}}
		beta.Backends, beta.Direct = nil, &routing.DirectResponse{Status: 299, Body: "beta"}
		d.Routes, d.Order = []routing.Rule{beta, rule()}, routing.AsListed
	})
	good := key.token(map[string]any{"group": "admins"})
	stranger := newSigner(t, "k1").token(nil)
	for _, tt := range []struct {
		name, method, target, token string
		code                        int
		challenge                   bool
		details                     string
	}{
		{"none", "GET", "/", "", 200, false, "via_upstream"},
		{"valid", "GET", "/", good, 200, false, "via_upstream"},
		{"garbage", "GET", "/", "abc", 401, true, "jwt_authn_access_denied{Jwt_is_not_in_the_form_of_Header.Payload.Signature_with_two_dots_and_3_sections}"},
		{"wrong key", "GET", "/", stranger, 401, true, "jwt_authn_access_denied{Jwt_verification_fails}"},
		{"expired", "GET", "/", key.token(map[string]any{"exp": 1}), 401, true, "jwt_authn_access_denied{Jwt_is_expired}"},
		{"claim allows", "GET", "/admin/x", good, 200, false, "via_upstream"},
		{"claim denies", "GET", "/admin/x", key.token(map[string]any{"group": "users"}), 403, false, "rbac_access_denied_matched_policy[ns[shop]-policy[admins]-rule[0]]"},
		{"no claim denies", "GET", "/admin/x", "", 403, false, "rbac_access_denied_matched_policy[ns[shop]-policy[admins]-rule[0]]"},
		{"claim routes", "GET", "/", key.token(map[string]any{"group": "beta"}), 299, false, "direct_response"},
	} {
		fields := []string{"X-User", "root", "X-Payload", "forged"}
		if tt.token != "" {
			fields = append(fields, "Authorization", "Bearer "+tt.token)
		}
		a := m.ask(tt.method, tt.target, nil, fields...)
		if a.code != tt.code || a.rec.Details != tt.details || (a.header.Get("Www-Authenticate") != "") != tt.challenge {
			t.Errorf("%s: %d %q, %q, challenge %q", tt.name, a.code, a.body, a.rec.Details, a.header.Get("Www-Authenticate"))
		}
		if len(a.seen) == 1 {
			h := a.seen[0].Headers
			want := ""
			if tt.token != "" {
				want = "alice"
			}
			if h["X-User"] != want || (h["X-Payload"] != "") != (tt.token != "") || h["X-Payload"] == "forged" || h["Authorization"] != "" {
				t.Errorf("%s: the app saw %v", tt.name, h)
			}
		}
	}
	// A preflight passes without its token being read, and without forged headers.
	a := m.ask("OPTIONS", "/", nil, "Origin", "http://a", "Access-Control-Request-Method", "PUT", "X-User", "root", "Authorization", "Bearer abc")
	if a.code != 200 || a.seen[0].Headers["X-User"] != "" {
		t.Errorf("preflight: %d, the app saw %+v", a.code, a.seen)
	}
	// The token leaves the query too.
	a = m.ask("GET", "/q?a=1&access_token="+good+"&b=2", nil)
	if a.code != 200 || a.seen[0].Path != "/q?a=1&b=2" {
		t.Errorf("query: %d, the app saw %+v", a.code, a.seen)
	}
}

func TestKeysFromTheMesh(t *testing.T) {
	m := newMesh(t)
	one, two := newSigner(t, "k1"), newSigner(t, "k2")
	var doc atomic.Value
	doc.Store(one.jwks())
	peers := m.keyServer(&doc)
	m.serve(func(d *config.Destination) {
		d.Stages = []config.Stage{tokens(jwt.Provider{JWKSURI: "http://keys.sys:8000/keys", Refresh: 50 * time.Millisecond})}
	})
	auth := func(s *signer) []string { return []string{"Authorization", "Bearer " + s.token(nil)} }
	if a := m.ask("GET", "/", nil, auth(one)...); a.code != 200 {
		t.Fatalf("%d %q", a.code, a.body)
	}
	if p := peers(); p[waypoint] == 0 || len(p) != 1 {
		t.Errorf("the key server was called by %v", p)
	}
	if a := m.ask("GET", "/", nil, auth(two)...); a.code != 401 {
		t.Errorf("a key that is not there yet: %d", a.code)
	}
	m.moves = true
	doc.Store(two.jwks())
	deadline := time.Now().Add(5 * time.Second)
	for m.ask("GET", "/", nil, auth(two)...).code != 200 {
		if time.Now().After(deadline) {
			t.Fatal("the new key is never taken")
		}
	}
	m.moves = false
	if a := m.ask("GET", "/", nil, auth(one)...); a.code != 401 {
		t.Errorf("a key that was rotated away: %d", a.code)
	}
}

// Unchanged stages keep their keys; those that nothing uses are closed.
func TestReuse(t *testing.T) {
	m := newMesh(t)
	key := newSigner(t, "k")
	stage := tokens(jwt.Provider{JWKS: key.jwks()})
	with := func(d *config.Destination) { d.Stages = []config.Stage{stage} }
	m.serve(with)
	first := m.w.Store.Load().Chains()[0].Stages[0].Run
	m.serve(with)
	if m.w.Store.Load().Chains()[0].Stages[0].Run != first {
		t.Error("an equal stage was made anew")
	}
	stage = tokens(jwt.Provider{JWKS: newSigner(t, "k").jwks()})
	m.serve(with)
	if m.w.Store.Load().Chains()[0].Stages[0].Run == first {
		t.Error("a changed stage was kept")
	}
	if a := m.ask("GET", "/", nil, "Authorization", "Bearer "+key.token(nil)); a.code != 401 || !strings.Contains(a.body, "Jwt") {
		t.Errorf("%d %q", a.code, a.body)
	}
}

// A key server that is down or slow opens nothing, and keeps nobody out whose key
// is known already; what needs no token is not held up by it.
func TestKeyServerFails(t *testing.T) {
	type state int32
	const (
		up state = iota
		down
		slow
		garbage
		huge
	)
	m := newMesh(t)
	key := newSigner(t, "k1")
	var mode atomic.Int32
	fetched := make(chan struct{}, 1)
	m.keyServerBehind(func(ln net.Listener) net.Listener { return ln }, func(w http.ResponseWriter, r *http.Request) {
		select {
		case fetched <- struct{}{}:
		default:
		}
		switch state(mode.Load()) {
		case up:
			fmt.Fprint(w, key.jwks())
		case down:
			w.WriteHeader(http.StatusServiceUnavailable)
		case slow:
			<-r.Context().Done()
		case garbage:
			fmt.Fprint(w, `{"keys": "none"}`)
		case huge:
			fmt.Fprint(w, key.jwks()+strings.Repeat(" ", 2<<20))
		}
	})
	needed := config.Stage{Kind: config.StageAuthz, Policies: []authz.Policy{policy(t, "token", authz.Allow, authz.RuleSpec{
		From: []authz.Source{{RequestPrincipals: []string{"*"}}}}), policy(t, "free", authz.Allow, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/free"}}}})}}
	const timeout = 200 * time.Millisecond
	bearer := []string{"Authorization", "Bearer " + key.token(nil)}
	for i, how := range []state{down, slow, garbage, huge} {
		mode.Store(int32(how))
		m.serve(func(d *config.Destination) {
			// Another address is another set of keys, of which none was fetched yet.
			d.Stages = []config.Stage{tokens(jwt.Provider{JWKSURI: fmt.Sprintf("http://keys.sys:8000/%d", i), Timeout: timeout}), needed}
		})
		m.moves = true // explain finds the breaker and the wait in another state
		if a := m.ask("GET", "/", nil, bearer...); a.code != 401 || a.rec.Details != "jwt_authn_access_denied{Jwks_remote_fetch_is_failed}" {
			t.Errorf("mode %d: %d %q", how, a.code, a.rec.Details)
		}
		if a := m.ask("GET", "/free", nil); a.code != 200 {
			t.Errorf("mode %d, without a token: %d", how, a.code)
		}
		if a := m.ask("GET", "/", nil); a.code != 403 {
			t.Errorf("mode %d, without a token where one is needed: %d", how, a.code)
		}
	}
	// The last good keys stay, also for a token that is not in the cache.
	for i, how := range []state{down, slow, garbage} {
		mode.Store(int32(up))
		patience := 10 * time.Second
		if how == slow {
			patience = time.Second // what each fetch then takes
		}
		m.serve(func(d *config.Destination) {
			d.Stages = []config.Stage{tokens(jwt.Provider{JWKSURI: fmt.Sprintf("http://keys.sys:8000/good%d", i), Timeout: patience, Refresh: 20 * time.Millisecond}), needed}
		})
		if a := m.ask("GET", "/", nil, bearer...); a.code != 200 {
			t.Fatalf("%d %q", a.code, a.body)
		}
		mode.Store(int32(how))
		for range 3 { // one may have begun before; the next to last has ended when the last begins
			<-fetched
		}
		if a := m.ask("GET", "/", nil, "Authorization", "Bearer "+key.token(map[string]any{"jti": fmt.Sprint(how)})); a.code != 200 {
			t.Errorf("mode %d: the last good keys are gone: %d %q", how, a.code, a.body)
		}
		stranger := newSigner(t, "k1")
		if a := m.ask("GET", "/", nil, "Authorization", "Bearer "+stranger.token(nil)); a.code != 401 {
			t.Errorf("mode %d: a stranger's key passes: %d", how, a.code)
		}
	}
}
