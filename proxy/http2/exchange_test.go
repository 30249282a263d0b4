package http2

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/proxy/codec"
)

var ask = &codec.RequestHead{Method: "GET", Scheme: "http", Authority: "a", Target: "/"}

func TestExchange(t *testing.T) {
	c, _ := start(t, func(x codec.Server) {
		h := x.Head()
		if h.Version != codec.HTTP2 || h.Method != "POST" || !h.Trailers {
			t.Errorf("%+v", h)
		}
		body, err := io.ReadAll(x)
		if err != nil || string(body) != "hello" {
			t.Errorf("%q, %v", body, err)
		}
		if tr := x.Trailers(); len(tr) != 1 || tr[0].Name != "t" {
			t.Errorf("trailers %v", tr)
		}
		must(t, x.WriteHead(&codec.ResponseHead{Status: 103, Fields: fields("link", "x")}, 0))
		must(t, x.WriteHead(&codec.ResponseHead{Status: 200, Length: -1, Fields: fields("content-type", "application/grpc")}, 0))
		must(t, x.WriteBody(body, 0))
		must(t, x.WriteTrailers(fields("grpc-status", "0", "content-length", "1")))
		if x.Received() != 5 || x.Sent() != 5 {
			t.Errorf("received %d, sent %d", x.Received(), x.Sent())
		}
	})
	for range 3 { // pooled state is clean
		x := c.Open()
		if x.Sent() != 0 {
			t.Error("sent before the head")
		}
		must(t, x.WriteHead(&codec.RequestHead{Method: "POST", Authority: "a", Target: "/p", Length: -1, Trailers: true}, codec.More))
		must(t, x.WriteBody([]byte("hello"), codec.More))
		must(t, x.WriteTrailers(fields("t", "u")))
		if x.Sent() <= 5 {
			t.Errorf("sent %d", x.Sent())
		}
		h, err := x.ReadHead()
		must(t, err)
		if h.Status != 103 {
			t.Errorf("status %d", h.Status)
		}
		h, err = x.ReadHead()
		must(t, err)
		if h.Status != 200 || h.Length != -1 || len(h.Fields) != 1 {
			t.Errorf("%+v", h)
		}
		if b := readAll(t, x); b != "hello" {
			t.Errorf("%q", b)
		}
		if tr := x.Trailers(); len(tr) != 1 || tr[0].Value != "0" {
			t.Errorf("%v", tr)
		}
		x.Release()
	}
}

// Every way an exchange fails has the kind a retry is decided by.
func TestFailures(t *testing.T) {
	hold := make(chan struct{})
	var once sync.Once
	for _, c := range []struct {
		name   string
		h      func(codec.Server)
		kind   codec.Kind
		remote bool
		code   xhttp2.ErrCode
	}{
		{"refused", func(x codec.Server) { x.Abort(codec.AbortRefused) }, codec.Refused, true, xhttp2.ErrCodeRefusedStream},
		{"cancelled", func(x codec.Server) { x.Abort(errors.New("any")) }, codec.Reset, true, xhttp2.ErrCodeCancel},
		{"internal", func(x codec.Server) { x.Abort(codec.AbortInternal) }, codec.Reset, true, xhttp2.ErrCodeInternal},
		{"no answer", func(codec.Server) {}, codec.Reset, true, xhttp2.ErrCodeInternal},
		{"silent", func(codec.Server) { <-hold }, codec.Timeout, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "silent" {
				defer once.Do(func() { close(hold) })
			}
			cc, _ := start(t, c.h)
			x := cc.Open()
			defer x.Release()
			must(t, x.WriteHead(ask, codec.End))
			if c.kind == codec.Timeout {
				must(t, x.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			}
			_, err := x.ReadHead()
			var e *codec.Error
			if !errors.As(err, &e) || e.Kind != c.kind || e.Remote != c.remote || e.Code != uint32(c.code) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestConnectionEnds(t *testing.T) {
	var s *ServerConn
	release := make(chan struct{})
	c, s := start(t, func(x codec.Server) {
		if x.Head().Target == "/half" {
			must(t, x.WriteHead(&codec.ResponseHead{Status: 200, Length: -1}, 0))
		}
		<-release
	})
	defer close(release)
	x, y := c.Open(), c.Open()
	must(t, x.WriteHead(ask, codec.End))
	half := *ask
	half.Target = "/half"
	must(t, y.WriteHead(&half, codec.End))
	_, err := y.ReadHead()
	must(t, err)
	_ = s.c.NetConn().Close()
	if _, err := x.ReadHead(); codec.KindOf(err) != codec.ConnClosed {
		t.Errorf("before a response: %v", err)
	}
	if _, err := y.Read(make([]byte, 1)); codec.KindOf(err) != codec.Truncated {
		t.Errorf("in a response: %v", err)
	}
	x.Release()
	y.Release()
	<-c.Done()
	z := c.Open()
	if err := z.WriteHead(ask, codec.End); codec.KindOf(err) != codec.Refused || z.Sent() != 0 {
		t.Errorf("on a closed connection: %v, sent %d", err, z.Sent())
	}
	z.Release()
	if c.Usable() {
		t.Error("a closed connection is usable")
	}
}

func TestDrain(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	c, s := start(t, func(x codec.Server) {
		close(inside)
		<-release
		must(t, x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End))
	})
	x := c.Open()
	must(t, x.WriteHead(ask, codec.End))
	<-inside
	s.SetDraining()
	s.SetDraining()
	close(release)
	h, err := x.ReadHead()
	must(t, err)
	if h.Status != 204 {
		t.Errorf("status %d", h.Status)
	}
	x.Release()
	<-c.Done()
}

// An answer before the whole request stands, and the rest is waved off.
func TestEarlyAnswer(t *testing.T) {
	c, _ := start(t, func(x codec.Server) {
		must(t, x.WriteHead(&codec.ResponseHead{Status: 413, Length: 3}, codec.More))
		must(t, x.WriteBody([]byte("big"), codec.End))
	})
	x := c.Open()
	defer x.Release()
	must(t, x.WriteHead(&codec.RequestHead{Method: "POST", Authority: "a", Target: "/", Length: -1}, 0))
	h, err := x.ReadHead()
	must(t, err)
	if h.Status != 413 || h.Length != 3 || readAll(t, x) != "big" {
		t.Errorf("%+v", h)
	}
}

func TestHeadAndBare(t *testing.T) {
	c, _ := start(t, func(x codec.Server) {
		switch x.Head().Target {
		case "/304":
			must(t, x.WriteHead(&codec.ResponseHead{Status: 304, Fields: fields("content-length", "7")}, 0))
		case "/204":
			must(t, x.WriteHead(&codec.ResponseHead{Status: 204, Fields: fields("content-length", "7")}, 0))
		default:
			must(t, x.WriteHead(&codec.ResponseHead{Status: 200, Length: 7}, codec.More))
			must(t, x.WriteBody([]byte("dropped"), codec.End))
		}
	})
	for _, r := range []struct {
		method, target string
		status, fields int
	}{{"HEAD", "/", 200, 1}, {"GET", "/304", 304, 1}, {"GET", "/204", 204, 0}} {
		x := c.Open()
		must(t, x.WriteHead(&codec.RequestHead{Method: r.method, Authority: "a", Target: r.target}, codec.End))
		h, err := x.ReadHead()
		must(t, err)
		if h.Status != r.status || h.Length != 0 || len(h.Fields) != r.fields {
			t.Errorf("%s %s: %+v", r.method, r.target, h)
		}
		if b := readAll(t, x); b != "" {
			t.Errorf("body %q", b)
		}
		x.Release()
	}
}

func TestRefusals(t *testing.T) {
	c, _ := start(t, func(x codec.Server) {
		if err := x.WriteHead(&codec.ResponseHead{Status: 101, Upgrade: "websocket"}, 0); codec.KindOf(err) != codec.Protocol {
			t.Errorf("101: %v", err)
		}
		if err := x.WriteHead(&codec.ResponseHead{Status: 200, Fields: fields("a", "b\r\nc: d")}, 0); codec.KindOf(err) != codec.Protocol {
			t.Errorf("CR: %v", err)
		}
		must(t, x.WriteHead(&codec.ResponseHead{Status: 200}, codec.End))
	})
	for name, h := range map[string]codec.RequestHead{
		"upgrade": {Method: "GET", Authority: "a", Target: "/", Upgrade: "websocket"},
		"connect": {Method: "CONNECT", Authority: "a:1", Target: "a:1"},
		"field":   {Method: "GET", Authority: "a", Target: "/", Fields: fields("A", "b")},
		"target":  {Method: "GET", Authority: "a", Target: "/ b"},
	} {
		x := c.Open()
		if err := x.WriteHead(&h, codec.End); codec.KindOf(err) != codec.Protocol || x.Sent() != 0 {
			t.Errorf("%s: %v", name, err)
		}
		x.Release()
	}
	x := c.Open()
	must(t, x.WriteHead(ask, codec.End))
	_, err := x.ReadHead()
	must(t, err)
	x.Release()

	// A head that only this layer refuses is answered, not handed on.
	st, err := c.c.Open(&h2.Head{Method: "GET", Scheme: "http", Authority: "a:b", Path: "/"}, h2.End)
	must(t, err)
	h, err := st.ReadHead()
	must(t, err)
	if h.Status != 400 {
		t.Errorf("status %d", h.Status)
	}
	_ = st.Close()
}
