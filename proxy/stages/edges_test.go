package stages

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
)

// What a token leaves of a request: its cookie and its parameter go, nothing else.
func TestVerifierEdits(t *testing.T) {
	s := New(Options{Store: new(config.Store)})
	defer s.Close()
	v, err := s.verifier(&jwt.Config{
		Providers: []jwt.Provider{{Name: "p", Issuer: "https://issuer.example", JWKS: testKeys, FromCookies: []string{"session"}, FromParams: []string{"t"}}},
		Require:   jwt.OptionalAny("p"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		query   string
		cookies []string
		allow   bool
		remove  []string
		add     []attrs.Field
		changed bool
		left    string
	}{
		{"no token", "a=b", []string{"c=d"}, true, nil, nil, false, ""},
		{"cookie", "a=b", []string{"c=d; session=" + testToken, "e=f"}, true, []string{"cookie"}, []attrs.Field{{Name: "cookie", Value: "c=d"}, {Name: "cookie", Value: "e=f"}}, false, ""},
		{"only cookie", "", []string{"session=" + testToken}, true, []string{"cookie"}, nil, false, ""},
		{"parameter", "a=b&t=" + testToken, nil, true, nil, nil, true, "a=b"},
		{"only parameter", "t=" + testToken, nil, true, nil, nil, true, ""},
		{"bad parameter", "t=x", nil, false, nil, nil, false, ""},
	} {
		r := &attrs.Request{Method: "GET", Path: "/", Query: tt.query, HasQuery: tt.query != ""}
		for _, c := range tt.cookies {
			r.Headers = append(r.Headers, attrs.Field{Name: "cookie", Value: c})
		}
		out := v.Verify(t.Context(), r)
		if out.Allow != tt.allow || !slices.Equal(out.Remove, tt.remove) || !slices.Equal(out.Add, tt.add) || out.QueryChanged != tt.changed || out.Query != tt.left || out.HasQuery != (tt.left != "") {
			t.Errorf("%s: %+v", tt.name, out)
		}
		if !tt.allow && (out.Status != 401 || out.Reason != reasonDenied || len(out.Fields) != 1 || out.Fields[0].Name != "www-authenticate") {
			t.Errorf("%s: %+v", tt.name, out)
		}
		out.Hold.Release()
	}
}

// An authorizer answers for the providers of its stage, and denies for all others.
func TestAuthorizerKnows(t *testing.T) {
	s := New(Options{Store: new(config.Store)})
	defer s.Close()
	c := []*extauthz.Config{
		{Name: "http", Backend: "x|1", HTTP: &extauthz.HTTP{}, FailOpen: true, Body: &extauthz.Body{MaxBytes: 7, Partial: true}},
		{Name: "grpc", Backend: "x|1", GRPC: &extauthz.GRPC{}},
	}
	run, err := s.Compile(nil, &config.Stage{Kind: config.StageCustom, Spec: c}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := run.(*authorizer)
	if !a.Knows("http") || !a.Knows("grpc") || a.Knows("other") || a.Knows("") {
		t.Error("it knows the wrong ones")
	}
	for name, want := range map[string]int{"http": 7, "grpc": 0, "other": 0} {
		if n, partial := a.NeedsBody(name); n != want || partial != (want > 0) {
			t.Errorf("%s wants %d, %v", name, n, partial)
		}
	}
	if v := a.Authorize(t.Context(), &proxy.Check{Provider: "other", Request: &attrs.Request{}}); v.Allow {
		t.Errorf("an unknown provider allows: %+v", v)
	}
	// It fails open, and yet never for what it cannot be asked about.
	if v := a.Authorize(t.Context(), &proxy.Check{Provider: "http", Conn: &attrs.Conn{}}); v.Allow || v.Details != "ext_authz_error" {
		t.Errorf("a connection: %+v", v)
	}
	again, err := s.Compile(nil, &config.Stage{Kind: config.StageCustom, Spec: []*extauthz.Config{{Name: "grpc", Backend: "x|1", GRPC: &extauthz.GRPC{}}}}, run)
	if err != nil || again == run || again.(*authorizer).providers["grpc"] != a.providers["grpc"] || again.(*authorizer).Knows("http") {
		t.Errorf("another stage with one of them: %v, %v", again, err)
	}
	if same, err := s.Compile(nil, &config.Stage{Kind: config.StageCustom, Spec: slices.Clone(c)}, run); err != nil || same != run {
		t.Errorf("the same stage again is another: %v", err)
	}
	// The client of a provider that nothing has is closed behind its last check.
	p := a.providers["grpc"]
	if _, err := p.acquire(); err != nil {
		t.Fatal(err)
	}
	p.retire()
	if p.client == nil {
		t.Error("closed under a check")
	}
	p.release()
	if p.client != nil {
		t.Error("open behind the last check")
	}
	if cl, err := p.acquire(); err != nil || cl == nil {
		t.Errorf("an old chain cannot ask: %v", err)
	}
	p.release()
	for _, st := range []config.Stage{{Kind: config.StageCustom, Spec: 1}, {Kind: config.StageJWT, Spec: 1}, {Kind: config.StageRateLimit, Spec: 1},
		{Kind: config.StageCustom, Spec: &extauthz.Config{Name: "neither"}}, {Kind: config.StageJWT, Spec: &jwt.Config{Providers: []jwt.Provider{{}}}}} {
		if _, err := s.Compile(nil, &st, nil); err == nil {
			t.Errorf("%v with %T compiles", st.Kind, st.Spec)
		}
	}
}

func TestResponseEdits(t *testing.T) {
	got := responseEdits([]extauthz.Edit{{Op: extauthz.Set, Name: "a", Value: "1"}, {Op: extauthz.Add, Name: "b", Value: "2"}, {Op: extauthz.AddIfAbsent, Name: "c", Value: "3"}, {Op: extauthz.SetIfExists, Name: "d", Value: "4"}})
	want := []proxy.Edit{{Op: proxy.EditSet, Name: "a", Value: "1"}, {Op: proxy.EditAdd, Name: "b", Value: "2"}, {Op: proxy.EditAddIfAbsent, Name: "c", Value: "3"}, {Op: proxy.EditSetIfExists, Name: "d", Value: "4"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// Keys are followed through a few redirects, and never out of TLS.
func TestRedirects(t *testing.T) {
	at := func(url string) *http.Request {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a/", "https://b/", true}, {"http://a/", "https://b/", true}, {"http://a/", "http://b/", true},
		{"https://a/", "http://b/", false}, {"http://a/", "ftp://b/", false}, {"http://a/", "file:///etc/keys", false}, {"https://a/", "file:///etc/keys", false},
	} {
		if err := redirects(at(tt.to), []*http.Request{at(tt.from)}); (err == nil) != tt.ok {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
		}
	}
	via := slices.Repeat([]*http.Request{at("http://a/")}, maxRedirects)
	if err := redirects(at("http://b/"), via); err != nil {
		t.Error(err)
	}
	if err := redirects(at("http://b/"), append(via, via[0])); err == nil {
		t.Error("redirects without end")
	}
}

// A backend's key that is none of a backend, and an address of this machine, are
// connected to by nobody.
func TestDialNowhere(t *testing.T) {
	store := new(config.Store)
	snap, _ := config.Compile(&config.Model{Backends: map[string]*config.Backend{"gone|80": {Key: "gone|80", Missing: "does not exist"}, "empty|80": {Key: "empty|80"}}}, nil, config.Env{State: proxy.BackendState})
	store.Swap(snap)
	s := New(Options{Store: store, Guard: hbone.Guard{}})
	defer s.Close()
	for _, key := range []string{"gone|80", "empty|80", "x", "", "|80", "x|", "x|y", "x|65536", "127.0.0.1|80", "::1|80", "169.254.169.254|80"} {
		ctx, cancel := context.WithCancel(t.Context())
		if c, err := s.mesh.dialBackend(ctx, key, nil); err == nil {
			_ = c.Close()
			t.Errorf("%q is connected to", key)
		}
		cancel()
	}
}
