package testmesh

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Authorizer is an external authorization server. The path asked about, behind the
// prefix /check if it has that, steers the answer: /deny is refused with 418 and the
// header x-why, /slow never answered, /garbage answered with nothing that makes
// sense. Anything else is allowed, with x-user for the application and x-checked for
// the client, unless Require is set and the header it names is not "allow".
type Authorizer struct {
	authv3.UnimplementedAuthorizationServer
	Require string // set before the first check; lower case

	stop func()
	done chan struct{}

	mu    sync.Mutex
	count int                  // guarded by mu
	last  *authv3.CheckRequest // guarded by mu: nil before, and for HTTP
	asked *http.Request        // guarded by mu: the last of HTTP, without its body
	body  string               // guarded by mu: of the last check
}

// NewAuthorizer serves checks on ln until Close: over HTTP/1.1, else over gRPC.
func NewAuthorizer(ln net.Listener, http1 bool) *Authorizer {
	a := &Authorizer{done: make(chan struct{})}
	var serve func(net.Listener) error
	if http1 {
		srv := &http.Server{Handler: a}
		serve, a.stop = srv.Serve, func() { _ = srv.Close() }
	} else {
		srv := grpc.NewServer()
		authv3.RegisterAuthorizationServer(srv, a)
		serve, a.stop = srv.Serve, srv.Stop
	}
	go func() { defer close(a.done); _ = serve(ln) }()
	return a
}

// Close cuts what is under way and stops listening. It may be called again.
func (a *Authorizer) Close() {
	a.stop()
	<-a.done
}

// Count is how many checks were asked for.
func (a *Authorizer) Count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// Last is the last check of gRPC.
func (a *Authorizer) Last() *authv3.CheckRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// Asked is the last check of HTTP.
func (a *Authorizer) Asked() *http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// Body is what the last check had of the request body.
func (a *Authorizer) Body() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.body
}

func (a *Authorizer) refuses(path string, header func(string) string) bool {
	return path == "/deny" || a.Require != "" && header(a.Require) != "allow"
}

// Check implements the gRPC service.
func (a *Authorizer) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	h := r.GetAttributes().GetRequest().GetHttp()
	a.mu.Lock()
	a.count++
	a.last, a.body = r, h.GetBody()+string(h.GetRawBody())
	a.mu.Unlock()
	path, _, _ := strings.Cut(h.GetPath(), "?")
	switch {
	case path == "/slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case path == "/garbage":
		return &authv3.CheckResponse{}, nil
	case h != nil && a.refuses(path, func(n string) string { return h.GetHeaders()[n] }):
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: http.StatusTeapot}, Body: "no",
				Headers: []*corev3.HeaderValueOption{option("x-why", "because")}}}}, nil
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers: []*corev3.HeaderValueOption{option("x-user", "bob")}, HeadersToRemove: []string{"x-secret"},
		ResponseHeadersToAdd:    []*corev3.HeaderValueOption{option("x-checked", "yes")},
		QueryParametersToRemove: []string{"k"},
	}}}, nil
}

func option(k, v string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: k, Value: v}}
}

// ServeHTTP implements the HTTP form.
func (a *Authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.count++
	a.asked, a.body = r, string(b)
	a.mu.Unlock()
	switch path := strings.TrimPrefix(r.URL.Path, "/check"); {
	case path == "/slow":
		<-r.Context().Done()
	case path == "/garbage":
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, "what?\r\n\r\n")
			_ = c.Close()
		}
	case a.refuses(path, r.Header.Get):
		w.Header().Set("X-Why", "because")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "no")
	default:
		w.Header().Set("X-User", "bob")
		w.Header().Set("X-Checked", "yes")
		w.Header().Set("X-Envoy-Auth-Headers-To-Remove", "x-secret")
	}
}
