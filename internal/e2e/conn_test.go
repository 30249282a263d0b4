package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/telemetry"
)

// talk makes one connection without HTTP, lets f use it and holds Explain to what
// was logged of it. sni is the server name that f will send.
func (m *mesh) talk(ns, to, sni string, f func(net.Conn)) telemetry.Record {
	m.t.Helper()
	e := m.explain(ns, proxy.Question{URL: "tcp://" + to, SNI: sni})
	m.mu.Lock()
	before := len(m.conns)
	m.mu.Unlock()
	c, err := net.Dial("tcp", m.frontTo(ns, to))
	if err != nil { // reset at once
		var gone net.Conn
		c, gone = net.Pipe()
		gone.Close()
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	f(c)
	c.Close()
	m.mu.Lock()
	for len(m.conns) == before {
		m.arrived.Wait()
	}
	r := m.conns[before]
	m.mu.Unlock()
	if e.Route != r.Route || (e.Decision == "deny") != r.Denied || e.Policy != r.Policy || e.Reason != r.Reason {
		m.t.Errorf("explained as route %s, %s by %s %s, logged %+v", e.Route, e.Decision, e.Policy, e.Reason, r)
	}
	ok := false
	for _, b := range e.Backends {
		ok = ok || b.Invalid == "" && cluster(b.Backend) == strings.Replace(r.UpstreamCluster, "|tcp|", "|http|", 1)
	}
	switch {
	case e.Action == "forward" && (!ok || e.Status != 200):
		m.t.Errorf("explained as %d of %+v, logged %q", e.Status, e.Backends, r.UpstreamCluster)
	case e.Action != "forward" && (r.Attempts != 0 || e.Flags != r.Flags.String() || e.Details != r.Details+r.Termination):
		m.t.Errorf("explained as %s %s %s, logged %s %s%s", e.Action, e.Flags, e.Details, r.Flags, r.Details, r.Termination)
	}
	return r
}

// listen hands the connections to an address to serve, each on its own goroutine.
func listen(t *testing.T, addr string, serve func(net.Conn)) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

// greet answers every connection with a text and then echoes, inside of TLS if wrap
// makes it so.
func greet(t *testing.T, addr, text string, wrap func(net.Conn) net.Conn) {
	t.Helper()
	listen(t, addr, func(c net.Conn) {
		if wrap != nil {
			c = wrap(c)
		}
		io.WriteString(c, text+"\n")
		io.Copy(c, c)
	})
}

// line reads what greet says, or nothing from a connection that is cut.
func line(c net.Conn) string {
	b := make([]byte, 3)
	if _, err := io.ReadFull(c, b); err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// TLS is passed through by its server name; the waypoint has no key of it.
func TestTLSRoute(t *testing.T) {
	m := startMesh(t, nil)
	for i, ip := range []string{podV1, podV2} {
		svid := m.source("shop", "cart").SVID()
		greet(t, ip+":8443", fmt.Sprint("v", i+1), func(c net.Conn) net.Conn {
			return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{svid.Certificate}})
		})
	}
	m.serve(frame + pod(podV1) + pod(podV2) +
		service(1, "front", "tls", 8443, podV1) + service(2, "v1", "tls", 8443, podV1) + service(3, "v2", "tls", 8443, podV2) + `
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: exact, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, port: 80}]
  hostnames: [a.example]
  rules: [{backendRefs: [{name: v1, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: wild, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, port: 80}]
  hostnames: ["*.b.example"]
  rules: [{backendRefs: [{name: v2, port: 80}]}]
`)
	for _, tt := range []struct{ sni, want, route, flags string }{
		{"a.example", "v1", "shop/exact", "-"},
		{"x.b.example", "v2", "shop/wild", "-"},
		{"y.x.b.example", "v2", "shop/wild", "-"},
		{"b.example", "", "", "NR"},
		{"other.example", "", "", "NR"},
		{"", "", "", "NR"},
	} {
		t.Run(tt.sni, func(t *testing.T) {
			m.t = t
			r := m.talk("clients", "10.96.7.1:80", tt.sni, func(c net.Conn) {
				tc := tls.Client(c, &tls.Config{ServerName: tt.sni, InsecureSkipVerify: true})
				if got := line(tc); got != tt.want {
					t.Errorf("%q answers, want %q", got, tt.want)
				}
			})
			if r.Route != tt.route || r.Flags.String() != tt.flags || r.SNI != tt.sni {
				t.Errorf("logged %s %v %q", r.Route, r.Flags, r.SNI)
			}
		})
	}
}

func TestTCPRoutes(t *testing.T) {
	m := startMesh(t, nil)
	greet(t, podV1+":7070", "v1", nil)
	greet(t, podV2+":7070", "v2", nil)
	route := func(name, refs string) string {
		return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: %[1]s, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: %[1]s, port: 80}]
  rules: [{backendRefs: [%[2]s]}]
---
`, name, refs)
	}
	m.serve(frame + pod(podV1) + pod(podV2) + pod(dead) +
		service(1, "split", "tcp", 7070, podV1) + service(2, "v1", "tcp", 7070, podV1) + service(3, "v2", "tcp", 7070, podV2) +
		service(4, "plain", "tcp", 7070, podV2) + service(5, "gone", "tcp", 7070, podV1) + service(6, "half", "tcp", 7070, dead, podV1) +
		service(7, "none", "tcp", 7070) +
		route("split", "{name: v1, port: 80, weight: 3}, {name: v2, port: 80, weight: 1}") +
		route("gone", "{name: nobody, port: 80}"))
	ask := func(vip int) (string, telemetry.Record) {
		got := ""
		r := m.talk("clients", fmt.Sprintf("10.96.7.%d:80", vip), "", func(c net.Conn) { got = line(c) })
		return got, r
	}
	// 3:1 of 200: outside of [105, 190] once in more than 10^10 runs.
	n := 0
	for range 200 {
		switch got, r := ask(1); {
		case r.Route != "shop/split":
			t.Fatalf("%q by %s", got, r.Route)
		case got == "v1":
			n++
		}
	}
	if n < 105 || n > 190 {
		t.Errorf("%d of 200 went to the backend of weight 3 in 4", n)
	}
	if got, r := ask(4); got != "v2" || r.Route != "" {
		t.Errorf("without a route: %q by %s", got, r.Route)
	}
	if got, r := ask(5); got != "" || r.Flags != telemetry.FlagNC || r.Route != "shop/gone" {
		t.Errorf("a backend that is missing: %q, %v by %s", got, r.Flags, r.Route)
	}
	for range 4 { // a dead endpoint is passed over: nothing was sent yet
		if got, r := ask(6); got != "v1" || r.Attempts > 2 {
			t.Errorf("half of it dead: %q after %d", got, r.Attempts)
		}
	}
	if got, r := ask(7); got != "" || r.Flags != telemetry.FlagUH {
		t.Errorf("no endpoints: %q, %v", got, r.Flags)
	}
}

// A port without a protocol is looked into, unless something of HTTP guards it.
func TestUndeclaredPort(t *testing.T) {
	m := startMesh(t, func(o *proxy.Options) { o.DetectTimeout = 50 * time.Millisecond })
	greet(t, podV2+":7070", "v2", nil)
	m.serve(frame + pod(podV1) + pod(podV2) +
		service(1, "web", `""`, 8080, podV1) + service(2, "db", `""`, 7070, podV2) + service(3, "guarded", `""`, 7070, podV2) + service(4, "v1", "http", 8080, podV1) + `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: guarded, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: guarded}]
  rules: [{name: only, backendRefs: [{name: v1, port: 80}]}]
`)
	if a := m.ask("clients", 1, "GET", "/a"); a.one(t, m.v1).Proto != "HTTP/1.1" || a.rec.Protocol != telemetry.HTTP {
		t.Errorf("HTTP/1.1: %+v", a.rec)
	}
	if a := m.ask("clients", 3, "GET", "/a"); a.StatusCode != 200 || a.rec.Route != "shop/guarded/only" {
		t.Errorf("HTTP on the guarded port: %d by %s", a.StatusCode, a.rec.Route)
	}
	m.useHTTP2()
	if a := m.ask("clients", 1, "GET", "/b"); a.one(t, m.v1).Proto != "HTTP/2.0" { // undeclared: as the client speaks
		t.Errorf("HTTP/2: %+v", a.rec)
	}
	m.talk("clients", "10.96.7.2:80", "", func(c net.Conn) {
		if got := line(c); got != "v2" {
			t.Errorf("a server that speaks first: %q", got)
		}
	})
	m.talk("clients", "10.96.7.2:80", "", func(c net.Conn) {
		io.WriteString(c, "\x00\x01binary")
		b := make([]byte, len("v2\n\x00\x01binary"))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "v2\n\x00\x01binary" {
			t.Errorf("bytes that are no HTTP: %q %v", b, err)
		}
	})
	r := m.talk("clients", "10.96.7.3:80", "", func(c net.Conn) {
		io.WriteString(c, "\x00\x01binary")
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("%q came through the guarded port", b)
		}
	})
	if r.Reason != "not_http" {
		t.Errorf("logged %+v", r)
	}
}
