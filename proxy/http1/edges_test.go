package http1

import (
	"io"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// What cannot be a request never reaches a backend, and its connection serves no more.
func TestUnserializableRequests(t *testing.T) {
	good := codec.RequestHead{Method: "GET", Target: "/", Authority: "a"}
	for name, change := range map[string]func(*codec.RequestHead){
		"blank in the method":    func(h *codec.RequestHead) { h.Method = "GET / HTTP/1.1" },
		"no method":              func(h *codec.RequestHead) { h.Method = "" },
		"CONNECT":                func(h *codec.RequestHead) { h.Method, h.Target = "CONNECT", "a:80" },
		"blank in the target":    func(h *codec.RequestHead) { h.Target = "/ HTTP/1.1" },
		"newline in the target":  func(h *codec.RequestHead) { h.Target = "/\r\nx: y" },
		"no target":              func(h *codec.RequestHead) { h.Target = "" },
		"newline in the host":    func(h *codec.RequestHead) { h.Authority = "a\r\nx: y" },
		"no host":                func(h *codec.RequestHead) { h.Authority = "" },
		"newline in a field":     func(h *codec.RequestHead) { h.Fields = []attrs.Field{{Name: "x", Value: "a\nb"}} },
		"content that is at end": func(h *codec.RequestHead) { h.Length = 3 },
		"an unknown upgrade":     func(h *codec.RequestHead) { h.Upgrade = "h2c" },
	} {
		c := &script{in: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}
		released := true
		x := NewClientConn(c, ClientOptions{Released: func(_ *ClientConn, ok bool) { released = ok }}).Client()
		h := good
		change(&h)
		if err := x.WriteHead(&h, codec.End); err == nil {
			t.Errorf("%s: written", name)
		}
		x.Release()
		if len(c.out) != 0 || released {
			t.Errorf("%s: %q was sent, reusable %v", name, c.out, released)
		}
	}
}

// Each write and read out of its turn is refused.
func TestClientOrder(t *testing.T) {
	c := &script{in: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}
	x := NewClientConn(c, ClientOptions{}).Client()
	head := &codec.RequestHead{Method: "PUT", Target: "/", Authority: "a", Length: codec.LengthUnknown}
	if x.WriteBody([]byte("a"), 0) == nil || x.WriteTrailers(nil) == nil {
		t.Error("a body before its head was written")
	}
	if _, err := x.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a body before its head was read: %v", err)
	}
	must(t, x.WriteHead(head, 0))
	if x.WriteHead(head, 0) == nil {
		t.Error("a second head was written")
	}
	must(t, x.WriteBody([]byte("ab"), codec.End))
	if x.WriteBody([]byte("c"), codec.End) == nil {
		t.Error("content behind the end was written")
	}
	if x.WriteTrailers([]attrs.Field{{Name: "x", Value: "y"}}) == nil {
		t.Error("trailers behind the end were written")
	}
	if _, err := x.ReadHead(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.ReadHead(); err == nil {
		t.Error("a second head was read")
	}
	x.Release()
	if want := "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"; string(c.out) != want {
		t.Errorf("sent %q, want %q", c.out, want)
	}
}

// TestRequestFraming has the request heads of each framing.
func TestRequestFraming(t *testing.T) {
	for _, tt := range []struct {
		h    codec.RequestHead
		f    codec.Flags
		want string
	}{
		{codec.RequestHead{Method: "GET"}, codec.End, ""},
		{codec.RequestHead{Method: "GET", Length: codec.LengthUnknown}, codec.End, ""},
		{codec.RequestHead{Method: "DELETE"}, codec.End, ""},
		{codec.RequestHead{Method: "POST"}, codec.End, "content-length: 0\r\n"},
		{codec.RequestHead{Method: "PUT"}, codec.End, "content-length: 0\r\n"},
		{codec.RequestHead{Method: "PATCH"}, codec.End, "content-length: 0\r\n"},
		{codec.RequestHead{Method: "POST", Length: 12, Expect: true}, 0, "content-length: 12\r\nexpect: 100-continue\r\n"},
		{codec.RequestHead{Method: "POST", Expect: true}, 0, "content-length: 0\r\n"},
		{codec.RequestHead{Method: "GET", Upgrade: "websocket"}, codec.End, "connection: Upgrade\r\nupgrade: websocket\r\n"},
		{codec.RequestHead{Method: "GET", Trailers: true}, codec.End, "te: trailers\r\nconnection: te\r\n"},
		{codec.RequestHead{Method: "GET", Fields: []attrs.Field{{Name: "transfer-encoding", Value: "chunked"}, {Name: "content-length", Value: "9"}, {Name: "host", Value: "b"}, {Name: "x", Value: "y"}}}, codec.End, "x: y\r\n"},
	} {
		c := &script{}
		x := NewClientConn(c, ClientOptions{}).Client()
		tt.h.Target, tt.h.Authority = "/", "a"
		must(t, x.WriteHead(&tt.h, tt.f))
		if want := tt.h.Method + " / HTTP/1.1\r\nhost: a\r\n" + tt.want + "\r\n"; string(c.out) != want {
			t.Errorf("%+v: %q, want %q", tt.h, c.out, want)
		}
		x.Release()
	}
}

// A connection serves again only when both messages are whole; it is closed
// otherwise, and reset where somebody may still be at work.
func TestRelease(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	get := &codec.RequestHead{Method: "GET", Target: "/", Authority: "a"}
	put := &codec.RequestHead{Method: "PUT", Target: "/", Authority: "a", Length: 2}
	ask := func(h *codec.RequestHead, f codec.Flags) func(codec.Client) {
		return func(x codec.Client) { _ = x.WriteHead(h, f) }
	}
	all := func(x codec.Client) {
		if _, err := x.ReadHead(); err == nil {
			_, _ = io.ReadAll(x)
		}
	}
	for _, tt := range []struct {
		name                 string
		in                   string
		do                   []func(codec.Client)
		reuse, closed, reset bool
	}{
		{"whole", answer, []func(codec.Client){ask(get, codec.End), all}, true, false, false},
		{"nothing was asked", "", nil, false, true, false},
		{"no answer was read", answer, []func(codec.Client){ask(get, codec.End)}, false, true, true},
		{"the body was not read", answer, []func(codec.Client){ask(get, codec.End), func(x codec.Client) { _, _ = x.ReadHead() }}, false, true, true},
		{"half of the body was read", answer, []func(codec.Client){ask(get, codec.End), func(x codec.Client) { _, _ = x.ReadHead(); _, _ = x.Read(make([]byte, 1)) }}, false, true, true},
		{"the request was not ended", answer, []func(codec.Client){ask(put, 0), all}, false, true, false},
		{"stray octets behind the answer", answer + "HTTP/1.1 200 OK\r\n", []func(codec.Client){ask(get, codec.End), all}, false, true, false},
		{"close", strings.Replace(answer, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1), []func(codec.Client){ask(get, codec.End), all}, false, true, false},
		{"cut answer", answer[:len(answer)-1], []func(codec.Client){ask(get, codec.End), all}, false, true, true},
		{"aborted", answer, []func(codec.Client){ask(get, codec.End), func(x codec.Client) { x.Abort(nil) }}, false, true, true},
		{"a switch that was not asked for", "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + answer, []func(codec.Client){ask(get, codec.End), all}, false, true, true},
		{"a switch to something else", "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + answer,
			[]func(codec.Client){ask(&codec.RequestHead{Method: "GET", Target: "/", Authority: "a", Upgrade: "websocket"}, codec.End), all}, false, true, true},
		{"a switch without its connection field", "HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n" + answer,
			[]func(codec.Client){ask(&codec.RequestHead{Method: "GET", Target: "/", Authority: "a", Upgrade: "websocket"}, codec.End), all}, false, true, true},
	} {
		c := &resettable{script: script{in: []byte(tt.in)}}
		var reuse, told bool
		cc := NewClientConn(c, ClientOptions{Released: func(_ *ClientConn, ok bool) { reuse, told = ok, true }})
		x := cc.Client()
		for _, f := range tt.do {
			f(x)
		}
		x.Release()
		x.Release() // the second does nothing
		if !told || reuse != tt.reuse || cc.Reusable() != reuse || c.closed == reuse || c.reset != tt.reset {
			t.Errorf("%s: reusable %v, closed %v, reset %v", tt.name, reuse, c.closed, c.reset)
		}
	}
}

// resettable tells a reset from a close.
type resettable struct {
	script
	reset bool
}

func (r *resettable) Reset() { r.reset, r.closed = true, true }

// TestServerBetween: what one request leaves for the next on its connection.
func TestServerBetween(t *testing.T) {
	ok := func(x codec.Server) { _ = x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End) }
	read := func(x codec.Server) { _, _ = io.ReadAll(x); ok(x) }
	const expect = "Content-Length: 2\r\nExpect: 100-continue"
	for _, tt := range []struct {
		name    string
		in      string
		opts    ServerOptions
		do      func(codec.Server)
		answers int
		closing bool // the last answer says so
	}{
		{"content that nobody read", post("Content-Length: 5", "hello") + get(), ServerOptions{}, ok, 2, false},
		{"chunks that nobody read", chunked("5\r\nhello\r\n0\r\nx: y\r\n\r\n") + get(), ServerOptions{}, ok, 2, false},
		{"bad chunks that nobody read", chunked("5\r\nhello!\r\n0\r\n\r\n") + get(), ServerOptions{}, ok, 1, false},
		{"a cut body that nobody read", post("Content-Length: 500", "hello"), ServerOptions{}, ok, 1, false},
		{"as much as is drained", post("Content-Length: 100", strings.Repeat("x", 100)) + get(), ServerOptions{MaxDrain: 100}, ok, 2, false},
		{"more than is drained", post("Content-Length: 101", strings.Repeat("x", 101)) + get(), ServerOptions{MaxDrain: 100}, ok, 1, false},
		{"more chunks than are drained", chunked(strings.Repeat("a\r\n0123456789\r\n", 1000)+"0\r\n\r\n") + get(), ServerOptions{MaxDrain: 100}, ok, 1, false},
		{"an answer that was not ended", get() + get(), ServerOptions{}, func(x codec.Server) { _ = x.WriteHead(&codec.ResponseHead{Status: 200, Length: 3}, 0) }, 1, false},
		{"an expectation that was met", post(expect, "hi") + get(), ServerOptions{}, read, 2, false},
		{"an expectation that nobody met", post(expect, "hi") + get(), ServerOptions{}, ok, 1, true},
		{"an expectation half met", post(expect, "hi") + get(), ServerOptions{}, func(x codec.Server) { _, _ = x.Read(make([]byte, 1)); ok(x) }, 1, true},
		{"old, and closed by default", "GET / HTTP/1.0\r\nHost: a\r\n\r\n" + get(), ServerOptions{AllowHTTP10: true}, ok, 1, true},
		{"old, and kept", "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + get(), ServerOptions{AllowHTTP10: true}, ok, 2, false},
	} {
		out, err := answer(t, tt.in, tt.opts, tt.do)
		if n := strings.Count(out, "HTTP/1.1 200 OK"); n != tt.answers || err == nil {
			t.Errorf("%s: %d answers, %v", tt.name, n, err)
		}
		if strings.HasSuffix(out, "connection: close\r\n\r\n") != tt.closing {
			t.Errorf("%s: %q", tt.name, out)
		}
	}
	// That one expectation was met says nothing of the next.
	n := 0
	out, _ := answer(t, post(expect, "hi")+post(expect, "hi")+get(), ServerOptions{}, func(x codec.Server) {
		if n++; n == 1 {
			read(x)
		} else {
			ok(x)
		}
	})
	if n != 2 || !strings.HasSuffix(out, "connection: close\r\n\r\n") {
		t.Errorf("%d requests, %q", n, out)
	}
}

// Nothing of a head that cannot be written stands before the one that replaces it.
func TestHeadAfterARefusedOne(t *testing.T) {
	for name, bad := range map[string]*codec.ResponseHead{
		"field":  {Status: 200, Fields: []attrs.Field{{Name: "x", Value: "y"}, {Name: "a", Value: "b\r\nc: d"}}},
		"early":  {Status: 103, Fields: []attrs.Field{{Name: "x y", Value: "z"}}},
		"low":    {Status: 99},
		"high":   {Status: 1000},
		"length": {Status: 200, Length: 5},
		"switch": {Status: 101, Upgrade: "websocket"},
	} {
		out, _ := answer(t, get(), ServerOptions{}, func(x codec.Server) {
			if x.WriteHead(bad, codec.End) == nil {
				t.Errorf("%s was written", name)
			}
			must(t, x.WriteHead(&codec.ResponseHead{Status: 502}, codec.End))
		})
		if !strings.HasPrefix(out, "HTTP/1.1 502 Bad Gateway\r\n") || strings.Count(out, "HTTP/1.1") != 1 {
			t.Errorf("%s: %q", name, out)
		}
	}
	out, _ := answer(t, get(), ServerOptions{}, func(x codec.Server) { must(t, x.WriteHead(&codec.ResponseHead{Status: 999}, codec.End)) })
	if !strings.HasPrefix(out, "HTTP/1.1 999 ") {
		t.Errorf("%q", out)
	}
}

// TestSwitchAskedFor: only the switch that was asked for is one.
func TestSwitchAskedFor(t *testing.T) {
	for fields, ok := range map[string]bool{
		"Connection: upgrade\r\nUpgrade: websocket\r\n": true,
		"Connection: upgrade\r\nUpgrade: h2c\r\n":       false,
		"Connection: upgrade\r\n":                       false,
		"Connection: close\r\nUpgrade: websocket\r\n":   false,
		"Upgrade: websocket\r\n":                        false,
		"":                                              false,
	} {
		x := NewClientConn(&script{in: []byte("HTTP/1.1 101 S\r\n" + fields + "\r\n")}, ClientOptions{}).Client()
		must(t, x.WriteHead(&codec.RequestHead{Method: "GET", Target: "/", Authority: "a", Upgrade: "websocket"}, codec.End))
		h, err := x.ReadHead()
		if ok != (err == nil) || ok && h.Upgrade != "websocket" || !ok && codec.KindOf(err) != codec.Protocol {
			t.Errorf("%q: %+v, %v", fields, h, err)
		}
		x.Release()
	}
	// An ordinary answer tells of no switch, whatever its fields say.
	x := NewClientConn(&script{in: []byte("HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n")}, ClientOptions{}).Client()
	must(t, x.WriteHead(&codec.RequestHead{Method: "GET", Target: "/", Authority: "a", Upgrade: "websocket"}, codec.End))
	if h, err := x.ReadHead(); err != nil || h.Upgrade != "" {
		t.Errorf("%+v, %v", h, err)
	}
	x.Release()
}

// TestSniffed: what was read to tell the protocol is read again as the request.
func TestSniffed(t *testing.T) {
	const raw = "GET /sniffed HTTP/1.1\r\nHost: a\r\n\r\n"
	c := &script{in: []byte(raw[3:])}
	s := NewServerConn(c, ServerOptions{Sniffed: []byte(raw[:3])})
	x, err := s.Next()
	must(t, err)
	if h := x.Head(); h.Method != "GET" || h.Target != "/sniffed" {
		t.Errorf("%+v", h)
	}
	must(t, x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End))
	s.Close()
}
