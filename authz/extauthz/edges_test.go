package extauthz

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/sony/gobreaker/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"waypoint.dev/waypoint/internal/attrs"
)

// TestHeaderBounds: what an authorizer may write, octet by octet.
func TestHeaderBounds(t *testing.T) {
	for c := range 256 {
		s := string([]byte{'a', byte(c), 'b'})
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if want := letter || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0; validName(s) != want {
			t.Errorf("name with %#x: %v", c, !want)
		}
		if want := c >= ' ' && c != 0x7f || c == '\t'; validValue(s) != want || validValue(string([]byte{byte(c)})) != want {
			t.Errorf("value with %#x: %v", c, !want)
		}
	}
	if validName("") || !validValue("") {
		t.Error("the empty string")
	}
	for status, want := range map[int]int{0: 403, 199: 403, 200: 200, 302: 302, 599: 599, 600: 403} {
		if got := denied(status, nil, "").Status; got != want {
			t.Errorf("denied with %d: %d", status, got)
		}
	}
	for status, ok := range map[int]bool{0: true, 199: false, 200: true, 599: true, 600: false} {
		c, err := New(Config{HTTP: &HTTP{}, StatusOnError: status}, nil)
		if (err == nil) != ok {
			t.Errorf("statusOnError %d: %v", status, err)
		}
		if c != nil {
			c.Close()
		}
	}
}

// A client cannot tell the authorizer that it saw half a body, nor frame the check.
func TestForgedFieldsStay(t *testing.T) {
	a, at := serveGRPC(t)
	a.says(&authv3.CheckResponse{Status: &rpcstatus.Status{}})
	in := input()
	in.Request.Headers = append(in.Request.Headers, attrs.Field{Name: "content-length", Value: "999"}, attrs.Field{Name: "transfer-encoding", Value: "chunked"})
	in.Size = 0
	if o := client(t, Config{GRPC: &GRPC{}, Body: &Body{MaxBytes: 3}}, to(at)).Check(t.Context(), in); !o.Pass() {
		t.Fatalf("%+v", o)
	}
	got := a.last().GetRequest().GetHttp()
	if v, has := got.GetHeaders()[partialBody]; has {
		t.Errorf("the authorizer sees %s: %s", partialBody, v)
	}
	for size, want := range map[int]string{2: "false", 3: "false", 4: "true"} {
		in.Body = make([]byte, size)
		if o := client(t, Config{GRPC: &GRPC{}, Body: &Body{MaxBytes: 3, AsBytes: true}}, to(at)).Check(t.Context(), in); !o.Pass() {
			t.Fatalf("%+v", o)
		}
		got = a.last().GetRequest().GetHttp()
		if got.GetHeaders()[partialBody] != want || len(got.GetRawBody()) != min(size, 3) {
			t.Errorf("a body of %d: %d octets, %s %s", size, len(got.GetRawBody()), partialBody, got.GetHeaders()[partialBody])
		}
	}
	// A request without a target or an authority has no such pseudo fields.
	bare := &Input{Request: &attrs.Request{Method: "GET"}, Size: -1}
	if o := client(t, Config{GRPC: &GRPC{IncludeSNI: true}}, to(at)).Check(t.Context(), bare); !o.Pass() {
		t.Fatalf("%+v", o)
	}
	if h := a.last().GetRequest().GetHttp().GetHeaders(); len(h) != 1 || h[":method"] != "GET" || a.last().GetTlsSession() != nil {
		t.Errorf("bare request: %v, session %v", h, a.last().GetTlsSession())
	}

	header := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if len(body) != 0 || err != nil || r.ContentLength != 0 {
			t.Errorf("a body of %d, content-length %d, %v", len(body), r.ContentLength, err)
		}
		header <- r.Header
	}))
	defer server.Close()
	in.Body = nil
	all := &HTTP{IncludeHeaders: []Pattern{ParsePattern("*")}}
	if o := client(t, Config{HTTP: all, Body: &Body{MaxBytes: 3}}, to(server.Listener.Addr().String())).Check(t.Context(), in); !o.Pass() {
		t.Fatalf("%+v", o)
	}
	if h := <-header; h.Get(partialBody) != "" || len(h["X-A"]) != 2 || h.Get("user-agent") != "" {
		t.Errorf("%v", h)
	}
}

// TestAnswersNearlyGood has the answers beside those that allow and deny.
func TestAnswersNearlyGood(t *testing.T) {
	a, at := serveGRPC(t)
	c := client(t, Config{GRPC: &GRPC{}}, to(at))
	for _, tt := range []struct {
		name string
		resp *authv3.CheckResponse
		want Verdict
	}{
		{"an ok response without a status", &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, Allowed},
		{"a denied response without a status", &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 200}}}}, Failed},
		{"an error response with a status", &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{}}}, Failed},
	} {
		a.says(tt.resp)
		if o := c.Check(t.Context(), input()); o.Verdict != tt.want {
			t.Errorf("%s: %+v", tt.name, o)
		}
	}

	answer := func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Www-Authenticate"] = []string{"Basic"}
		h["X-Other"] = []string{"o"}
		h["Keep-Alive"] = []string{"timeout=5"}
		switch r.URL.Path {
		case "/bad-upstream":
			h["X-User"] = []string{"caf\x00"}
		case "/full", "/over":
			w.WriteHeader(403)
			n := maxAnswer
			if r.URL.Path == "/over" {
				n++
			}
			_, _ = io.WriteString(w, strings.Repeat("x", n))
		case "/499":
			w.WriteHeader(499)
		case "/500":
			w.WriteHeader(500)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(answer))
	defer server.Close()
	conf := &HTTP{UpstreamOnAllow: []Pattern{ParsePattern("*")}, DownstreamOnAllow: []Pattern{ParsePattern("keep*")}, DownstreamOnDeny: []Pattern{{Contains, "nothing"}}}
	h := client(t, Config{HTTP: conf}, to(server.Listener.Addr().String()))
	for path, want := range map[string]Outcome{
		"/full": {Verdict: Denied, Status: 403, Body: strings.Repeat("x", maxAnswer), Details: detailsDenied, Headers: []Edit{{Add, "www-authenticate", "Basic"}}},
		"/over": {Verdict: Failed, Status: 403, Details: detailsError},
		"/499":  {Verdict: Denied, Status: 499, Details: detailsDenied, Headers: []Edit{{Add, "www-authenticate", "Basic"}}},
		"/500":  {Verdict: Failed, Status: 403, Details: detailsError},
	} {
		in := input()
		in.Request.Path, in.Request.HasQuery = path, false
		if o := h.Check(t.Context(), in); !equal(o, want) {
			t.Errorf("%s: %.300v", path, fmt.Sprint(o))
		}
	}
	in := input()
	in.Request.Path, in.Request.HasQuery = "/", false
	o := h.Check(t.Context(), in)
	for _, e := range append(o.Request, o.Response...) {
		if o.Verdict != Allowed || e.Name == "" || hopByHop(e.Name) {
			t.Errorf("%+v in %+v", e, o)
		}
	}
	if o := h.Check(t.Context(), &Input{Conn: &attrs.Conn{}}); o.Verdict != Failed || o.Status != 403 {
		t.Errorf("an HTTP provider was asked about a connection: %+v", o)
	}
	// net/http's server keeps such headers back; another authorizer may not.
	for _, list := range []*HTTP{{UpstreamOnAllow: []Pattern{ParsePattern("x-*")}}, {DownstreamOnAllow: []Pattern{ParsePattern("x-*")}}} {
		caller := newHTTP(&Client{conf: Config{HTTP: list}})
		for _, bad := range []string{"a\x00", "a\x7f", "a\nb"} {
			if o, err := caller.allowed(&http.Response{Header: http.Header{"X-User": {bad}}}); err == nil || o.Pass() {
				t.Errorf("%q is sent on: %+v", bad, o)
			}
		}
	}
}

// Over gRPC too, only a server that cannot be asked opens the breaker.
func TestBreakerOverGRPC(t *testing.T) {
	refuse := func(context.Context) (net.Conn, error) { return nil, errors.New("refused") }
	c := client(t, Config{GRPC: &GRPC{}}, refuse)
	var last Outcome
	for range breakerFailures {
		if last = c.Check(t.Context(), input()); last.Verdict != Failed || errors.Is(last.Err, gobreaker.ErrOpenState) {
			t.Fatalf("%+v", last)
		}
	}
	if !strings.Contains(last.Err.Error(), "refused") || !errors.As(last.Err, new(*unreachable)) {
		t.Errorf("%v", last.Err)
	}
	if last = c.Check(t.Context(), input()); !errors.Is(last.Err, gobreaker.ErrOpenState) {
		t.Errorf("behind %d failures: %v", breakerFailures, last.Err)
	}

	a, at := serveGRPC(t)
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal} {
		a.mu.Lock()
		a.answer = func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
			return nil, status.Error(code, "busy")
		}
		a.mu.Unlock()
		c = client(t, Config{GRPC: &GRPC{}}, to(at))
		for i := range 2 * breakerFailures {
			if o := c.Check(t.Context(), input()); o.Verdict != Failed || errors.Is(o.Err, gobreaker.ErrOpenState) {
				t.Fatalf("%v, call %d: %+v", code, i, o)
			}
		}
	}
}

// Clients that leave while a connection is made say nothing about the server, neither
// that it is gone nor that it is there.
func TestBreakerIgnoresThoseWhoLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		dial := func(ctx context.Context) (net.Conn, error) {
			if refuse.Load() {
				return nil, errors.New("refused")
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c := client(t, Config{HTTP: &HTTP{}, Timeout: time.Second}, dial)
		leave := func(n int) {
			refuse.Store(false)
			for range n {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				if o := c.Check(ctx, input()); o.Pass() || errors.Is(o.Err, gobreaker.ErrOpenState) || !errors.Is(o.Err, context.Canceled) {
					t.Errorf("a client that left: %+v", o)
				}
				cancel()
			}
		}
		fail := func(n int) (last Outcome) {
			refuse.Store(true)
			for range n {
				last = c.Check(t.Context(), input())
			}
			return last
		}
		leave(2 * breakerFailures)
		if o := fail(breakerFailures - 1); errors.Is(o.Err, gobreaker.ErrOpenState) {
			t.Errorf("opened by those who left: %v", o.Err)
		}
		leave(1)
		fail(1)
		if o := fail(1); !errors.Is(o.Err, gobreaker.ErrOpenState) {
			t.Errorf("one who left closed it: %v", o.Err)
		}
		time.Sleep(breakerOpen - time.Millisecond)
		if o := fail(1); !errors.Is(o.Err, gobreaker.ErrOpenState) {
			t.Errorf("tried again too early: %v", o.Err)
		}
		time.Sleep(2 * time.Millisecond)
		if o := fail(1); errors.Is(o.Err, gobreaker.ErrOpenState) {
			t.Errorf("never tried again: %v", o.Err)
		}
		c.Close()
	})
}

// The authority of a gRPC check is the configured one, else the provider's name.
func TestGRPCAuthority(t *testing.T) {
	a, at := serveGRPC(t)
	got := make(chan string, 1)
	a.answer = func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		got <- strings.Join(md[":authority"], ",")
		return &authv3.CheckResponse{Status: &rpcstatus.Status{}}, nil
	}
	for authority, want := range map[string]string{"": "ask-me", "authz.example": "authz.example"} {
		c := client(t, Config{Name: "ask-me", GRPC: &GRPC{Authority: authority}}, to(at))
		if o := c.Check(t.Context(), input()); !o.Pass() {
			t.Fatalf("%+v", o)
		}
		if name := <-got; name != want {
			t.Errorf("authority %s, want %s", name, want)
		}
	}
}

// Parameters are named by what they decode to, also where that fails.
func TestQueryNames(t *testing.T) {
	o := &Outcome{QueryRemove: []string{"%zz", "a b"}, QuerySet: []Param{{"x", "1"}}}
	if q, changed := o.Query("%zz=1&a+b=2&&a%20b=3&c=4&x=0"); q != "c=4&x=1" || !changed {
		t.Errorf("%q %v", q, changed)
	}
	if _, add := Resolve([]Edit{{Set, "b", "3"}, {Set, "a", "2"}, {Set, "b", "4"}}, []attrs.Field{{Name: "a", Value: "0"}}); len(add) != 2 || add[0] != (attrs.Field{Name: "a", Value: "2"}) || add[1] != (attrs.Field{Name: "b", Value: "4"}) {
		t.Errorf("%v", add)
	}
	if remove, add := Resolve([]Edit{{Append, "a", "2"}, {Append, "b", "3"}}, []attrs.Field{{Name: "a", Value: "0"}, {Name: "c", Value: "9"}, {Name: "a", Value: "1"}}); len(remove) != 2 ||
		len(add) != 2 || add[0] != (attrs.Field{Name: "a", Value: "0"}) || add[1] != (attrs.Field{Name: "a", Value: "1,2"}) {
		t.Errorf("%v %v", remove, add)
	}
}
