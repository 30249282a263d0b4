package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"waypoint.dev/waypoint/proxy/codec"
)

// stricter lists why net/http refuses what we accept. None is about framing.
var stricter = []string{
	"invalid URL escape", "invalid character", "invalid port", "invalid userinfo", "first path segment", "missing ']'", "invalid control", "net/url", "invalid IPv6", // it parses the target, we hand it on as sent
	"malformed Host header", "malformed HTTP request \"\"", // and does not skip an empty line
	"parse \"",
	"invalid method \"", "malformed MIME header", "bad trailer key", "http: ",
}

func known(err error) bool {
	for _, s := range stricter {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

func seeds() []string {
	var out []string
	for _, c := range malformedRequests() {
		if len(c.raw) < 1<<12 {
			out = append(out, c.raw)
		}
	}
	return append(out, get()+get(), chunked("3\r\nabc\r\n0\r\nA: b\r\n\r\n")+get(), post("Content-Length: 3", "abc")+get())
}

// FuzzRequest: what we accept, net/http frames alike, in reads of any size.
func FuzzRequest(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s), byte(0))
	}
	f.Fuzz(func(t *testing.T, raw []byte, grain byte) {
		c := &script{in: bytes.Clone(raw), grain: int(grain)}
		s := NewServerConn(c, ServerOptions{AllowHTTP10: true})
		defer s.Close()
		x, err := s.Next()
		if err != nil {
			return
		}
		method, target, n := strings.Clone(x.Head().Method), strings.Clone(x.Head().Target), x.Head().Length
		fields := len(x.Head().Fields)
		body, err := io.ReadAll(x)
		if err != nil {
			return
		}
		rest := s.in.buffered() + len(c.in) - c.pos

		if bytes.HasPrefix(raw, []byte("\r\n")) {
			raw = raw[2:] // net/http does not skip an empty line
		}
		br := bufio.NewReaderSize(bytes.NewReader(raw), 1<<20)
		req, err := http.ReadRequest(br)
		if err != nil {
			if !known(err) {
				t.Fatalf("we accept %q, net/http: %v", raw, err)
			}
			return
		}
		want, err := io.ReadAll(req.Body)
		if err != nil {
			if known(err) {
				return
			}
			t.Fatalf("we read the body of %q, net/http: %v", raw, err)
		}
		if left, _ := io.ReadAll(br); rest != len(left) {
			t.Fatalf("%q: we leave %d octets, net/http %d", raw, rest, len(left))
		}
		if req.Method != method || !bytes.Equal(body, want) || n != req.ContentLength {
			t.Fatalf("%q: %s %s %d %q against %s %d %q", raw, method, target, n, body, req.Method, req.ContentLength, want)
		}
		if fields > len(raw) {
			t.Fatal("fields from nowhere")
		}
	})
}

// FuzzResponse is the same for the client's side.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\n\r\nabc", "HTTP/1.1 204 N\r\n\r\nx", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\nT: u\r\n\r\nrest", "HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
	} {
		f.Add([]byte(s), false, byte(0))
		f.Add([]byte(s), true, byte(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, head bool, grain byte) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		c := &script{in: bytes.Clone(raw), grain: int(grain)}
		cc := NewClientConn(c, ClientOptions{})
		x := cc.Client()
		defer x.Release()
		if err := x.WriteHead(&codec.RequestHead{Method: method, Target: "/", Authority: "a"}, codec.End); err != nil {
			t.Fatal(err)
		}
		h, err := x.ReadHead()
		if err != nil || h.Status < 200 {
			return
		}
		status := h.Status
		body, err := io.ReadAll(x)
		if err != nil {
			return
		}
		rest := cc.in.buffered() + len(c.in) - c.pos

		br := bufio.NewReaderSize(bytes.NewReader(raw), 1<<20)
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			if !known(err) {
				t.Fatalf("we accept %q, net/http: %v", raw, err)
			}
			return
		}
		want, err := io.ReadAll(res.Body)
		if err != nil {
			if known(err) {
				return
			}
			t.Fatalf("we read the body of %q, net/http: %v", raw, err)
		}
		left, _ := io.ReadAll(br)
		if res.StatusCode != status || !bytes.Equal(body, want) || rest != len(left) {
			t.Fatalf("%q: %d %q +%d against %d %q +%d", raw, status, body, rest, res.StatusCode, want, len(left))
		}
	})
}

// FuzzRelay: what a server accepts and a client serializes is one well-formed
// request with the same meaning: nothing can be smuggled through both codecs.
func FuzzRelay(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := NewServerConn(&script{in: bytes.Clone(raw)}, ServerOptions{AllowHTTP10: true})
		defer s.Close()
		x, err := s.Next()
		if err != nil || x.Head().Method == "CONNECT" {
			return
		}
		body, err := io.ReadAll(x)
		if err != nil {
			return
		}
		h := *x.Head()
		c := &script{}
		y := NewClientConn(c, ClientOptions{}).Client()
		defer y.Release()
		fl := codec.Flags(0)
		if h.Length == 0 {
			fl = codec.End
		}
		if err := y.WriteHead(&h, fl); err != nil {
			t.Fatalf("%q cannot be sent: %v", raw, err)
		}
		if h.Length != 0 {
			if err := y.WriteBody(body, codec.More); err != nil {
				t.Fatal(err)
			}
			if err := y.WriteTrailers(x.Trailers()); err != nil {
				t.Fatal(err)
			}
		}
		next := &script{in: c.out}
		s2 := NewServerConn(next, ServerOptions{MaxHead: 1 << 20, MaxHeaders: 200})
		defer s2.Close()
		z, err := s2.Next()
		if err != nil {
			t.Fatalf("%q became %q: %v", raw, c.out, err)
		}
		body2, err := io.ReadAll(z)
		g := z.Head()
		if err != nil || !bytes.Equal(body, body2) || g.Method != h.Method || g.Target != h.Target || g.Authority != h.Authority || g.Upgrade != h.Upgrade || len(g.Fields) != len(h.Fields) || len(z.Trailers()) != len(x.Trailers()) {
			t.Fatalf("%q became %q: %v", raw, c.out, err)
		}
		for i := range g.Fields {
			if g.Fields[i] != h.Fields[i] {
				t.Fatalf("%q: field %v became %v", raw, h.Fields[i], g.Fields[i])
			}
		}
		if _, err := s2.Next(); err == nil || s2.in.buffered() > 0 || next.pos != len(next.in) {
			t.Fatalf("%q became more than one request: %q", raw, c.out)
		}
	})
}
