package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

// rule replaces the routes of the only destination.
func rules(rs ...routing.Rule) func(*config.Model) {
	return func(m *config.Model) {
		m.Destinations[0].Routes = rs
		m.Destinations[0].Refs = []string{"cart.shop.svc.cluster.local|80"}
	}
}

func edited(f func(*routing.Rule)) func(*config.Model) {
	r := forward()
	f(&r)
	return rules(r)
}

func settings(f func(*resilience.Settings)) func(*config.Model) {
	return func(m *config.Model) { f(&m.Backends["cart.shop.svc.cluster.local|80"].Settings) }
}

// policy puts one authorization policy on the destination.
func policy(a authz.Action, specs ...authz.RuleSpec) func(*config.Model) {
	return func(m *config.Model) {
		p := authz.Policy{Namespace: "shop", Name: "p", Action: a}
		for i := range specs {
			rule, err := authz.NewRule("shop", "p", i, a, &specs[i], authz.Scope{Namespace: "shop", TrustDomain: "cluster.local"})
			if err != nil {
				panic(err)
			}
			p.Rules = append(p.Rules, rule)
		}
		m.Destinations[0].Stages = []config.Stage{{Kind: config.StageAuthz, Policies: []authz.Policy{p}}}
		m.Destinations[0].Conn = []authz.Policy{p}
	}
}

// script reads one request head and answers with raw bytes, then closes.
func script(answer string) func(*memConn) {
	return func(c *memConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, answer)
		}
	}
}

func silent(c *memConn) {
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
}

// TestOwnAnswers goes through every answer that the waypoint gives itself.
func TestOwnAnswers(t *testing.T) {
	const reset = "upstream connect error or disconnect/reset before headers. reset reason: "
	const retried = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: "
	tests := []struct {
		name    string
		edit    func(*config.Model)
		serve   func(*memConn)
		req     string
		code    int
		body    string
		flags   telemetry.Flags
		details string
		header  string // "name: value"
	}{
		{name: "denied", edit: policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/a*"}}}}),
			code: 403, body: "RBAC: access denied", details: "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]"},
		{name: "no allow", edit: policy(authz.Allow, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/x"}}}}),
			code: 403, body: "RBAC: access denied", details: "rbac_access_denied_matched_policy[none]"},
		{name: "no route", edit: edited(func(r *routing.Rule) { r.Matches = []routing.Match{{Method: "PUT"}} }),
			code: 404, flags: telemetry.FlagNR, details: "route_not_found"},
		{name: "missing backend of the Gateway API", edit: edited(func(r *routing.Rule) {
			r.Backends = []routing.Backend{{Ref: -1, Weight: 1, Invalid: "no such service", Status: 500}}
		}), code: 500, flags: telemetry.FlagNC, details: "cluster_not_found"},
		{name: "unknown cluster of Envoy", edit: edited(func(r *routing.Rule) {
			r.Backends = []routing.Backend{{Ref: -1, Weight: 1, Invalid: "unknown cluster", Status: 503}}
		}), code: 503, flags: telemetry.FlagNC, details: "cluster_not_found"},
		{name: "missing backend, response edited", edit: edited(func(r *routing.Rule) {
			r.Backends = []routing.Backend{{Ref: -1, Weight: 1, Invalid: "no such service", Status: 500}}
			r.Filters.Response = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-rule", Value: "r"}}}
		}), code: 500, flags: telemetry.FlagNC, details: "cluster_not_found", header: "X-Rule: r"},
		{name: "no endpoint, response edited", edit: func(m *config.Model) {
			edited(func(r *routing.Rule) {
				r.Filters.Response = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-rule", Value: "r"}}}
			})(m)
			m.Backends["cart.shop.svc.cluster.local|80"].Endpoints = nil
		}, code: 503, body: "no healthy upstream", flags: telemetry.FlagUH, details: "no_healthy_upstream", header: "X-Rule: r"},
		{name: "no endpoint, response edited for the backend", edit: func(m *config.Model) {
			edited(func(r *routing.Rule) {
				r.Backends[0].Filters.Response = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-own", Value: "b"}}}
			})(m)
			m.Backends["cart.shop.svc.cluster.local|80"].Endpoints = nil
		}, code: 503, body: "no healthy upstream", flags: telemetry.FlagUH, details: "no_healthy_upstream", header: "X-Own: b"},
		{name: "no backends", edit: edited(func(r *routing.Rule) { r.Backends = nil }), code: 500, details: "direct_response"},
		{name: "all weights zero", edit: edited(func(r *routing.Rule) { r.Backends[0].Weight = 0 }), code: 500, details: "direct_response"},
		{name: "broken rule", edit: edited(func(r *routing.Rule) { r.Broken = "bad filter" }), code: 500, details: "direct_response"},
		{name: "broken chain", edit: func(m *config.Model) { m.Destinations[0].Broken = "unknown filter x" },
			code: 503, body: "waypoint: unknown filter x", details: "chain_broken"},
		{name: "stage that nothing runs", edit: func(m *config.Model) {
			m.Destinations[0].Stages = []config.Stage{{Kind: config.StageJWT}}
		}, code: 503, details: "stage_unavailable{jwt_authn}"},
		{name: "no endpoint", edit: func(m *config.Model) { m.Backends["cart.shop.svc.cluster.local|80"].Endpoints = nil },
			code: 503, body: "no healthy upstream", flags: telemetry.FlagUH, details: "no_healthy_upstream"},
		{name: "connect refused, retried", code: 503, body: retried + "remote connection failure",
			flags: telemetry.FlagUF | telemetry.FlagURX, details: "upstream_reset_before_response_started{remote_connection_failure}"},
		{name: "connect refused, retries off", edit: func(m *config.Model) {
			edited(func(r *routing.Rule) { r.Retry = 0 })(m)
			m.Destinations[0].Retries = []*resilience.Retry{{}}
		}, code: 503, body: reset + "remote connection failure",
			flags: telemetry.FlagUF, details: "upstream_reset_before_response_started{remote_connection_failure}"},
		{name: "closed before a response", serve: script(""), req: "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n",
			code: 503, body: reset + "connection termination", flags: telemetry.FlagUC, details: "upstream_reset_before_response_started{connection_termination}"},
		{name: "protocol error", serve: script("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
			code: 502, body: reset + "protocol error", flags: telemetry.FlagUPE, details: "upstream_reset_before_response_started{protocol_error}"},
		{name: "route timeout", edit: edited(func(r *routing.Rule) { r.Timeout = 20 * time.Millisecond }), serve: silent,
			code: 504, body: "upstream request timeout", flags: telemetry.FlagUT, details: "upstream_response_timeout"},
		{name: "per-try timeout", edit: edited(func(r *routing.Rule) { r.TryTimeout = 20 * time.Millisecond }), serve: silent,
			code: 504, body: "upstream request timeout", flags: telemetry.FlagUT, details: "upstream_per_try_timeout"},
		{name: "idle timeout", edit: edited(func(r *routing.Rule) { r.IdleTimeout = 20 * time.Millisecond }), serve: silent,
			code: 504, body: "stream timeout", flags: telemetry.FlagSI, details: "stream_idle_timeout"},
		{name: "redirect", edit: edited(func(r *routing.Rule) {
			r.Backends, r.Redirect = nil, &routing.Redirect{Host: "other", Status: 302}
		}), code: 302, details: "direct_response", header: "Location: http://other/a/b?c=d"},
		{name: "redirect of a backend", edit: edited(func(r *routing.Rule) {
			r.Backends[0].Redirect = &routing.Redirect{Host: "other", Status: 307}
			r.Filters.Rewrite = &routing.Rewrite{Host: "inside"}
		}), code: 307, details: "direct_response", header: "Location: http://other/a/b?c=d"},
		{name: "direct response", edit: edited(func(r *routing.Rule) {
			r.Backends, r.Direct = nil, &routing.DirectResponse{Status: 418, Body: "tea"}
		}), code: 418, body: "tea", details: "direct_response", header: "Content-Type: text/plain"},
		{name: "preflight", edit: edited(func(r *routing.Rule) {
			r.Filters.CORS = &routing.CORS{AllowOrigins: []routing.ValueMatch{{Kind: routing.ValueExact, Value: "http://a.example"}}, AllowMethods: []string{"PUT"}}
		}), req: "OPTIONS / HTTP/1.1\r\nHost: c\r\nOrigin: http://a.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
			code: 200, details: "cors_response", header: "Access-Control-Allow-Origin: http://a.example"},
		{name: "inner CONNECT", req: "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n", code: 403, details: "upgrade_failed"},
		{name: "asterisk", req: "OPTIONS * HTTP/1.1\r\nHost: c\r\n\r\n", code: 404, details: "absolute_path_rejected"},
		{name: "NUL in path", req: "GET /a%00 HTTP/1.1\r\nHost: c\r\n\r\n", code: 400, details: "path_normalization_failed"},
		{name: "gRPC: denied", edit: policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/s*"}}}}),
			req:  "POST /s/m HTTP/1.1\r\nHost: c\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
			code: 200, details: "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]", header: "Grpc-Message: RBAC: access denied"},
		{name: "gRPC: no endpoint", edit: func(m *config.Model) { m.Backends["cart.shop.svc.cluster.local|80"].Endpoints = nil },
			req:  "POST /s/m HTTP/1.1\r\nHost: c\r\nContent-Type: application/grpc+proto\r\nContent-Length: 0\r\n\r\n",
			code: 200, flags: telemetry.FlagUH, details: "no_healthy_upstream", header: "Grpc-Status: 14"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.edit)
			defer r.close()
			if tt.serve != nil {
				r.on(pod1, tt.serve)
			}
			req := tt.req
			if req == "" {
				req = get
			}
			resp, body := r.do(req)
			if resp.StatusCode != tt.code || body != tt.body {
				t.Errorf("answer %d %q, want %d %q", resp.StatusCode, body, tt.code, tt.body)
			}
			if n, v, _ := strings.Cut(tt.header, ": "); n != "" && resp.Header.Get(n) != v {
				t.Errorf("%s: %q, want %q", n, resp.Header.Get(n), v)
			}
			if resp.Header.Get("Server") != "istio-envoy" || resp.Header.Get("Date") == "" {
				t.Errorf("header %v", resp.Header)
			}
			rec := r.last(1)
			if rec.Flags != tt.flags || rec.Details != tt.details || rec.Code != tt.code {
				t.Errorf("record %d %v %q, want %v %q", rec.Code, rec.Flags, rec.Details, tt.flags, tt.details)
			}
		})
	}
}

// TestRefusalBeforeConfiguration: what is not known yet is not unknown.
func TestRefusalBeforeConfiguration(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.store.Swap(nil)
	c, ft := r.tunnelTo(vip + ":80")
	<-ft.decided
	_ = c.Close()
	r.idle()
	if ft.status != 503 || ft.reason != "no configuration yet" {
		t.Errorf("status %d (%s)", ft.status, ft.reason)
	}
}

// TestRefusals are the only answers to a CONNECT other than 200.
func TestRefusals(t *testing.T) {
	tcp := func(m *config.Model) { m.Destinations[0].Protocol = config.ProtocolTCP }
	deny := policy(authz.Deny, authz.RuleSpec{From: []authz.Source{{Namespaces: []string{"clients"}}}})
	tests := []struct {
		name      string
		edit      func(*config.Model)
		authority string
		status    int
	}{
		{"unknown address", nil, "10.9.9.9:80", 404},
		{"unknown port", nil, vip + ":81", 404},
		{"unknown host", nil, "other.shop.svc.cluster.local:80", 404},
		{"known host", nil, "cart.shop.svc.cluster.local:80", 200},
		{"malformed", nil, "nonsense", 400},
		{"denied on a TCP port", func(m *config.Model) { tcp(m); deny(m) }, vip + ":80", 403},
		{"denied on an HTTP port: answered inside", deny, vip + ":80", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.edit)
			defer r.close()
			r.handle(pod1, hello)
			c, ft := r.tunnelTo(tt.authority)
			<-ft.decided
			_ = c.Close()
			r.idle()
			if ft.status != tt.status {
				t.Errorf("status %d (%s), want %d", ft.status, ft.reason, tt.status)
			}
		})
	}
}
