package http1

import (
	"io"
	"strings"
	"testing"

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
		{"expect not answered, body read", post("Content-Length: 3\r\nExpect: 100-continue", "abc") + get(), ServerOptions{}, func(t *testing.T, x codec.Server) {
			_, err := io.ReadAll(x)
			must(t, err)
			must(t, x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End))
		}, strings.Repeat(ok+"content-length: 0\r\n\r\n", 2)},
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
