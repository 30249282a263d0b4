package proxy

import (
	"net/http"
	"testing"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

// What a node proxy tells of its client in baggage and forwarded is telemetry: the
// certificate and the address of the tunnel decide.
func TestTunnelHeadersDecideNothing(t *testing.T) {
	said := map[string]string{
		"baggage":   "k8s.namespace.name=admins,k8s.serviceaccount.name=root,service.name=root",
		"forwarded": "for=9.9.9.9;proto=https",
	}
	for _, tt := range []struct {
		name string
		from authz.Source
		code int
	}{
		{"said namespace", authz.Source{Namespaces: []string{"admins"}}, 403},
		{"said principal", authz.Source{Principals: []string{"cluster.local/ns/admins/sa/root"}}, 403},
		{"said address", authz.Source{IPBlocks: []string{"9.9.9.9"}}, 403},
		{"said remote address", authz.Source{RemoteIPBlocks: []string{"9.9.9.9"}}, 403},
		{"own namespace", authz.Source{Namespaces: []string{"clients"}}, 200},
		{"own address", authz.Source{IPBlocks: []string{"10.2.0.1"}}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, policy(authz.Allow, authz.RuleSpec{From: []authz.Source{tt.from}}))
			defer r.close()
			r.handle(pod1, hello)
			c, ft := r.openWith(vip+":80", make(chan struct{}), said)
			resp, _ := exchangeOn(t, c, get)
			_ = c.Close()
			<-ft.done
			if resp.StatusCode != tt.code {
				t.Errorf("%d, want %d", resp.StatusCode, tt.code)
			}
			if src := r.last(1).Source; src == nil || src.CanonicalService != "root" || src.Namespace != "clients" {
				t.Errorf("recorded as %+v", src)
			}
		})
	}
}

// Upgrades other than to WebSocket are not passed on: the request goes on as plain
// HTTP/1. What connection names is gone before a route adds it.
func TestConnectionHeaders(t *testing.T) {
	got := sees(t, nil, "GET / HTTP/1.1\r\nHost: c\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n")
	for _, name := range []string{"Upgrade", "HTTP2-Settings", "Connection"} {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("%s: %q reached the backend", name, v)
		}
	}
	got = sees(t, edited(func(r *routing.Rule) {
		r.Filters.Request = &routing.HeaderOps{Set: []routing.HeaderValue{{Name: "x-rule", Value: "rule"}}}
	}), "GET / HTTP/1.1\r\nHost: c\r\nConnection: X-Rule\r\nX-Rule: client\r\n\r\n")
	if v := got.Header["X-Rule"]; len(v) != 1 || v[0] != "rule" {
		t.Errorf("x-rule: %q, want the route's", v)
	}
}

// A mirror counts against the limits of its own backend, and a full one is given up
// without a word.
func TestMirrorKeepsLimits(t *testing.T) {
	r := newRig(t, func(m *config.Model) {
		edited(func(r *routing.Rule) { r.Filters.Mirrors = []routing.Mirror{{Ref: 1}} })(m)
		addBackend(m, "shadow|80", config.ProtocolHTTP, pod2).Settings = resilience.Settings{MaxRequests: 1}
		m.Destinations[0].Refs = append(m.Destinations[0].Refs, "shadow|80")
	})
	defer r.close()
	r.handle(pod1, hello)
	reached, stop := make(chan struct{}, 9), make(chan struct{})
	r.on(pod2, func(c *memConn) {
		reached <- struct{}{}
		<-stop
	})
	ask := func() {
		if resp, body := r.do(get); resp.StatusCode != http.StatusOK || body != "hello" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	}
	ask()
	<-reached // the one place is taken
	for range 5 {
		ask()
	}
	for r.p.mirrors.n.Load() > 1 && len(reached) == 0 { // the others end by themselves
		ask()
	}
	if n := len(reached); n != 0 {
		t.Errorf("%d more copies went out", n)
	}
	close(stop)
}
