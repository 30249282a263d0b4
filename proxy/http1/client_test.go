package http1

import (
	"net"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

type reply struct {
	raw    string
	method string
	want   string // "" for kind
	kind   codec.Kind
	reuse  bool
}

func TestReplies(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for i, c := range []reply{
		{ok + "Content-Length: 2\r\nA: b\r\n\r\nhi", "GET", `200 2 a=b "hi"`, 0, true},
		{ok + "Content-Length: 0\r\n\r\n", "GET", `200 0 ""`, 0, true},
		{ok + "Content-Length: 2\r\n\r\nhi!", "GET", `200 2 "hi"`, 0, false},
		{ok + "Content-Length: 2\r\nConnection: close\r\n\r\nhi", "GET", `200 2 "hi"`, 0, false},
		{ok + "Content-Length: 2\r\n\r\n", "HEAD", `200 0 content-length=2 ""`, 0, true},
		{ok + "\r\nabc", "GET", `200 -1 "abc"`, 0, false},
		{ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: u\r\n\r\n", "GET", `200 -1 "a" t=u`, 0, true},
		{ok + "Content-Length: 0\r\n\r\n", "HEAD", `200 0 content-length=0 ""`, 0, true},
		{ok + "Host: h\r\nContent-Length: 0\r\n\r\n", "GET", `200 0 host=h ""`, 0, true},
		{"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "GET", `204 0 ""`, 0, true},
		{"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "GET", `304 0 content-length=5 ""`, 0, true},
		{"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 H\r\nLink: x\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n", "GET", `100 103 link=x 200 0 ""`, 0, true},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "GET", `200 1 "a"`, 0, false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na", "GET", `200 1 "a"`, 0, true},
		{"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "GET", `200 0 ""`, 0, true},
		{"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", "GET", `999 0 ""`, 0, true},
		{"", "GET", "", codec.ConnClosed, false},
		{"HTT", "GET", "", codec.Truncated, false},
		{ok, "GET", "", codec.Truncated, false},
		{ok + "Content-Length: 5\r\n\r\nab", "GET", "", codec.Truncated, false},
		{ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nab", "GET", "", codec.Truncated, false},
		{ok + "Transfer-Encoding: chunked\r\n\r\nz\r\n", "GET", "", codec.Protocol, false},
		{ok + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "GET", "", codec.Protocol, false},
		{ok + "Transfer-Encoding: gzip\r\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", "", codec.Protocol, false},
		{ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", "GET", "", codec.Protocol, false},
		{ok + "Content-Length: -1\r\n\r\n", "GET", "", codec.Protocol, false},
		{ok + "A : b\r\n\r\n", "GET", "", codec.Protocol, false},
		{ok + "A: b\r\n c\r\n\r\n", "GET", "", codec.Protocol, false},
		{ok + "A: b\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1 200 OK\nA: b\n\n", "GET", "", codec.Protocol, false},
		{"HTTP/2.0 200 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1 20 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1 2000 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1 2:0 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1 2/0 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{ok + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", "GET", "", codec.Protocol, false},
		{strings.Repeat("HTTP/1.1 100 C\r\n\r\n", maxInterim) + ok + "Content-Length: 0\r\n\r\n", "GET", strings.Repeat("100 ", maxInterim) + `200 0 ""`, 0, true},
		{"HTTP/1.1 099 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1  200 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{"http/1.1 200 OK\r\n\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1 200 O\x00K\r\n\r\n", "GET", "", codec.Protocol, false},
		{"<html>", "GET", "", codec.Protocol, false},
		{"\r\n" + ok + "\r\n", "GET", "", codec.Protocol, false},
		{"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET", "", codec.Protocol, false},
		{strings.Repeat("HTTP/1.1 100 C\r\n\r\n", maxInterim+1), "GET", "", codec.Protocol, false},
	} {
		for _, grain := range []int{0, 1, 5} {
			before := buf.Outstanding()
			reused := false
			cc := NewClientConn(&script{in: []byte(c.raw), grain: grain}, ClientOptions{Released: func(_ *ClientConn, ok bool) { reused = ok }})
			x := cc.Client()
			must(t, x.WriteHead(&codec.RequestHead{Method: c.method, Target: "/", Authority: "a"}, codec.End))
			got, err := receive(x)
			x.Release()
			if c.kind != 0 {
				if codec.KindOf(err) != c.kind {
					t.Errorf("case %d: %q: %v, want %v", i, c.raw, err, c.kind)
				}
			} else if err != nil || got != c.want {
				t.Errorf("case %d, grain %d: %q\n got %s, %v\nwant %s", i, grain, c.raw, got, err, c.want)
			}
			// Stray bytes that have not been read yet are found by Alive.
			if reused != c.reuse && !(grain > 0 && strings.HasSuffix(c.raw, "!")) {
				t.Errorf("case %d, grain %d: %q: reusable %v", i, grain, c.raw, reused)
			}
			if n := buf.Outstanding(); n != before {
				t.Errorf("case %d: %d buffers not released", i, n-before)
			}
		}
	}
}

func TestAliveTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	peer, err := ln.Accept()
	must(t, err)
	cc := NewClientConn(tcpConn{nc.(*net.TCPConn)}, ClientOptions{})
	defer cc.Close()
	if !cc.Alive() {
		t.Error("an open connection is not alive")
	}
	peer.Close()
	deadline := time.Now().Add(5 * time.Second)
	for cc.Alive() {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection stays alive")
		}
	}
}

type tcpConn struct{ *net.TCPConn }

func (c tcpConn) Reset() { c.SetLinger(0); c.Close() }

func TestAlivePipe(t *testing.T) {
	a, b := newPipe()
	cc := NewClientConn(a, ClientOptions{})
	if !cc.Alive() {
		t.Error("an open connection is not alive")
	}
	b.Write([]byte("x"))
	if cc.Alive() {
		t.Error("stray bytes go unnoticed")
	}
	cc.Close()
}

func TestIdleHint(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"": 0, "timeout=5": 5 * time.Second, "timeout=5, max=100": 5 * time.Second, "max=1,Timeout = 30 ": 30 * time.Second,
		"timeout": 0, "timeout=": 0, "timeout=-1": 0, "timeout=x, timeout=2": 2 * time.Second, "max=5": 0, ",,": 0,
		"timeout=999999999999999999": maxIdleHint, "timeout=9999999999999999999": 0,
	} {
		if got := idleHint(v); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}
