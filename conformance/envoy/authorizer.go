package envoy

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	checkMethod = "/envoy.service.auth.v3.Authorization/"
	checkPath   = "/check"
	// steerHeader of a request says what the authorizer shall do with it.
	steerHeader = "x-ext"
	// checkedHeader goes upstream with an allowed request: what the check held.
	checkedHeader = "x-checked"
)

// authzVerdict is what the authorizer does, by the steering header.
type authzVerdict struct {
	status  int    // of a denial; 0: allow
	body    string // of a denial
	headers [][2]string
	broken  bool // no proper answer: HTTP 500, a gRPC error
	hang    bool
}

func steer(value string) authzVerdict {
	headers := [][2]string{{"x-user", "u1"}, {"x-up-a", "1"}, {"x-other", "2"}, {"set-cookie", "c=1"}, {"x-down", "d"}}
	switch value {
	case "allow":
		return authzVerdict{headers: headers}
	case "plain":
		return authzVerdict{}
	case "401":
		return authzVerdict{status: 401, body: "who are you", headers: append(headers, [2]string{"www-authenticate", "Basic"})}
	case "redirect":
		return authzVerdict{status: 302, headers: append(headers, [2]string{"location", "https://login.example.com/"})}
	case "404":
		return authzVerdict{status: 404, body: "nothing"}
	case "503":
		return authzVerdict{status: 503, body: "busy", headers: headers}
	case "broken":
		return authzVerdict{broken: true}
	case "hang":
		return authzVerdict{hang: true}
	}
	return authzVerdict{status: 403, body: "no way", headers: headers}
}

// authorizer is envoy.service.auth.v3.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
}

func newAuthorizer() *grpc.Server {
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, authorizer{})
	return s
}

// Check implements authv3.AuthorizationServer.
func (authorizer) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	h := r.GetAttributes().GetRequest().GetHttp()
	v := steer(h.GetHeaders()[steerHeader])
	switch {
	case v.broken:
		return nil, status.Error(codes.Internal, "broken")
	case v.hang:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var headers []*corev3.HeaderValueOption
	for _, kv := range v.headers {
		headers = append(headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: kv[0], Value: kv[1]}})
	}
	if v.status != 0 {
		return &authv3.CheckResponse{Status: &spb.Status{Code: int32(codes.PermissionDenied)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(v.status)}, Headers: headers, Body: v.body}}}, nil
	}
	headers = append(headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: checkedHeader, Value: pack(checkedGRPC(r))}})
	return &authv3.CheckResponse{Status: &spb.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers: headers, HeadersToRemove: []string{"x-secret"},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-authorized", Value: "yes"}}}}}}, nil
}

// checkedGRPC is what a check held, without what is of the moment.
func checkedGRPC(r *authv3.CheckRequest) [][2]string {
	a := r.GetAttributes()
	h := a.GetRequest().GetHttp()
	ip := func(p *authv3.AttributeContext_Peer) string { return p.GetAddress().GetSocketAddress().GetAddress() }
	out := [][2]string{
		{"method", h.GetMethod()}, {"path", h.GetPath()}, {"host", h.GetHost()}, {"scheme", h.GetScheme()}, {"protocol", h.GetProtocol()},
		{"query", h.GetQuery()}, {"fragment", h.GetFragment()}, {"size", fmt.Sprint(h.GetSize())}, {"body", short(h.GetBody())}, {"raw-body", short(string(h.GetRawBody()))},
		{"source", ip(a.GetSource())}, {"source-principal", a.GetSource().GetPrincipal()}, {"source-service", a.GetSource().GetService()},
		{"destination", fmt.Sprint(ip(a.GetDestination()), ":", a.GetDestination().GetAddress().GetSocketAddress().GetPortValue())},
		{"destination-principal", a.GetDestination().GetPrincipal()}, {"sni", a.GetTlsSession().GetSni()}, {"extensions", fmt.Sprint(a.GetContextExtensions())},
	}
	for k, v := range h.GetHeaders() {
		out = append(out, [2]string{"header " + k, v})
	}
	return out
}

// isCheck reports whether a request is one to the authorizer.
func (s *Seen) isCheck() bool {
	return s.Pod == "authorizer" || strings.HasPrefix(s.Target, checkPath+"/")
}

// check answers as an HTTP authorizer; false ends the connection.
func (s *Seen) check(w io.Writer, body string) bool {
	value := ""
	if l := s.values(steerHeader); len(l) > 0 {
		value = l[0]
	}
	v := steer(value)
	if v.hang {
		return false
	}
	code, text := v.status, v.body
	switch {
	case v.broken:
		code = 500
	case code == 0:
		code = 200
		held := [][2]string{{"method", s.Method}, {"path", s.Target}, {"body", short(body)}}
		for _, h := range s.Headers {
			held = append(held, [2]string{"header " + strings.ToLower(h[0]), h[1]})
		}
		v.headers = append(v.headers, [2]string{checkedHeader, pack(held)}, [2]string{"x-authorized", "yes"})
	}
	out := fmt.Appendf(nil, "HTTP/1.1 %d Authorized\r\ncontent-length: %d\r\n", code, len(text))
	for _, h := range v.headers {
		out = fmt.Appendf(out, "%s: %s\r\n", h[0], h[1])
	}
	if s.Method == "HEAD" {
		text = ""
	}
	_, err := w.Write(append(append(out, "\r\n"...), text...))
	return err == nil
}

// pack writes what a check held as one header value.
func pack(held [][2]string) string {
	held = slices.DeleteFunc(held, func(kv [2]string) bool {
		return kv[0] == "header x-case" || kv[0] == "header x-request-id"
	})
	b, err := json.Marshal(held)
	if err != nil {
		panic(err) // strings only
	}
	return base64.StdEncoding.EncodeToString(b)
}

// unpack turns the header of a Seen that pack wrote into a header for each thing held.
func (s *Seen) unpack() {
	for i, h := range s.Headers {
		if h[0] != checkedHeader {
			continue
		}
		var held [][2]string
		if b, err := base64.StdEncoding.DecodeString(h[1]); err != nil || json.Unmarshal(b, &held) != nil {
			return // a client's own
		}
		s.Headers = slices.Delete(s.Headers, i, i+1)
		for _, kv := range held {
			s.Headers = append(s.Headers, [2]string{"checked " + kv[0], kv[1]})
		}
		return
	}
}
