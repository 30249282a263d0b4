package http1

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"unsafe"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

// Both directions of one exchange run on goroutines of their own, the response
// head before the request's end, and each byte passes as it comes.
func TestDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{})
		cc := NewClientConn(b, ClientOptions{})
		go func() {
			defer s.Close()
			x, err := s.Next()
			if err != nil {
				t.Error(err)
				return
			}
			if err := x.WriteHead(&codec.ResponseHead{Status: 200, Length: codec.LengthUnknown}, 0); err != nil {
				t.Error(err)
			}
			lines := make(chan []byte)
			go func() {
				defer close(lines)
				p := make([]byte, 3000)
				for {
					n, err := x.Read(p)
					lines <- bytes.Clone(p[:n])
					if err != nil {
						return
					}
				}
			}()
			for l := range lines {
				if err := x.WriteBody(l, 0); err != nil {
					t.Error(err)
				}
			}
			if err := x.WriteTrailers(x.Trailers()); err != nil {
				t.Error(err)
			}
			if _, err := s.Next(); err != io.EOF {
				t.Error(err)
			}
		}()
		x := cc.Client()
		must(t, x.WriteHead(&codec.RequestHead{Method: "POST", Target: "/", Authority: "a", Length: codec.LengthUnknown}, 0))
		_, err := x.ReadHead()
		must(t, err)
		p := make([]byte, 100)
		for _, word := range []string{"one", "two"} {
			must(t, x.WriteBody([]byte(word), 0))
			n, err := x.Read(p)
			if err != nil || string(p[:n]) != word {
				t.Errorf("%q, %v", p[:n], err)
			}
		}
		big := strings.Repeat("0123456789abcdef", 20000)
		go func() {
			must(t, x.WriteBody([]byte(big), codec.More))
			must(t, x.WriteTrailers([]attrs.Field{{Name: "t", Value: "u"}}))
		}()
		got, err := io.ReadAll(x)
		if err != nil || string(got) != big || len(x.Trailers()) != 1 {
			t.Errorf("%d octets of %d, %v, %v", len(got), len(big), x.Trailers(), err)
		}
		synctest.Wait()
		x.Release()
		cc.Close()
		synctest.Wait()
		if n := buf.Outstanding(); n != 0 {
			t.Errorf("%d buffers not released", n)
		}
	})
}

// A head that nearly fills the buffer does not make the body's reads tiny.
func TestReadsBehindLargeHead(t *testing.T) {
	pad := strings.Repeat("p", inputSize-len("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nP: \r\n\r\n")-5)
	body := strings.Repeat("x", 20000)
	c := &counter{script: script{in: []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nP: " + pad + "\r\n\r\n4e20\r\n" + body + "\r\n0\r\n\r\n")}}
	s := NewServerConn(c, ServerOptions{})
	defer s.Close()
	x, err := s.Next()
	must(t, err)
	got := 0
	p := make([]byte, 2000)
	for err == nil {
		var n int
		n, err = x.Read(p)
		got += n
	}
	if err != io.EOF || got != len(body) || len(x.Head().Fields[0].Value) != len(pad) {
		t.Errorf("%d, %v", got, err)
	}
	if c.reads > 30 {
		t.Errorf("%d reads", c.reads)
	}
}

type counter struct {
	script
	reads int
}

func (c *counter) Read(p []byte) (int, error) { c.reads++; return c.script.Read(p) }

// An idle tunnel may cost 8 KiB with its goroutine's stack.
func TestIdleSize(t *testing.T) {
	if n := unsafe.Sizeof(ServerConn{}); n > 1024 {
		t.Errorf("a ServerConn has %d bytes", n)
	}
}
