package http2

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

func several(n int) []attrs.Field {
	fs := make([]attrs.Field, n)
	for i := range fs {
		fs[i] = attrs.Field{Name: "a", Value: "b"}
	}
	return fs
}

// TestRequestEdges has the heads beside those that are refused, all on one scratch:
// nothing of a head stays for the next.
func TestRequestEdges(t *testing.T) {
	var s scratch
	end := func(h *h2.Head) *h2.Head { h.End = true; return h }
	for _, tt := range []struct {
		name   string
		in     *h2.Head
		status int
		want   string // length, expectation and fields
	}{
		{"crumbs", end(req("GET", "a", "/", "cookie", "secret=1", "cookie", "b=2")), 0, "0 false cookie=secret=1; b=2"},
		{"other crumbs", end(req("GET", "a", "/", "x", "y", "cookie", "c=3", "cookie", "d=4")), 0, "0 false x=y cookie=c=3; d=4"},
		{"one cookie", end(req("GET", "a", "/", "cookie", "e=5")), 0, "0 false cookie=e=5"},
		{"another expectation", req("POST", "a", "/", "expect", "200-maybe"), 0, "-1 false expect=200-maybe"},
		{"expectation of content", req("POST", "a", "/", "content-length", "9", "expect", "100-CONTINUE"), 0, "9 true"},
		{"expectation of nothing", req("POST", "a", "/", "content-length", "0", "expect", "100-continue"), 0, "0 false"},
		{"eighteen digits", req("POST", "a", "/", "content-length", "999999999999999999"), 0, "999999999999999999 false"},
		{"nineteen digits", req("POST", "a", "/", "content-length", "1000000000000000000"), 400, ""},
		{"colon for a digit", req("POST", "a", "/", "content-length", "1:"), 400, ""},
		{"slash for a digit", req("POST", "a", "/", "content-length", "1/"), 400, ""},
		{"method in lower case", req("get", "a", "/"), 400, ""},
		{"OPTIONS without a slash", req("OPTIONS", "a", "x"), 400, ""},
		{"star of another method", req("GET", "a", "*"), 400, ""},
		{"shorter host", req("GET", "ab", "/", "host", "a"), 400, ""},
		{"host in another case", end(req("GET", "aZ[", "/", "host", "Az{")), 400, ""},
		{"last letters", end(req("GET", "aZ", "/", "host", "Az")), 0, "0 false"},
		{"hundred fields", end(&h2.Head{Method: "GET", Scheme: "http", Authority: "a", Path: "/", Fields: several(maxFields)}), 0, "0 false" + strings.Repeat(" a=b", maxFields)},
		{"one field more", end(&h2.Head{Method: "GET", Scheme: "http", Authority: "a", Path: "/", Fields: several(maxFields + 1)}), 431, ""},
	} {
		var h codec.RequestHead
		s.reset()
		status, got := s.request(tt.in, &h), ""
		if status == 0 {
			got = fmt.Sprintf("%d %v", h.Length, h.Expect)
			for _, f := range h.Fields {
				got += " " + f.Name + "=" + f.Value
			}
		}
		if status != tt.status || got != tt.want {
			t.Errorf("%s: %d %q, want %d %q", tt.name, status, got, tt.status, tt.want)
		}
	}
}

func TestResponseHeads(t *testing.T) {
	var s scratch
	for _, tt := range []struct {
		name   string
		in     h2.Head
		head   bool
		ok     bool
		length int64
		fields int
	}{
		{"length", h2.Head{Status: 200, Fields: fields("content-length", "5", "a", "b")}, false, true, 5, 1},
		{"length of nothing", h2.Head{Status: 200, End: true, Fields: fields("content-length", "0")}, false, true, 0, 0},
		{"length without content", h2.Head{Status: 200, End: true, Fields: fields("content-length", "1")}, false, false, 0, 0},
		{"bad length", h2.Head{Status: 200, Fields: fields("content-length", "x")}, false, false, 0, 0},
		{"bad length of HEAD", h2.Head{Status: 200, Fields: fields("content-length", "x")}, true, false, 0, 0},
		{"HEAD", h2.Head{Status: 200, Fields: fields("content-length", "5")}, true, true, 0, 1},
		{"304", h2.Head{Status: 304, Fields: fields("content-length", "5")}, false, true, 0, 1},
		{"204", h2.Head{Status: 204, Fields: fields("content-length", "5")}, false, true, 0, 0},
		{"103", h2.Head{Status: 103, Fields: fields("content-length", "5", "link", "x")}, false, true, 0, 1},
		{"unknown", h2.Head{Status: 200}, false, true, -1, 0},
		{"te", h2.Head{Status: 200, Fields: fields("te", "trailers")}, false, true, -1, 0},
		{"hundred fields", h2.Head{Status: 200, Fields: several(maxFields)}, false, true, -1, maxFields},
		{"one field more", h2.Head{Status: 200, Fields: several(maxFields + 1)}, false, false, 0, 0},
	} {
		var h codec.ResponseHead
		ok := s.response(&tt.in, tt.head, &h)
		if ok != tt.ok || ok && (h.Length != tt.length || len(h.Fields) != tt.fields || h.Status != tt.in.Status) {
			t.Errorf("%s: %v %+v", tt.name, ok, h)
		}
	}
}

func TestTrailerSections(t *testing.T) {
	var s scratch
	mixed := fields("grpc-status", "0", "content-length", "5", "authorization", "x", "set-cookie", "y")
	if !s.outTrailers(mixed) || len(s.out) != 1 || s.out[0].Name != "grpc-status" {
		t.Errorf("out: %v", s.out)
	}
	for range 2 { // the second section has nothing of the first
		if in := s.inTrailers(&h2.Head{Fields: mixed}); len(in) != 1 || in[0].Name != "grpc-status" {
			t.Errorf("in: %v", in)
		}
	}
	if n := len(s.inTrailers(&h2.Head{Fields: several(maxFields)})); n != maxFields {
		t.Errorf("%d trailers", n)
	}
	if in := s.inTrailers(&h2.Head{Fields: several(maxFields + 1)}); in != nil || s.inTrailers(nil) != nil {
		t.Errorf("%d trailers", len(in))
	}
	for _, v := range []string{"\ta", "a ", " ", "\t"} {
		if s.outgoing(fields("a", v), false) {
			t.Errorf("%q passes", v)
		}
	}
	if !s.outgoing(fields("a", "", "b", "x\ty"), false) || len(s.out) != 2 {
		t.Errorf("%v", s.out)
	}
}

// What cannot be a request is not sent, and each write out of its turn is refused.
func TestClientRefuses(t *testing.T) {
	c, _ := start(t, func(x codec.Server) {
		_, _ = io.ReadAll(x)
		_ = x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End)
	})
	for name, h := range map[string]codec.RequestHead{
		"blank in the method":     {Method: "GET x", Authority: "a", Target: "/"},
		"no method":               {Authority: "a", Target: "/"},
		"blank in the host":       {Method: "GET", Authority: "a b", Target: "/"},
		"no host":                 {Method: "GET", Target: "/"},
		"no target":               {Method: "GET", Authority: "a"},
		"content that is at end":  {Method: "PUT", Authority: "a", Target: "/", Length: 3},
		"white space in a field":  {Method: "GET", Authority: "a", Target: "/", Fields: fields("a", " b")},
		"pseudo field":            {Method: "GET", Authority: "a", Target: "/", Fields: fields(":path", "/b")},
		"newline in a field name": {Method: "GET", Authority: "a", Target: "/", Fields: fields("a\n", "b")},
	} {
		x := c.Open()
		if err := x.WriteHead(&h, codec.End); codec.KindOf(err) != codec.Protocol || x.Sent() != 0 {
			t.Errorf("%s: %v, sent %d", name, err, x.Sent())
		}
		x.Release()
	}
	x := c.Open()
	if x.WriteBody([]byte("a"), 0) == nil || x.WriteTrailers(fields("a", "b")) == nil {
		t.Error("a body before its head was written")
	}
	if _, err := x.ReadHead(); err == nil {
		t.Error("an answer to nothing was read")
	}
	if _, err := x.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a body before its head was read: %v", err)
	}
	if x.Trailers() != nil || x.SetReadDeadline(time.Now()) != nil || x.SetWriteDeadline(time.Now()) != nil || x.(codec.Readier).Ready() {
		t.Error("an exchange without a stream has something")
	}
	put := &codec.RequestHead{Method: "PUT", Authority: "a", Target: "/", Length: -1}
	must(t, x.WriteHead(put, 0))
	if x.WriteHead(put, 0) == nil {
		t.Error("a second head was written")
	}
	if x.WriteTrailers(fields("a b", "c")) == nil {
		t.Error("a bad trailer was written")
	}
	must(t, x.WriteBody([]byte("a"), codec.End))
	must(t, x.WriteBody(nil, codec.End)) // again the end is no news
	if x.WriteBody([]byte("b"), codec.End) == nil {
		t.Error("content behind the end was written")
	}
	h, err := x.ReadHead()
	must(t, err)
	if h.Status != 200 {
		t.Errorf("%+v", h)
	}
	if _, err := x.ReadHead(); err == nil {
		t.Error("a second head was read")
	}
	x.Release()
	x.Release() // the second does nothing

	// An exchange that was aborted sends nothing more, and leaves nothing to the next.
	for range 20 {
		x = c.Open()
		x.Abort(nil)
		if err := x.WriteHead(ask, codec.End); codec.KindOf(err) != codec.Aborted {
			t.Fatalf("behind an abort: %v", err)
		}
		x.Release()
		x = c.Open()
		if x.Sent() != 0 {
			t.Fatalf("a new exchange has sent %d octets", x.Sent())
		}
		must(t, x.WriteHead(&codec.RequestHead{Method: "GET", Authority: "a", Target: "/"}, 0)) // a length of none ends it
		if h, err = x.ReadHead(); err != nil || h.Status != 200 {
			t.Fatalf("%+v, %v", h, err)
		}
		x.Release()
	}
}

// The same for answers.
func TestServerRefuses(t *testing.T) {
	c, _ := start(t, func(x codec.Server) {
		if x.WriteBody([]byte("a"), 0) == nil || x.WriteTrailers(nil) == nil {
			t.Error("a body before its head was written")
		}
		for _, h := range []codec.ResponseHead{{Status: 99}, {Status: 1000}, {Status: 200, Upgrade: "websocket"}, {Status: 101}, {Status: 200, Fields: fields("a b", "c")}} {
			if x.WriteHead(&h, 0) == nil {
				t.Errorf("%+v was written", h)
			}
		}
		if x.WriteHead(&codec.ResponseHead{Status: 200, Length: 5}, codec.End) == nil {
			t.Error("a length without content was written")
		}
		must(t, x.WriteHead(&codec.ResponseHead{Status: 103}, codec.End)) // ends nothing
		must(t, x.WriteHead(&codec.ResponseHead{Status: 999, Length: -1}, codec.More))
		if x.WriteHead(&codec.ResponseHead{Status: 200}, 0) == nil {
			t.Error("a second head was written")
		}
		must(t, x.WriteBody(nil, 0))
		if x.WriteTrailers(fields("A", "b")) == nil {
			t.Error("a bad trailer was written")
		}
		must(t, x.WriteTrailers(fields("content-length", "1"))) // nothing is left of it, but the end
		must(t, x.WriteTrailers(fields("t", "u")))
		must(t, x.WriteBody(nil, codec.End))
		if x.WriteBody([]byte("b"), 0) == nil {
			t.Error("content behind the end was written")
		}
	})
	x := c.Open()
	defer x.Release()
	must(t, x.WriteHead(ask, codec.End))
	for _, want := range []int{103, 999} {
		h, err := x.ReadHead()
		must(t, err)
		if h.Status != want {
			t.Fatalf("%+v, want %d", h, want)
		}
	}
	if b := readAll(t, x); b != "" || len(x.Trailers()) != 0 {
		t.Errorf("%q %v", b, x.Trailers())
	}
}

// TestErrorKinds: what a retry and a response flag are decided by.
func TestErrorKinds(t *testing.T) {
	stream := func(code xhttp2.ErrCode, remote, unprocessed bool) error {
		return &h2.StreamError{Code: code, Remote: remote, Unprocessed: unprocessed}
	}
	for _, tt := range []struct {
		err    error
		begun  bool
		kind   codec.Kind
		remote bool
	}{
		{os.ErrDeadlineExceeded, false, codec.Timeout, false},
		{stream(xhttp2.ErrCodeRefusedStream, true, true), false, codec.Refused, true},
		{stream(xhttp2.ErrCodeRefusedStream, true, false), true, codec.Reset, true},
		{stream(xhttp2.ErrCodeCancel, true, false), true, codec.Reset, true},
		{stream(xhttp2.ErrCodeProtocol, true, false), true, codec.Reset, true},
		{stream(xhttp2.ErrCodeCancel, false, false), true, codec.Aborted, false},
		{stream(xhttp2.ErrCodeNo, false, false), true, codec.Aborted, false},
		{stream(xhttp2.ErrCodeInternal, false, false), true, codec.Aborted, false},
		{stream(xhttp2.ErrCodeRefusedStream, false, false), true, codec.Aborted, false},
		{stream(xhttp2.ErrCodeProtocol, false, false), true, codec.Protocol, true},
		{stream(xhttp2.ErrCodeFlowControl, false, false), true, codec.Protocol, true},
		{h2.ErrReleased, false, codec.Aborted, false},
		{h2.ErrHeadOrder, false, codec.Protocol, false},
		{h2.ErrWriteEnded, false, codec.Protocol, false},
		{&h2.ConnError{Code: xhttp2.ErrCodeFlowControl}, false, codec.Protocol, true},
		{&h2.ConnError{Code: xhttp2.ErrCodeFlowControl, Remote: true}, false, codec.ConnClosed, true},
		{&h2.ConnError{Code: xhttp2.ErrCodeNo}, false, codec.ConnClosed, true},
		{h2.ErrClosed, false, codec.ConnClosed, true},
		{h2.ErrClosed, true, codec.Truncated, true},
	} {
		var e *codec.Error
		if err := mapError(tt.err, tt.begun); !errors.As(err, &e) || e.Kind != tt.kind || e.Remote != tt.remote || !errors.Is(err, tt.err) {
			t.Errorf("%v: %v", tt.err, err)
		}
	}
	if mapError(nil, true) != nil || mapError(io.EOF, true) != io.EOF {
		t.Error("the end is an error")
	}
	if codec.KindOf(openError(os.ErrDeadlineExceeded)) != codec.Timeout || codec.KindOf(openError(h2.ErrStreamLimit)) != codec.Refused {
		t.Error("what cannot be opened")
	}
	for err, want := range map[error]xhttp2.ErrCode{
		codec.AbortNoError: xhttp2.ErrCodeNo, codec.AbortInternal: xhttp2.ErrCodeInternal, codec.AbortRefused: xhttp2.ErrCodeRefusedStream, codec.AbortCancel: xhttp2.ErrCodeCancel, io.EOF: xhttp2.ErrCodeCancel,
	} {
		if got := abortCode(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if flags(0) != 0 || flags(codec.End) != h2.End || flags(codec.More) != h2.More || flags(codec.End|codec.More) != h2.End|h2.More {
		t.Error("flags")
	}
}
