package extauthz

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestHTTPRequest(t *testing.T) {
	type seen struct {
		method, uri, host, body string
		header                  http.Header
	}
	got := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, r.Host, string(body), r.Header}
	}))
	defer server.Close()
	c := client(t, Config{
		HTTP: &HTTP{PathPrefix: "/check", IncludeHeaders: []Pattern{ParsePattern("X-A"), ParsePattern("user-agent")}, AdditionalHeaders: []Header{{"x-add", "fixed"}}},
		Body: &Body{MaxBytes: 10, Partial: true},
	}, to(server.Listener.Addr().String()))
	in := input()
	in.Body, in.Partial = []byte("abc"), true
	in.Request.Path = `/a%2Fb/"[x]`
	if o := c.Check(t.Context(), in); o.Verdict != Allowed {
		t.Fatalf("%+v", o)
	}
	s := <-got
	if s.method != "POST" || s.uri != `/check/a%2Fb/"[x]?x=1` || s.host != "shop.example" || s.body != "abc" {
		t.Errorf("%+v", s)
	}
	want := http.Header{"X-A": {"1", "2"}, "Authorization": {"Bearer t"}, "X-Add": {"fixed"}, "X-Envoy-Auth-Partial-Body": {"true"}, "Content-Length": {"3"}}
	if !maps.EqualFunc(s.header, want, slices.Equal[[]string]) {
		t.Errorf("header %v, want %v", s.header, want)
	}
	c = client(t, Config{HTTP: &HTTP{IncludeHeaders: []Pattern{{Kind: Contains, Value: "agent"}}}}, to(server.Listener.Addr().String()))
	in.Request.Path, in.Request.Method = "//evil/x", "GET"
	in.Request.Headers = []attrs.Field{{Name: "user-agent", Value: "curl"}}
	if o := c.Check(t.Context(), in); o.Verdict != Allowed {
		t.Fatalf("%+v", o)
	}
	if s = <-got; s.uri != "http://ext-authz//evil/x?x=1" || s.host != "ext-authz" && s.host != "shop.example" || s.header.Get("user-agent") != "curl" {
		t.Errorf("%+v", s)
	}
	if o := c.Check(t.Context(), &Input{Conn: &attrs.Conn{}}); o.Pass() || c.TCP() {
		t.Errorf("an HTTP provider checked a connection: %+v", o)
	}
	if n, partial := c.NeedsBody(); n != 0 || partial {
		t.Error("wants a body")
	}
}

func TestHTTPAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-User"] = []string{"bob", "alice"}
		h["X-Join"] = []string{"j"}
		h["Set-Cookie"] = []string{"a=1"}
		h["Location"] = []string{"/login"}
		h["Date"] = nil
		h["Content-Type"] = nil
		switch r.URL.Path {
		case "/ok":
			h.Set(headersToRemove, "x-secret, Authorization,,host")
		case "/remove-bad":
			h.Set(headersToRemove, "a b")
		case "/302":
			w.WriteHeader(302)
		case "/403":
			w.WriteHeader(403)
			io.WriteString(w, "nope")
		case "/201":
			w.WriteHeader(201)
		}
	}))
	defer server.Close()
	check := func(h *HTTP, path string) Outcome {
		in := input()
		in.Request.Path, in.Request.HasQuery = path, false
		return client(t, Config{HTTP: h}, to(server.Listener.Addr().String())).Check(t.Context(), in)
	}
	lists := &HTTP{
		UpstreamOnAllow: []Pattern{{Exact, "X-User"}}, UpstreamAppendOnAllow: []Pattern{{Suffix, "-join"}},
		DownstreamOnAllow: []Pattern{{Exact, "set-cookie"}}, DownstreamOnDeny: []Pattern{{Prefix, "set-"}},
	}
	if o := check(lists, "/ok"); !equal(o, Outcome{
		Verdict:  Allowed,
		Request:  []Edit{{Remove, "x-secret", ""}, {Remove, "authorization", ""}, {Append, "x-join", "j"}, {Set, "x-user", "bob"}, {Add, "x-user", "alice"}},
		Response: []Edit{{Add, "set-cookie", "a=1"}},
	}) {
		t.Errorf("ok: %+v", o)
	}
	if o := check(&HTTP{}, "/ok"); !equal(o, Outcome{Verdict: Allowed, Request: []Edit{{Remove, "x-secret", ""}, {Remove, "authorization", ""}}}) {
		t.Errorf("ok without lists: %+v", o)
	}
	if o := check(lists, "/remove-bad"); o.Verdict != Failed {
		t.Errorf("bad removal: %+v", o)
	}
	if o := check(lists, "/403"); !equal(o, Outcome{Verdict: Denied, Status: 403, Body: "nope", Details: "ext_authz_denied", Headers: []Edit{{Add, "location", "/login"}, {Add, "set-cookie", "a=1"}}}) {
		t.Errorf("403: %+v", o)
	}
	if o := check(&HTTP{}, "/302"); o.Verdict != Denied || o.Status != 302 || len(o.Headers) != 5 {
		t.Errorf("302: %+v", o)
	}
	if o := check(lists, "/201"); o.Verdict != Denied || o.Status != 201 {
		t.Errorf("only 200 allows: %+v", o)
	}
}
