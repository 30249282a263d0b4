package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/telemetry"
)

// useHTTP2 makes the client speak HTTP/2 with prior knowledge.
func (m *mesh) useHTTP2() {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	m.root.Cleanup(tr.CloseIdleConnections)
	m.http.Transport = tr
}

// Whatever a client speaks, an application hears what its port declares.
func TestAcrossVersions(t *testing.T) {
	for _, tt := range []struct {
		protocol, client, app string
		http2                 bool
	}{
		{"http", "HTTP/1.1", "HTTP/1.1", false},
		{"http", "HTTP/2.0", "HTTP/1.1", true},
		{"kubernetes.io/h2c", "HTTP/1.1", "HTTP/2.0", false},
		{"kubernetes.io/h2c", "HTTP/2.0", "HTTP/2.0", true},
		{`""`, "HTTP/1.1", "HTTP/1.1", false},
		{`""`, "HTTP/2.0", "HTTP/2.0", true},
	} {
		t.Run(tt.client+" to "+tt.protocol, func(t *testing.T) {
			m := startMesh(t, nil)
			if tt.http2 {
				m.useHTTP2()
			}
			m.serve(frame + pod(podV1) + service(1, "cart", tt.protocol, 8080, podV1) + `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart}]
  rules:
  - name: all
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /p}}}]
    backendRefs: [{name: cart, port: 80}]
`)
			a := m.ask("clients", 1, "GET", "/a?size=100000")
			if s := a.one(t, m.v1); a.Proto != tt.client || s.Proto != tt.app || s.Path != "/p/a?size=100000" || len(a.body) != 100000 {
				t.Errorf("client %s, application %s of %s, %d bytes", a.Proto, s.Proto, s.Path, len(a.body))
			}
			// A body passes as well, both ways.
			body := bytes.Repeat([]byte("b"), 200000)
			resp, err := m.http.Post("http://"+m.front("clients", 1)+"/a?size=5", "text/plain", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || len(b) != 5 {
				t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(b), err)
			}
		})
	}
}

// webSocket serves a handshake and then echoes what comes behind it.
func webSocket(t *testing.T, addr string, seen chan<- *http.Request) {
	t.Helper()
	listen(t, addr, func(c net.Conn) {
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		seen <- req
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		io.Copy(c, br)
	})
}

// A WebSocket follows its route as any request does, and then is a byte stream.
func TestWebSocketThroughRoute(t *testing.T) {
	m := startMesh(t, nil)
	seen := make(chan *http.Request, 1)
	webSocket(t, podV2+":8085", seen)
	m.serve(frame + pod(podV1) + pod(podV2) + service(1, "cart", "http", 8080, podV1) + service(2, "chat", "http", 8085, podV2) + `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart}]
  rules:
  - name: chat
    matches: [{path: {value: /chat}}]
    timeouts: {request: 1s}
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /ws}}}
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: rule}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Out, value: rule}]}}
    backendRefs: [{name: chat, port: 80}]
`)
	c, err := net.Dial("tcp", m.front("clients", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	e := m.explain("clients", proxy.Question{URL: "http://10.96.7.1/chat/room", Headers: []attrs.Field{{Name: "connection", Value: "upgrade"}, {Name: "upgrade", Value: "websocket"}}})
	fmt.Fprint(c, "GET /chat/room HTTP/1.1\r\nHost: cart.shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-Id: ws-1\r\nSec-WebSocket-Key: k\r\n\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("X-Out") != "rule" || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%+v %v", resp, err)
	}
	if req := <-seen; req.URL.Path != "/ws/room" || req.Header.Get("X-Set") != "rule" || req.Header.Get("Sec-Websocket-Key") != "k" {
		t.Errorf("the application saw %s %v", req.URL, req.Header)
	}
	// The route's timeout was for the handshake: echoes arrive behind it too.
	stop := time.Now().Add(1200 * time.Millisecond)
	for n := 0; time.Now().Before(stop); n++ {
		text := fmt.Sprintf("frame %d", n)
		io.WriteString(c, text)
		b := make([]byte, len(text))
		if _, err := io.ReadFull(br, b); err != nil || string(b) != text {
			t.Fatalf("%q %v", b, err)
		}
	}
	c.(*net.TCPConn).CloseWrite()
	if _, err := io.ReadAll(br); err != nil {
		t.Errorf("the end: %v", err)
	}
	c.Close()
	r := m.record("ws-1")
	m.compare(e, &r)
	if r.Code != 101 || r.Route != "shop/cart/chat" || r.Flags != telemetry.Flags(0) || r.Received == 0 {
		t.Errorf("logged %+v", r)
	}
}
