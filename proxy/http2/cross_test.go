package http2

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http1"
)

type tcp struct{ *net.TCPConn }

func (c tcp) Reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// relay copies one exchange as the pipeline does.
func relay(x codec.Server, y codec.Client) error {
	defer y.Release()
	in := *x.Head()
	f := codec.Flags(0)
	if in.Length == 0 {
		f = codec.End
	}
	if err := y.WriteHead(&in, f); err != nil {
		return err
	}
	if in.Length != 0 {
		b, err := io.ReadAll(x)
		if err != nil {
			return err
		}
		if err := y.WriteBody(b, codec.More); err != nil {
			return err
		}
		if err := y.WriteTrailers(x.Trailers()); err != nil {
			return err
		}
	}
	h, err := y.ReadHead()
	for ; err == nil && h.Status < 200; h, err = y.ReadHead() {
		if err := x.WriteHead(h, 0); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	out := *h
	out.Close = false
	if err := x.WriteHead(&out, codec.More); err != nil {
		return err
	}
	b, err := io.ReadAll(y)
	if err != nil {
		return err
	}
	if err := x.WriteBody(b, codec.More); err != nil {
		return err
	}
	return x.WriteTrailers(y.Trailers())
}

// echo answers with what it saw.
func echo(x codec.Server) {
	h := x.Head()
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s %s%s len=%d te=%v", h.Method, h.Scheme, h.Authority, h.Target, h.Length, h.Trailers)
	for _, f := range h.Fields {
		fmt.Fprintf(&s, " %s=%s", f.Name, f.Value)
	}
	b, err := io.ReadAll(x)
	fmt.Fprintf(&s, " body=%q", b)
	for _, f := range x.Trailers() {
		fmt.Fprintf(&s, " trailer %s=%s", f.Name, f.Value)
	}
	if err != nil {
		fmt.Fprintf(&s, " %v", err)
	}
	saw := attrs.Field{Name: "saw", Value: s.String()}
	switch {
	case strings.HasPrefix(h.Target, "/trailers"):
		_ = x.WriteHead(&codec.ResponseHead{Status: 103, Fields: []attrs.Field{{Name: "link", Value: "l"}}}, 0)
		_ = x.WriteHead(&codec.ResponseHead{Status: 200, Length: -1, Fields: []attrs.Field{saw}}, codec.More)
		_ = x.WriteBody([]byte("data"), 0)
		_ = x.WriteTrailers([]attrs.Field{{Name: "grpc-status", Value: "0"}})
	case h.Target == "/204":
		_ = x.WriteHead(&codec.ResponseHead{Status: 204, Fields: []attrs.Field{saw}}, codec.End)
	default:
		_ = x.WriteHead(&codec.ResponseHead{Status: 200, Length: 4, Fields: []attrs.Field{saw}}, codec.More)
		_ = x.WriteBody([]byte("data"), codec.End)
	}
}

// dial starts a server of the version with handler and returns a client opener.
func dial(t *testing.T, v codec.Version, handler func(codec.Server)) (open func() codec.Client, end func()) {
	a, b := pair(t)
	done := make(chan struct{})
	if v == codec.HTTP2 {
		s := NewServerConn(b, h2.Config{}, handler)
		go func() {
			defer close(done)
			_ = s.Serve()
		}()
		c := NewClientConn(a, h2.Config{}, nil)
		return c.Open, func() {
			_ = c.Close()
			<-c.Done()
			<-done
		}
	}
	s := http1.NewServerConn(tcp{b.(*net.TCPConn)}, http1.ServerOptions{})
	go func() {
		defer close(done)
		defer s.Close()
		for {
			x, err := s.Next()
			if err != nil {
				return
			}
			handler(x)
		}
	}()
	c := http1.NewClientConn(tcp{a.(*net.TCPConn)}, http1.ClientOptions{})
	return c.Client, func() {
		_ = c.Close()
		<-done
	}
}

// A message means the same behind any pair of versions.
func TestCrossVersion(t *testing.T) {
	versions := []codec.Version{codec.HTTP11, codec.HTTP2}
	type msg struct {
		head     codec.RequestHead
		body     string
		trailers []attrs.Field
		want     string
	}
	msgs := []msg{
		{head: codec.RequestHead{Method: "GET", Target: "/a?b", Fields: fields("x", "y", "cookie", "a=1; b=2")}, want: `200 4 saw=[GET http h:80/a?b len=0 te=false x=y cookie=a=1; b=2 body=""] "data"`},
		{head: codec.RequestHead{Method: "POST", Target: "/", Length: 5}, body: "hello", want: `200 4 saw=[POST http h:80/ len=5 te=false body="hello"] "data"`},
		{head: codec.RequestHead{Method: "POST", Target: "/trailers", Length: -1, Trailers: true}, body: "hello", trailers: fields("t", "u"), want: `103 200 -1 saw=[POST http h:80/trailers len=-1 te=true body="hello" trailer t=u] "data" grpc-status=0`},
		{head: codec.RequestHead{Method: "HEAD", Target: "/"}, want: `200 0 saw=[HEAD http h:80/ len=0 te=false body=""] content-length=[4] ""`},
		{head: codec.RequestHead{Method: "GET", Target: "/204"}, want: `204 0 saw=[GET http h:80/204 len=0 te=false body=""] ""`},
		{head: codec.RequestHead{Method: "OPTIONS", Target: "*"}, want: `200 4 saw=[OPTIONS http h:80* len=0 te=false body=""] "data"`},
		{head: codec.RequestHead{Method: "PUT", Target: "/"}, want: `200 4 saw=[PUT http h:80/ len=0 te=false body=""] "data"`},
	}
	for _, down := range versions {
		for _, up := range versions {
			t.Run(fmt.Sprintf("%d to %d", down, up), func(t *testing.T) {
				open, endUp := dial(t, up, echo)
				defer endUp()
				var one sync.Mutex // the next stream may start before Release
				ask, endDown := dial(t, down, func(x codec.Server) {
					one.Lock()
					defer one.Unlock()
					if err := relay(x, open()); err != nil {
						t.Error(err)
						x.Abort(err)
					}
				})
				defer endDown()
				for _, m := range msgs {
					x := ask()
					h := m.head
					h.Authority, h.Scheme = "h:80", "http"
					f := codec.Flags(0)
					if h.Length == 0 {
						f = codec.End
					}
					must(t, x.WriteHead(&h, f))
					if h.Length != 0 {
						must(t, x.WriteBody([]byte(m.body), 0))
						must(t, x.WriteTrailers(m.trailers))
					}
					if got := render(t, x); got != m.want {
						t.Errorf("got  %s\nwant %s", got, m.want)
					}
					x.Release()
				}
			})
		}
	}
}

func render(t *testing.T, x codec.Client) string {
	var out strings.Builder
	for {
		h, err := x.ReadHead()
		must(t, err)
		fmt.Fprintf(&out, "%d ", h.Status)
		if h.Status < 200 {
			continue
		}
		fmt.Fprintf(&out, "%d ", h.Length)
		for _, f := range h.Fields {
			fmt.Fprintf(&out, "%s=[%s] ", f.Name, f.Value)
		}
		break
	}
	fmt.Fprintf(&out, "%q", readAll(t, x))
	for _, f := range x.Trailers() {
		fmt.Fprintf(&out, " %s=%s", f.Name, f.Value)
	}
	return out.String()
}
