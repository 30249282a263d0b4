package proxy

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/routing"
)

// webFrame is a frame of a gRPC-Web body.
func webFrame(flag byte, s string) string {
	return string([]byte{flag, 0, 0, byte(len(s) >> 8), byte(len(s))}) + s
}

// echoRPC is a gRPC method that answers each message with itself.
func echoRPC(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	h := w.Header()
	if strings.HasSuffix(req.URL.Path, "/NotFound") { // no body, no trailers: trailers-only
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", "5")
		return
	}
	if strings.HasSuffix(req.URL.Path, "/Page") {
		w.WriteHeader(502)
		fmt.Fprint(w, "not gRPC, 100%")
		return
	}
	h.Set("Trailer", "Grpc-Status, Grpc-Message")
	h.Set("Content-Type", "application/grpc")
	h.Set("X-Saw", fmt.Sprint(req.Header.Get("Content-Type"), " ", req.Header.Get("Te"), " ", req.Header.Get("Grpc-Accept-Encoding"), " ", req.ContentLength))
	_, _ = w.Write(b)
	h.Set("Grpc-Status", "0")
	h.Set("Grpc-Message", "fine")
}

// webRig serves echoRPC on a port that is declared gRPC-Web.
func webRig(t *testing.T, before ...config.Stage) *rig {
	r := newRig(t, nil)
	m := cartModel(func(m *config.Model) {
		d := m.Destinations[0]
		rule := forward()
		rule.Matches = []routing.Match{{Path: routing.PathMatch{Kind: routing.PathPrefix, Value: "/echo.Echo"}}}
		d.Protocol, d.Routes, d.Refs = config.ProtocolGRPCWeb, []routing.Rule{rule}, []string{d.Backend}
		d.Stages = append(before, config.Stage{Kind: config.StageGRPCWeb})
		addBackend(m, d.Backend, config.ProtocolGRPCWeb, pod1)
	})
	reader := wantsBody{func(string, *attrs.Request) Verdict { return Verdict{Allow: true} }}
	r.snap, _ = config.Compile(m, r.snap, config.Env{State: BackendState, Stage: func(*config.Destination, *config.Stage, any) (any, error) { return reader, nil }})
	r.store.Swap(r.snap)
	r.on(pod1, func(c *memConn) { r.handleH2(c, http.HandlerFunc(echoRPC)) })
	return r
}

func anyPolicy(a authz.Action) []authz.Policy {
	return []authz.Policy{{Namespace: "shop", Name: "any", Action: a, Provider: "ext", Rules: []authz.Rule{{When: authz.Any()}}}}
}

func TestGRPCWeb(t *testing.T) {
	const trailers = "grpc-status:0\r\ngrpc-message:fine\r\n"
	msgs := webFrame(0, "hello") + webFrame(0, strings.Repeat("x", 600))
	b64 := func(parts ...string) (s string) {
		for _, p := range parts {
			s += base64.StdEncoding.EncodeToString([]byte(p))
		}
		return s
	}
	text := b64(webFrame(0, "hello"), webFrame(0, strings.Repeat("x", 600)))
	for _, tt := range []struct {
		name, path, ct, accept, in string
		status                     int
		wantCT, body               string
		grpc, msg, saw             string
		code, flags, details       string
	}{
		{name: "binary", ct: "application/grpc-web+proto", in: msgs, body: msgs + webFrame(0x80, trailers), saw: "application/grpc trailers identity -1"},
		{name: "text", ct: "application/grpc-web-text", accept: "application/grpc-web-text", in: text,
			wantCT: "application/grpc-web-text+proto", body: text + b64(webFrame(0x80, trailers)), saw: "application/grpc trailers identity -1"},
		{name: "text to binary", ct: "application/grpc-web-text+proto", in: text, body: msgs + webFrame(0x80, trailers)},
		{name: "trailers-only", path: "/echo.Echo/NotFound", ct: "application/grpc-web", in: msgs, grpc: "5"},
		{name: "no gRPC answer", path: "/echo.Echo/Page", ct: "application/grpc-web", in: msgs, status: 502, grpc: "14", msg: "not gRPC, 100%25"},
		{name: "no route", path: "/other/Echo", ct: "application/grpc-web", in: msgs, status: 404, flags: "NR", details: "route_not_found"},
		{name: "no base64", ct: "application/grpc-web-text", in: "*AAA", status: 400, grpc: "13", msg: "Bad gRPC-web request, invalid base64 data.", details: "grpc_base_64_decode_failed"},
		{name: "cut base64", ct: "application/grpc-web-text", in: "AAA", status: 400, grpc: "13", msg: "Bad gRPC-web request, invalid base64 data.", details: "grpc_base_64_decode_failed_bad_size"},
		{name: "another type", ct: "application/json", in: "{}", wantCT: "application/grpc", body: "{}", saw: "application/json   2"},
	} {
		for _, gathered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, gathered %v", tt.name, gathered), func(t *testing.T) {
				var before []config.Stage
				if gathered { // an authorizer has seen the body
					before = append(before, config.Stage{Kind: config.StageCustom, Policies: anyPolicy(authz.Custom), Spec: true})
				}
				r := webRig(t, before...)
				defer r.close()
				path := tt.path
				if path == "" {
					path = "/echo.Echo/Say"
				}
				resp, body := r.do(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: cart\r\nContent-Type: %s\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n%s", path, tt.ct, tt.accept, len(tt.in), tt.in))
				status, ct := tt.status, tt.wantCT
				if status == 0 {
					status = 200
				}
				if ct == "" {
					ct = "application/grpc-web+proto"
				}
				h := resp.Header.Get
				if resp.StatusCode != status || h("Content-Type") != ct || body != tt.body || h("Grpc-Status") != tt.grpc || h("Grpc-Message") != tt.msg || tt.saw != "" && h("X-Saw") != tt.saw {
					t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
				}
				rec := r.last(1)
				if tt.details != "" && rec.Details != tt.details || tt.flags != "" && rec.Flags.String() != tt.flags {
					t.Errorf("recorded %s %v", rec.Details, rec.Flags)
				}
				if tt.name == "text" && (rec.Protocol.String() != "grpc" || rec.RequestMessages != 2 || rec.ResponseMessages != 2 || rec.GRPCStatus != 0) {
					t.Errorf("recorded %+v", rec)
				}
			})
		}
	}
}

// A policy decides about the request as it was sent, and its denial is one of
// HTTP: Envoy's filter stands behind those of policies.
func TestGRPCWebDenied(t *testing.T) {
	r := webRig(t, config.Stage{Kind: config.StageAuthz, Policies: anyPolicy(authz.Deny)})
	defer r.close()
	resp, body := r.do("POST /echo.Echo/Say HTTP/1.1\r\nHost: cart\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00")
	if resp.StatusCode != 403 || body != "RBAC: access denied" || resp.Header.Get("Grpc-Status") != "" {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
	}
}
