package http2

import (
	"fmt"
	"strings"
	"testing"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

func fields(kv ...string) (fs []attrs.Field) {
	for i := 0; i < len(kv); i += 2 {
		fs = append(fs, attrs.Field{Name: kv[i], Value: kv[i+1]})
	}
	return fs
}

func req(method, authority, path string, kv ...string) *h2.Head {
	return &h2.Head{Method: method, Scheme: "http", Authority: authority, Path: path, Fields: fields(kv...)}
}

func TestRequestHeads(t *testing.T) {
	end := func(h *h2.Head) *h2.Head { h.End = true; return h }
	scheme := func(s string) *h2.Head { h := req("GET", "a", "/"); h.Scheme = s; return h }
	many := make([]string, 0, 202)
	for range 101 {
		many = append(many, "a", "b")
	}
	for _, c := range []struct {
		in   *h2.Head
		want string
	}{
		{end(req("GET", "a:80", "/x?y", "b", "c")), "GET http a:80 /x?y 0 b=c"},
		{req("POST", "a", "/", "content-length", "5", "b", "c"), "POST http a / 5 b=c"},
		{req("POST", "a", "/"), "POST http a / -1"},
		{end(req("POST", "a", "/", "content-length", "0")), "POST http a / 0"},
		{end(req("GET", "", "/", "host", "a")), "GET http a / 0"},
		{end(req("GET", "a", "/", "host", "A")), "GET http a / 0"},
		{end(req("OPTIONS", "a", "*")), "OPTIONS http a * 0"},
		{end(req("GET", "a", "/", "cookie", "a=1", "x", "y", "cookie", "b=2", "cookie", "c=3")), "GET http a / 0 cookie=a=1; b=2; c=3 x=y"},
		{end(req("GET", "a", "/", "cookie", "a=1")), "GET http a / 0 cookie=a=1"},
		{req("POST", "a", "/", "te", "trailers", "expect", "100-Continue"), "POST http a / -1 te expect"},
		{end(req("GET", "a", "/", "expect", "100-continue")), "GET http a / 0"},
		{&h2.Head{Method: "CONNECT", Authority: "a:1"}, "CONNECT http a:1 a:1 -1"},
		{scheme("https"), "GET https a / -1"},
		{scheme("ftp"), "400"},
		{scheme("HTTP"), "400"},
		{end(req("GET", "", "/")), "400"},
		{end(req("GET", "a", "/", "host", "b")), "400"},
		{end(req("GET", "a", "/", "host", "a", "host", "b")), "400"},
		{end(req("GET", "a b", "/")), "400"},
		{end(req("GET", "u@a", "/")), "400"},
		{end(req("GET", "a:", "/")), "400"},
		{end(req("GET", "a", "x")), "400"},
		{end(req("GET", "a", "*")), "400"},
		{end(req("GET", "a", "/\xc3\xa9")), "400"},
		{end(req("GET", "a", "/ HTTP/1.1\r\nx: y")), "400"},
		{end(req("POST", "a", "/", "content-length", "5")), "400"},
		{req("POST", "a", "/", "content-length", "x"), "400"},
		{req("POST", "a", "/", "content-length", ""), "400"},
		{end(req("GET", "a", "/", many...)), "431"},
	} {
		var s scratch
		var h codec.RequestHead
		got := ""
		if status := s.request(c.in, &h); status != 0 {
			got = fmt.Sprint(status)
		} else {
			got = fmt.Sprintf("%s %s %s %s %d", h.Method, h.Scheme, h.Authority, h.Target, h.Length)
			for _, f := range h.Fields {
				got += " " + f.Name + "=" + f.Value
			}
			if h.Trailers {
				got += " te"
			}
			if h.Expect {
				got += " expect"
			}
		}
		if got != c.want {
			t.Errorf("%+v\n got %s\nwant %s", *c.in, got, c.want)
		}
	}
}

func TestOutgoing(t *testing.T) {
	var s scratch
	if !s.outgoing(fields("a", "b", "connection", "x", "te", "gzip", "transfer-encoding", "chunked", "host", "h", "content-length", "1", "upgrade", "u"), false) {
		t.Fatal("refused")
	}
	if len(s.out) != 1 || s.out[0].Name != "a" {
		t.Errorf("%v", s.out)
	}
	for _, f := range [][2]string{{"A", "b"}, {"", "b"}, {"a b", "c"}, {":path", "/"}, {"a", "b\nc"}, {"a", "b\r"}, {"a", "\x00"}, {"a", " b"}, {"a", "b\t"}} {
		if s.outgoing(fields(f[0], f[1]), false) {
			t.Errorf("%q passes", f)
		}
		if s.outTrailers(fields(f[0], f[1])) {
			t.Errorf("%q passes as a trailer", f)
		}
	}
}

func TestHeadAllocs(t *testing.T) {
	var s scratch
	var h codec.RequestHead
	var r codec.ResponseHead
	in := req("GET", "a", "/", "cookie", "a=1", "cookie", "b=2", "x", "y", "te", "trailers")
	res := &h2.Head{Status: 200, Fields: fields("content-length", "1024", "content-type", "text/plain")}
	out := fields("a", "b", "c", strings.Repeat("d", 100))
	n := testing.AllocsPerRun(100, func() {
		s.reset()
		if s.request(in, &h) != 0 || !s.response(res, false, &r) || !s.outgoing(out, false) {
			t.Fatal("refused")
		}
		s.length(1024)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
