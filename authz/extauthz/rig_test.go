package extauthz

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authorizer is a real gRPC server whose answer a test chooses.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	mu     sync.Mutex
	got    *authv3.CheckRequest                                                       // guarded by mu
	answer func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) // guarded by mu
}

func (a *authorizer) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a.mu.Lock()
	a.got = r
	f := a.answer
	a.mu.Unlock()
	return f(ctx, r)
}

func (a *authorizer) says(resp *authv3.CheckResponse) {
	a.mu.Lock()
	a.answer = func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) { return resp, nil }
	a.mu.Unlock()
}

func (a *authorizer) last() *authv3.AttributeContext {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got.GetAttributes()
}

func to(addr string) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func serveGRPC(t *testing.T) (*authorizer, string) {
	t.Helper()
	l := listen(t)
	s := grpc.NewServer()
	a := &authorizer{}
	authv3.RegisterAuthorizationServer(s, a)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return a, l.Addr().String()
}

func client(t *testing.T, c Config, d Dial) *Client {
	t.Helper()
	if c.Name == "" {
		c.Name = "ext"
	}
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	cl, err := New(c, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func input() *Input {
	return &Input{
		Request: &attrs.Request{
			Conn: &attrs.Conn{
				Peer:   attrs.Principal{URI: "spiffe://cluster.local/ns/clients/sa/curl"},
				Local:  attrs.Principal{URI: "spiffe://cluster.local/ns/shop/sa/waypoint"},
				Source: addr("10.0.0.7:4000"), Dest: addr("10.96.0.1:80"), SNI: "inner.example",
			},
			Method: "POST", Scheme: "http", Authority: "shop.example", Path: "/buy", Query: "x=1", HasQuery: true,
			Headers: []attrs.Field{
				{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}, {Name: "cookie", Value: "c=1"}, {Name: "authorization", Value: "Bearer t"},
				{Name: "x-bad", Value: "a\xffb"}, {Name: partialBody, Value: "forged"},
			},
		},
		RequestID: "id-1", Protocol: "HTTP/1.1", Time: time.Unix(100, 0), Size: 3,
	}
}

func allow(ok *authv3.OkHttpResponse) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
}

func option(name, value string, app *wrapperspb.BoolValue) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, Append: app} //nolint:staticcheck // what servers send
}

func action(name, value string, a corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: a}
}

func equal(a, b Outcome) bool {
	return a.Verdict == b.Verdict && a.Status == b.Status && a.Body == b.Body && a.Details == b.Details && a.ClearRoute == b.ClearRoute &&
		slices.Equal(a.Headers, b.Headers) && slices.Equal(a.Request, b.Request) && slices.Equal(a.Response, b.Response) &&
		slices.Equal(a.QuerySet, b.QuerySet) && slices.Equal(a.QueryRemove, b.QueryRemove)
}

// rawServer answers each connection with text; "-" never answers.
func rawServer(t *testing.T, text string) string {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			if text == "-" {
				continue
			}
			wg.Go(func() {
				if text != "" {
					c.Read(make([]byte, 4096))
					io.WriteString(c, text)
				}
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}
