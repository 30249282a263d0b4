package extauthz

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/sony/gobreaker/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestGRPCRequest(t *testing.T) {
	a, at := serveGRPC(t)
	a.says(allow(nil))
	c := client(t, Config{
		GRPC: &GRPC{ContextExtensions: map[string]string{"k": "v"}, IncludeSNI: true},
		Body: &Body{MaxBytes: 2, Partial: true},
	}, to(at))
	in := input()
	in.Body = []byte("abc")
	if o := c.Check(t.Context(), in); !o.Pass() || o.Verdict != Allowed {
		t.Fatalf("%+v", o)
	}
	got := a.last()
	want := &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Principal: "spiffe://cluster.local/ns/clients/sa/curl", Address: socket("10.0.0.7", 4000)},
		Destination: &authv3.AttributeContext_Peer{Principal: "spiffe://cluster.local/ns/shop/sa/waypoint", Address: socket("10.96.0.1", 80)},
		Request: &authv3.AttributeContext_Request{
			Time: got.GetRequest().GetTime(),
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "id-1", Method: "POST", Path: "/buy?x=1", Host: "shop.example", Scheme: "http", Size: 3, Protocol: "HTTP/1.1", Body: "ab",
				Headers: map[string]string{
					":authority": "shop.example", ":method": "POST", ":path": "/buy?x=1", ":scheme": "http",
					"x-a": "1,2", "cookie": "c=1", "authorization": "Bearer t", "x-bad": "a!b", partialBody: "true", "content-length": "3",
				},
			},
		},
		ContextExtensions: map[string]string{"k": "v"},
		TlsSession:        &authv3.AttributeContext_TLSSession{Sni: "inner.example"},
	}
	if !proto.Equal(got, want) || got.GetRequest().GetTime().AsTime().Unix() != 100 {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// Chosen headers, the body as bytes, and whole.
	c = client(t, Config{GRPC: &GRPC{IncludeHeaders: []Pattern{ParsePattern("X-*"), ParsePattern(":method")}}, Body: &Body{MaxBytes: 10, AsBytes: true}}, to(at))
	if o := c.Check(t.Context(), in); !o.Pass() {
		t.Fatalf("%+v", o)
	}
	h := a.last().GetRequest().GetHttp()
	if string(h.GetRawBody()) != "abc" || h.GetBody() != "" || len(h.GetHeaders()) != 4 || h.GetHeaders()[partialBody] != "false" || a.last().TlsSession != nil {
		t.Errorf("%v", h)
	}
	// A connection has peers only.
	if o := c.Check(t.Context(), &Input{Conn: in.Request.Conn, Time: time.Unix(1, 0)}); !o.Pass() {
		t.Errorf("connection: %+v", o)
	}
	if got = a.last(); got.GetRequest().GetHttp() != nil || got.GetSource().GetPrincipal() == "" {
		t.Errorf("connection: %v", got)
	}
	if o := c.Check(t.Context(), &Input{}); !o.Pass() || a.last().GetSource().GetAddress() != nil {
		t.Errorf("nothing known: %v", a.last())
	}
}

func TestGRPCAnswers(t *testing.T) {
	a, at := serveGRPC(t)
	yes, no := wrapperspb.Bool(true), wrapperspb.Bool(false)
	deny := func(d *authv3.DeniedHttpResponse) *authv3.CheckResponse {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: d}}
	}
	failed := Outcome{Verdict: Failed, Status: 503, Details: "ext_authz_error"}
	tests := []struct {
		name string
		resp *authv3.CheckResponse
		want Outcome
	}{
		{"ok without details", &authv3.CheckResponse{Status: &rpcstatus.Status{}}, Outcome{Verdict: Allowed, ClearRoute: true}},
		{"ok", allow(&authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				option("X-User", "bob", nil), option("x-set", "1", no), option("x-app", "2", yes),
				action("x-absent", "3", corev3.HeaderValueOption_ADD_IF_ABSENT), action("x-over", "4", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS),
				option("x-empty", "", nil), option("x-empty-append", "", yes), option("content-length", "9", nil), option(":path", "/", nil), option("host", "h", nil),
				{Header: &corev3.HeaderValue{Key: "x-raw", RawValue: []byte("r")}},
			},
			HeadersToRemove:         []string{"Authorization", ":method", "host"},
			ResponseHeadersToAdd:    []*corev3.HeaderValueOption{option("set-cookie", "a=1", yes), option("x-r", "1", nil)},
			QueryParametersToSet:    []*corev3.QueryParameter{{Key: "q", Value: "v w"}},
			QueryParametersToRemove: []string{"token"},
		}), Outcome{
			Verdict: Allowed, ClearRoute: true,
			Request: []Edit{
				{Set, "x-user", "bob"}, {Set, "x-set", "1"}, {Append, "x-app", "2"}, {AddIfAbsent, "x-absent", "3"}, {SetIfExists, "x-over", "4"},
				{Set, "x-empty", ""}, {Set, "x-raw", "r"}, {Remove, "authorization", ""},
			},
			Response: []Edit{{Add, "set-cookie", "a=1"}, {Set, "x-r", "1"}},
			QuerySet: []Param{{"q", "v w"}}, QueryRemove: []string{"token"},
		}},
		{"denied", deny(nil), Outcome{Verdict: Denied, Status: 403, Details: "ext_authz_denied"}},
		{"denied with all", deny(&authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: 401}, Body: "no", Headers: []*corev3.HeaderValueOption{option("X-Why", "because", nil), option("set-cookie", "a", yes), option("connection", "close", nil)},
		}), Outcome{Verdict: Denied, Status: 401, Body: "no", Headers: []Edit{{Set, "x-why", "because"}, {Add, "set-cookie", "a"}}, Details: "ext_authz_denied"}},
		{"denied with a wrong status", deny(&authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 101}}), Outcome{Verdict: Denied, Status: 403, Details: "ext_authz_denied"}},
		{"denied with a bad header", deny(&authv3.DeniedHttpResponse{Headers: []*corev3.HeaderValueOption{option("a b", "", nil)}}), Outcome{Verdict: Denied, Status: 403, Details: "ext_authz_denied"}},
		{"not OK but an ok response", &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_OkResponse{}}, Outcome{Verdict: Denied, Status: 403, Details: "ext_authz_denied"}},
		{"empty message", &authv3.CheckResponse{}, failed},
		{"OK but denied", &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: deny(&authv3.DeniedHttpResponse{}).HttpResponse}, failed},
		{"error response", &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{}}}, failed},
		{"header injection", allow(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("x", "a\r\nb: c", nil)}}), failed},
		{"bad response header", allow(&authv3.OkHttpResponse{ResponseHeadersToAdd: []*corev3.HeaderValueOption{option("x y", "a", nil)}}), failed},
		{"bad removal", allow(&authv3.OkHttpResponse{HeadersToRemove: []string{"x y"}}), failed},
	}
	c := client(t, Config{GRPC: &GRPC{}, StatusOnError: 503, ClearRouteCache: true}, to(at))
	for _, tt := range tests {
		a.says(tt.resp)
		o := c.Check(t.Context(), input())
		if (o.Err != nil) != (o.Verdict == Failed) {
			t.Errorf("%s: error %v", tt.name, o.Err)
		}
		o.Err = nil
		if !equal(o, tt.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.name, o, tt.want)
		}
	}
}

// TestNothingOpens has every way in which a server can fail, for both protocols,
// and what FailOpen makes of it.
func TestNothingOpens(t *testing.T) {
	slow := make(chan struct{})
	defer close(slow)
	grpcErr, atErr := serveGRPC(t)
	grpcErr.answer = func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		return nil, status.Error(codes.PermissionDenied, "as a call's status")
	}
	grpcSlow, atSlow := serveGRPC(t)
	grpcSlow.answer = func(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	garbage := rawServer(t, "\x00\x01garbage\r\n\r\n")
	closer := rawServer(t, "")
	half := rawServer(t, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
	silent := rawServer(t, "-")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/500/buy":
			w.WriteHeader(500)
		case "/599/buy":
			w.WriteHeader(599)
		case "/large/buy":
			w.WriteHeader(403)
			io.WriteString(w, strings.Repeat("x", maxAnswer+1))
		case "/head/buy":
			w.Header().Set("x-large", strings.Repeat("x", 2*maxAnswerHead))
		}
	}))
	defer server.Close()
	at := server.Listener.Addr().String()
	down := listen(t)
	down.Close()
	refuse := func(ctx context.Context) (net.Conn, error) { return nil, errors.New("no tunnel") }
	prefix := func(p string) *HTTP { return &HTTP{PathPrefix: p} }
	tests := []struct {
		name string
		c    Config
		d    Dial
	}{
		{"grpc down", Config{GRPC: &GRPC{}}, to(down.Addr().String())},
		{"grpc refused", Config{GRPC: &GRPC{}}, refuse},
		{"grpc error", Config{GRPC: &GRPC{}}, to(atErr)},
		{"grpc slow", Config{GRPC: &GRPC{}, Timeout: 50 * time.Millisecond}, to(atSlow)},
		{"grpc garbage", Config{GRPC: &GRPC{}, Timeout: 2 * time.Second}, to(garbage)},
		{"grpc closes", Config{GRPC: &GRPC{}, Timeout: 2 * time.Second}, to(closer)},
		{"grpc silent", Config{GRPC: &GRPC{}, Timeout: 50 * time.Millisecond}, to(silent)},
		{"grpc at an HTTP server", Config{GRPC: &GRPC{}, Timeout: 2 * time.Second}, to(at)},
		{"http down", Config{HTTP: prefix("")}, to(down.Addr().String())},
		{"http refused", Config{HTTP: prefix("")}, refuse},
		{"http 500", Config{HTTP: prefix("/500")}, to(at)},
		{"http 599", Config{HTTP: prefix("/599")}, to(at)},
		{"http large denial", Config{HTTP: prefix("/large")}, to(at)},
		{"http large head", Config{HTTP: prefix("/head")}, to(at)},
		{"http garbage", Config{HTTP: prefix("")}, to(garbage)},
		{"http closes", Config{HTTP: prefix("")}, to(closer)},
		{"http half an answer", Config{HTTP: prefix("")}, to(half)},
		{"http silent", Config{HTTP: prefix(""), Timeout: 50 * time.Millisecond}, to(silent)},
		{"http at a gRPC server", Config{HTTP: prefix(""), Timeout: 2 * time.Second}, to(atErr)},
	}
	for _, tt := range tests {
		for _, open := range []bool{false, true} {
			tt.c.FailOpen = open
			o := client(t, tt.c, tt.d).Check(t.Context(), input())
			switch {
			case o.Err == nil:
				t.Errorf("%s, failOpen %v: no error: %+v", tt.name, open, o)
			case open && (o.Verdict != FailedOpen || !o.Pass() || len(o.Request) > 0):
				t.Errorf("%s, failOpen: %+v", tt.name, o)
			case !open && (o.Verdict != Failed || o.Pass() || o.Status != 403 || o.Body != "" || o.Details != "ext_authz_error"):
				t.Errorf("%s: %+v", tt.name, o)
			}
		}
	}
	if (Outcome{}).Pass() {
		t.Error("the zero Outcome passes")
	}
}

// TestBreaker counts what reaches the dial function.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		dials, mode := 0, "refuse"
		dial := func(ctx context.Context) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dials++
			switch mode {
			case "refuse":
				return nil, errors.New("refused")
			case "hang":
				here, _ := net.Pipe() // nobody answers
				return here, nil
			}
			here, there := net.Pipe()
			go func() {
				buf := make([]byte, 4096)
				there.Read(buf)
				io.WriteString(there, "HTTP/1.1 "+mode+" X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
				there.Close()
			}()
			return here, nil
		}
		set := func(m string) { mu.Lock(); mode, dials = m, 0; mu.Unlock() }
		count := func() int { mu.Lock(); defer mu.Unlock(); return dials }
		ask := func(c *Client, n int) (last Outcome) {
			for range n {
				last = c.Check(t.Context(), input())
			}
			return last
		}
		c := client(t, Config{HTTP: &HTTP{}, Timeout: time.Second}, dial)
		// 5xx and denials are answers: they never open it.
		for _, m := range []string{"500", "403"} {
			if set(m); ask(c, 20).Pass() || count() != 20 {
				t.Errorf("%s: %d calls", m, count())
			}
		}
		set("refuse")
		if o := ask(c, 20); o.Verdict != Failed || count() != breakerFailures || !errors.Is(o.Err, gobreaker.ErrOpenState) {
			t.Errorf("refused: %d calls, %v", count(), o.Err)
		}
		set("200")
		if o := ask(c, 1); o.Pass() || count() != 0 {
			t.Errorf("open: %d calls, %+v", count(), o)
		}
		time.Sleep(breakerOpen + time.Millisecond)
		if o := ask(c, 3); !o.Pass() || count() != 3 {
			t.Errorf("closed again: %d calls, %+v", count(), o)
		}
		set("hang")
		if o := ask(c, 8); o.Pass() || count() != breakerFailures {
			t.Errorf("timeouts: %d calls, %+v", count(), o)
		}
		// A client that goes away says nothing about the server.
		time.Sleep(breakerOpen + time.Millisecond)
		set("200")
		ask(c, 1)
		set("hang")
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if c.Check(ctx, input()).Pass() {
				t.Error("passed")
			}
			cancel()
		}
		if count() != 20 {
			t.Errorf("gone clients: %d calls", count())
		}
		// With FailOpen it is off, unless asked for.
		set("refuse")
		if o := ask(client(t, Config{HTTP: &HTTP{}, FailOpen: true}, dial), 20); o.Verdict != FailedOpen || count() != 20 {
			t.Errorf("failOpen: %d calls", count())
		}
		set("refuse")
		if ask(client(t, Config{HTTP: &HTTP{}, FailOpen: true, Breaker: BreakerOn}, dial), 20); count() != breakerFailures {
			t.Errorf("failOpen with breaker: %d calls", count())
		}
		set("refuse")
		if ask(client(t, Config{HTTP: &HTTP{}, Breaker: BreakerOff}, dial), 20); count() != 20 {
			t.Errorf("breaker off: %d calls", count())
		}
		c.Close()
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{
		{}, {GRPC: &GRPC{}, HTTP: &HTTP{}}, {GRPC: &GRPC{}, StatusOnError: 99}, {GRPC: &GRPC{}, Body: &Body{}}, {GRPC: &GRPC{}, Timeout: -1},
		{HTTP: &HTTP{PathPrefix: "x"}}, {HTTP: &HTTP{AdditionalHeaders: []Header{{"a b", ""}}}}, {HTTP: &HTTP{AdditionalHeaders: []Header{{"a", "b\n"}}}},
	} {
		if _, err := New(c, nil); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	c := client(t, Config{GRPC: &GRPC{Authority: "a"}, Body: &Body{MaxBytes: 7, Partial: true}}, nil)
	if n, partial := c.NeedsBody(); n != 7 || !partial || !c.TCP() {
		t.Error("wrong settings")
	}
	if d, err := New(Config{GRPC: &GRPC{}}, nil); err != nil || d.conf.Timeout != 600*time.Second {
		t.Errorf("default timeout: %v", err)
	} else {
		d.Close()
	}
	for s, want := range map[string]Pattern{"a": {Exact, "a"}, "a*": {Prefix, "a"}, "*a": {Suffix, "a"}, "*": {Prefix, ""}} {
		if ParsePattern(s) != want {
			t.Errorf("%s: %v", s, ParsePattern(s))
		}
	}
}
