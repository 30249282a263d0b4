package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/telemetry"
)

const grpcRoutes = `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: rpc, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: rpc, port: 80}]
  rules:
  - name: any
    backendRefs: [{name: v1, port: 80}]
  - name: method
    matches: [{method: {service: grpc.testing.TestService, method: EmptyCall}}]
    backendRefs: [{name: v2, port: 80}]
  - name: header
    matches: [{headers: [{name: x-user, value: root}], method: {service: grpc.testing.TestService, method: UnaryCall}}]
    backendRefs: [{name: v2, port: 80}]
  - name: regex
    matches: [{method: {type: RegularExpression, service: "grpc\\.testing\\..*", method: "Streaming.*"}}]
    backendRefs: [{name: v1, port: 80, weight: 3}, {name: v2, port: 80, weight: 1}]
`

func startRPC(t *testing.T) *mesh {
	m := startMesh(t, nil)
	serveRPC(t, podV1+":9090", "v1")
	serveRPC(t, podV2+":9090", "v2")
	return m
}

// rpcServices are the services that GRPCRoutes here lead to.
func rpcServices(protocol string) string {
	return frame + pod(podV1) + pod(podV2) + service(1, "rpc", protocol, 9090, podV1) + service(2, "v1", "grpc", 9090, podV1) + service(3, "v2", "grpc", 9090, podV2)
}

func TestGRPCRouteMatches(t *testing.T) {
	m := startRPC(t)
	m.serve(rpcServices("grpc") + grpcRoutes)
	c := pb.NewTestServiceClient(m.rpcClient("clients", 1))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	app := func(call func(ctx context.Context, opts ...grpc.CallOption) error, md ...string) string {
		t.Helper()
		var h metadata.MD
		if err := call(metadata.AppendToOutgoingContext(ctx, md...), grpc.Header(&h)); err != nil {
			t.Error(err)
		}
		return strings.Join(h.Get("x-app"), ",")
	}
	unary := func(ctx context.Context, opts ...grpc.CallOption) error {
		_, err := c.UnaryCall(ctx, &pb.SimpleRequest{}, opts...)
		return err
	}
	if got := app(unary); got != "v1" {
		t.Errorf("by no match: %s", got)
	}
	if got := app(unary, "x-user", "root"); got != "v2" {
		t.Errorf("by header: %s", got)
	}
	if got := app(unary, "x-user", "other"); got != "v1" {
		t.Errorf("by another value: %s", got)
	}
	// Nobody implements it: the backend says so itself, nobody here does.
	_, err := c.EmptyCall(ctx, &pb.Empty{})
	if s := status.Convert(err); s.Code() != codes.Unimplemented || !strings.Contains(s.Message(), "EmptyCall") {
		t.Errorf("by method: %v", err)
	}
	v1 := 0
	for range 200 {
		s, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		h, err := s.Header()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Join(h.Get("x-app"), ",") == "v1" {
			v1++
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Fatal(err)
		}
	}
	// 3:1 of 200: outside of [105, 190] once in more than 10^10 runs.
	if v1 < 105 || v1 > 190 {
		t.Errorf("%d of 200 streams went to the backend of weight 3 in 4", v1)
	}
}

// The shorter of a client's deadline and a route's timeout holds, and the waypoint
// keeps it itself: the calls here are made by hand, without a client's own clock,
// and the application is not told of the deadline, which it would keep as well.
func TestGRPCDeadlines(t *testing.T) {
	m := startRPC(t)
	m.useHTTP2()
	rule := func(name, timeouts string) string {
		return fmt.Sprintf("  - name: %s\n    matches: [{path: {value: /grpc.testing.TestService}, headers: [{name: x-rule, value: %s}]}]\n    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [grpc-timeout]}}]\n    backendRefs: [{name: v1, port: 80}]\n%s", name, name, timeouts)
	}
	m.serve(rpcServices("http2") + `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rpc, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: rpc, port: 80}]
  rules:
` + rule("none", "") + rule("short", "    timeouts: {request: 50ms}\n") + rule("long", "    timeouts: {request: 30s}\n"))
	hang, err := proto.Marshal(&pb.SimpleRequest{FillUsername: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ rule, deadline string }{{"none", "50m"}, {"short", ""}, {"short", "1H"}, {"long", "50m"}, {"long", "50000u"}} {
		t.Run(tt.rule+" "+tt.deadline, func(t *testing.T) {
			m.t = t
			req, _ := http.NewRequest("POST", "http://"+m.front("clients", 1)+"/grpc.testing.TestService/UnaryCall", bytes.NewReader(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(hang))), hang...)))
			h := []string{"content-type", "application/grpc", "te", "trailers", "x-rule", tt.rule}
			if tt.deadline != "" {
				h = append(h, "grpc-timeout", tt.deadline)
			}
			q := proxy.Question{Method: "POST", URL: "http://10.96.7.1/grpc.testing.TestService/UnaryCall", HTTP2: true}
			for i := 0; i < len(h); i += 2 {
				req.Header.Set(h[i], h[i+1])
				q.Headers = append(q.Headers, attrs.Field{Name: h[i], Value: h[i+1]})
			}
			req.Header.Set("X-Request-Id", t.Name())
			e := m.explain("clients", q)
			start := time.Now()
			resp, err := m.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			r := m.record(t.Name())
			m.compare(e, &r)
			if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "14" || r.Flags != telemetry.FlagUT ||
				r.Details != "upstream_response_timeout" || r.Route != "shop/rpc/"+tt.rule {
				t.Errorf("%d %v, logged %v %s by %s", resp.StatusCode, resp.Header, r.Flags, r.Details, r.Route)
			}
			if d := time.Since(start); d < 40*time.Millisecond || d > 8*time.Second {
				t.Errorf("after %v", d)
			}
		})
	}
}

// Browsers call gRPC through a port of gRPC-Web.
func TestGRPCWeb(t *testing.T) {
	m := startRPC(t)
	m.serve(rpcServices("grpc-web") + `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: rpc, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: rpc, port: 80}]
  rules:
  - name: web
    matches: [{path: {value: /grpc.testing.TestService}}]
    filters: [{type: CORS, cors: {allowOrigins: ["https://ok.example"], allowMethods: [POST], exposeHeaders: [grpc-status]}}]
    backendRefs: [{name: rpc, port: 80}]
`)
	frames := func(flag byte, msg []byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(msg))), msg...)
	}
	in, err := proto.Marshal(&pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("hello")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, ct := range []string{"application/grpc-web+proto", "application/grpc-web-text"} {
		t.Run(ct, func(t *testing.T) {
			m.t = t
			body := frames(0, in)
			if strings.HasSuffix(ct, "text") {
				body = []byte(base64.StdEncoding.EncodeToString(body))
			}
			h := []string{"Content-Type", ct, "Accept", ct, "Origin", "https://ok.example"}
			q := proxy.Question{Method: "POST", URL: "http://10.96.7.1/grpc.testing.TestService/UnaryCall"}
			req, _ := http.NewRequest("POST", "http://"+m.front("clients", 1)+"/grpc.testing.TestService/UnaryCall", bytes.NewReader(body))
			for i := 0; i < len(h); i += 2 {
				req.Header.Set(h[i], h[i+1])
				q.Headers = append(q.Headers, attrs.Field{Name: h[i], Value: h[i+1]})
			}
			req.Header.Set("X-Request-Id", t.Name())
			e := m.explain("clients", q)
			resp, err := m.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), ct) || resp.Header.Get("Access-Control-Allow-Origin") == "" {
				t.Fatalf("%d %v %v", resp.StatusCode, resp.Header, err)
			}
			if strings.HasSuffix(ct, "text") {
				var plain []byte
				for s := string(out); s != ""; { // message and trailers are padded each
					i := strings.IndexByte(s, '=')
					for i = max(i, 0); i < len(s) && s[i] == '='; i++ {
					}
					if i == 0 {
						i = len(s)
					}
					b, err := base64.StdEncoding.DecodeString(s[:i])
					if err != nil {
						t.Fatalf("%q: %v", s, err)
					}
					plain, s = append(plain, b...), s[i:]
				}
				out = plain
			}
			n := int(binary.BigEndian.Uint32(out[1:5]))
			var got pb.SimpleResponse
			if err := proto.Unmarshal(out[5:5+n], &got); err != nil || string(got.GetPayload().GetBody()) != "hello" {
				t.Errorf("%v %v", &got, err)
			}
			if rest := out[5+n:]; rest[0] != 0x80 || !strings.Contains(string(rest[5:]), "grpc-status:0\r\n") || !strings.Contains(string(rest[5:]), "x-trailer:end\r\n") {
				t.Errorf("trailers %q", rest)
			}
			r := m.record(t.Name())
			m.compare(e, &r)
			if r.Protocol != telemetry.GRPC || r.GRPCStatus != 0 || r.RequestMessages != 1 || r.ResponseMessages != 1 {
				t.Errorf("logged %+v", r)
			}
		})
	}
}
