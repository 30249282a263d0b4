package http1

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

// answer runs a scripted connection through handler until it ends and returns
// what was written.
func answer(t *testing.T, in string, opts ServerOptions, handler func(codec.Server)) (string, error) {
	t.Helper()
	before := buf.Outstanding()
	c := &script{in: []byte(in)}
	s := NewServerConn(c, opts)
	var err error
	for {
		var x codec.Server
		if x, err = s.Next(); err != nil {
			break
		}
		handler(x)
	}
	s.Close()
	if n := buf.Outstanding(); n != before {
		t.Errorf("%d buffers not released", n-before)
	}
	return string(c.out), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestResponses(t *testing.T) {
	a := []attrs.Field{{Name: "a", Value: "b"}}
	cl := []attrs.Field{{Name: "content-length", Value: "9"}, {Name: "connection", Value: "x"}}
	text := func(s string) func(*testing.T, codec.Server) {
		return func(t *testing.T, x codec.Server) {
			must(t, x.WriteHead(&codec.ResponseHead{Status: 200, Fields: a, Length: int64(len(s))}, codec.More))
			must(t, x.WriteBody([]byte(s), codec.End))
		}
	}
	unknown := func(t *testing.T, x codec.Server) {
		must(t, x.WriteHead(&codec.ResponseHead{Status: 200, Length: -1}, 0))
		must(t, x.WriteBody([]byte("abc"), 0))
		must(t, x.WriteBody([]byte("defghijklmnopqrs"), codec.More))
		must(t, x.WriteTrailers([]attrs.Field{{Name: "grpc-status", Value: "0"}, {Name: "content-length", Value: "1"}}))
	}
	bare := func(status int, fs []attrs.Field) func(*testing.T, codec.Server) {
		return func(t *testing.T, x codec.Server) {
			must(t, x.WriteHead(&codec.ResponseHead{Status: status, Fields: fs}, codec.End))
		}
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name, in string
		opts     ServerOptions
		h        func(*testing.T, codec.Server)
		want     string
	}{
		{"length", get(), ServerOptions{}, text("hi"), ok + "a: b\r\ncontent-length: 2\r\n\r\nhi"},
		{"close asked", get("Connection: close"), ServerOptions{}, text("hi"), ok + "a: b\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi"},
		{"pipelined", get() + get(), ServerOptions{}, text("1"), strings.Repeat(ok+"a: b\r\ncontent-length: 1\r\n\r\n1", 2)},
		{"after close none", get("Connection: close") + get(), ServerOptions{}, text("1"), ok + "a: b\r\ncontent-length: 1\r\nconnection: close\r\n\r\n1"},
		{"chunked", get(), ServerOptions{}, unknown, ok + "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\ndefghijklmnopqrs\r\n0\r\ngrpc-status: 0\r\n\r\n"},
		{"1.0 until close", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", ServerOptions{AllowHTTP10: true}, unknown, ok + "connection: close\r\n\r\nabcdefghijklmnopqrs"},
		{"1.0 kept", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", ServerOptions{AllowHTTP10: true}, text("x"), ok + "a: b\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\nx"},
		{"head", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", ServerOptions{}, bare(200, cl), ok + "content-length: 9\r\n\r\n"},
		{"head with body", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", ServerOptions{}, text("hi"), ok + "a: b\r\ncontent-length: 2\r\n\r\n"},
		{"204", get(), ServerOptions{}, bare(204, cl), "HTTP/1.1 204 No Content\r\n\r\n"},
		{"304", get(), ServerOptions{}, bare(304, cl), "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"},
		{"empty", get(), ServerOptions{}, bare(200, cl), ok + "content-length: 0\r\n\r\n"},
		{"unread drained", post("Content-Length: 3", "abc") + get(), ServerOptions{}, bare(200, nil), strings.Repeat(ok+"content-length: 0\r\n\r\n", 2)},
		{"unread too long", post("Content-Length: 70000", strings.Repeat("x", 70000)) + get(), ServerOptions{}, bare(200, nil), ok + "content-length: 0\r\n\r\n"},
		{"unread chunks too long", chunked("11170\r\n"+strings.Repeat("x", 70000)+"\r\n0\r\n\r\n") + get(), ServerOptions{}, bare(200, nil), ok + "content-length: 0\r\n\r\n"},
		{"expect ignored", post("Content-Length: 3\r\nExpect: 100-continue", "abc") + get(), ServerOptions{}, bare(200, nil), ok + "content-length: 0\r\nconnection: close\r\n\r\n"},
		{"sniffed", "T / HTTP/1.1\r\nHost: a\r\n\r\n", ServerOptions{Sniffed: []byte("GE")}, bare(200, nil), ok + "content-length: 0\r\n\r\n"},
		{"continue", post("Content-Length: 3\r\nExpect: 100-continue", "abc"), ServerOptions{}, func(t *testing.T, x codec.Server) {
			must(t, x.WriteHead(&codec.ResponseHead{Status: 100}, 0))
			b, err := io.ReadAll(x)
			if string(b) != "abc" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			must(t, x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End))
		}, "HTTP/1.1 100 Continue\r\n\r\n" + ok + "content-length: 0\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := answer(t, c.in, c.opts, func(x codec.Server) { c.h(t, x) })
			if got != c.want || err != io.EOF {
				t.Errorf("got  %q\nwant %q\nerr %v", got, c.want, err)
			}
		})
	}
}

// What would break the framing never reaches the wire.
func TestUnserializable(t *testing.T) {
	for name, f := range map[string]func(codec.Server) error{
		"CR in value":  func(x codec.Server) error { return head(x, attrs.Field{Name: "a", Value: "b\r\nc: d"}) },
		"NUL in value": func(x codec.Server) error { return head(x, attrs.Field{Name: "a", Value: "\x00"}) },
		"bad name":     func(x codec.Server) error { return head(x, attrs.Field{Name: "a b", Value: "c"}) },
		"empty name":   func(x codec.Server) error { return head(x, attrs.Field{Value: "c"}) },
		"too much": func(x codec.Server) error {
			_ = x.WriteHead(&codec.ResponseHead{Status: 200, Length: 1}, 0)
			return x.WriteBody([]byte("ab"), codec.End)
		},
		"too little": func(x codec.Server) error {
			_ = x.WriteHead(&codec.ResponseHead{Status: 200, Length: 3}, 0)
			return x.WriteBody([]byte("ab"), codec.End)
		},
		"body first": func(x codec.Server) error { return x.WriteBody([]byte("ab"), codec.End) },
		"two heads": func(x codec.Server) error {
			_ = x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End)
			return x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End)
		},
		"101 unasked": func(x codec.Server) error {
			return x.WriteHead(&codec.ResponseHead{Status: 101, Upgrade: "websocket"}, 0)
		},
	} {
		_, _ = answer(t, get(), ServerOptions{}, func(x codec.Server) {
			if err := f(x); codec.KindOf(err) != codec.Protocol {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func head(x codec.Server, f attrs.Field) error {
	return x.WriteHead(&codec.ResponseHead{Status: 200, Fields: []attrs.Field{f}}, codec.End)
}

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

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hide := range []bool{false, true} {
			a, b := newPipe()
			var c Conn = a
			if hide {
				c = bare{a}
			}
			s := NewServerConn(c, ServerOptions{})
			done := make(chan error, 1)
			go func() {
				for {
					x, err := s.Next()
					if err != nil {
						done <- err
						return
					}
					x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End)
				}
			}()
			b.Write([]byte(get()))
			synctest.Wait()
			if !s.Idle() {
				t.Error("not idle behind the first exchange")
			}
			if n := buf.Outstanding(); n != 0 {
				t.Errorf("an idle connection owns %d buffers", n)
			}
			s.SetDraining()
			if err := <-done; err != io.EOF {
				t.Errorf("idle: %v", err)
			}
			s.Close()
		}
		// A request that arrived first is served, and told to close.
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{})
		b.Write([]byte(get()))
		x, err := s.Next()
		must(t, err)
		s.SetDraining()
		must(t, x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End))
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("after the last: %v", err)
		}
		p := make([]byte, 100)
		n, _ := b.Read(p)
		if want := "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"; string(p[:n]) != want {
			t.Errorf("%q", p[:n])
		}
		s.Close()
	})
}

func TestDrainGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{})
		done := make(chan error)
		go func() {
			for {
				x, err := s.Next()
				if err != nil {
					done <- err
					return
				}
				x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End)
			}
		}()
		b.Write([]byte(get()))
		synctest.Wait()
		p := make([]byte, 200)
		b.Read(p)
		s.SetDraining()
		time.Sleep(DrainGrace - time.Millisecond)
		// It crosses the drain: served, and told that it was the last.
		b.Write([]byte(get()))
		if err := <-done; err != io.EOF {
			t.Error(err)
		}
		n, _ := b.Read(p)
		if want := "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"; string(p[:n]) != want {
			t.Errorf("%q", p[:n])
		}
		s.Close()
	})
}

// A drain that begins between a response's head and its end leaves a client that
// does not know: it has the grace, too.
func TestDrainGraceBehindAHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{})
		done := make(chan error)
		go func() {
			for n := 0; ; n++ {
				x, err := s.Next()
				if err != nil {
					done <- err
					return
				}
				x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End)
				if n == 0 {
					s.SetDraining()
				}
			}
		}()
		p := make([]byte, 200)
		b.Write([]byte(get()))
		n, _ := b.Read(p)
		if strings.Contains(string(p[:n]), "close") {
			t.Fatalf("%q: told already", p[:n])
		}
		time.Sleep(DrainGrace - time.Millisecond)
		b.Write([]byte(get()))
		if err := <-done; err != io.EOF {
			t.Error(err)
		}
		n, _ = b.Read(p)
		if !strings.Contains(string(p[:n]), "connection: close") {
			t.Errorf("%q", p[:n])
		}
		s.Close()
	})
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{IdleTimeout: time.Hour, HeadTimeout: time.Second})
		start := time.Now()
		if _, err := s.Next(); err != io.EOF || time.Since(start) != time.Hour {
			t.Errorf("idle: %v after %v", err, time.Since(start))
		}
		s.Close()
		a, b = newPipe()
		s = NewServerConn(a, ServerOptions{IdleTimeout: time.Hour, HeadTimeout: time.Second})
		b.Write([]byte("GET / HT"))
		_, err := s.Next()
		var pe *ProtocolError
		if !errors.As(err, &pe) || pe.Status != 408 {
			t.Errorf("head: %v", err)
		}
		must(t, s.WriteError(pe.Status, ""))
		s.Close()

		a, _ = newPipe()
		cc := NewClientConn(a, ClientOptions{})
		x := cc.Client()
		must(t, x.WriteHead(&codec.RequestHead{Method: "GET", Target: "/", Authority: "a"}, codec.End))
		x.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := x.ReadHead(); codec.KindOf(err) != codec.Timeout {
			t.Errorf("response: %v", err)
		}
		x.Abort(nil)
		x.Release()
	})
}

func TestUpgrade(t *testing.T) {
	a, b := newPipe()
	s := NewServerConn(a, ServerOptions{})
	cc := NewClientConn(b, ClientOptions{})
	cx := cc.Client()
	must(t, cx.WriteHead(&codec.RequestHead{Method: "GET", Target: "/", Authority: "a", Upgrade: "websocket"}, codec.End))
	b.Write([]byte("early"))
	sx, err := s.Next()
	must(t, err)
	if sx.Head().Upgrade != "websocket" {
		t.Fatal("no upgrade")
	}
	must(t, sx.WriteHead(&codec.ResponseHead{Status: 101, Upgrade: "websocket"}, 0))
	a.Write([]byte("hello"))
	h, err := cx.ReadHead()
	must(t, err)
	if h.Status != 101 || h.Upgrade != "websocket" {
		t.Fatalf("%+v", h)
	}
	for want, raw := range map[string]codec.Raw{"early": sx.(codec.Hijacker).Hijack(), "hello": cx.(codec.Hijacker).Hijack()} {
		p := make([]byte, 5)
		if _, err := io.ReadFull(raw, p); err != nil || string(p) != want {
			t.Errorf("%q, %v", p, err)
		}
	}
	cx.Release()
	if _, err := s.Next(); err != io.EOF {
		t.Error(err)
	}
	s.Close()
	if n := buf.Outstanding(); n != 0 {
		t.Errorf("%d buffers not released", n)
	}
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
