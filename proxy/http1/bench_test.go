package http1

import (
	"io"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

// loop is a connection whose peer says the same thing again for every head.
type loop struct {
	script
	msg []byte
}

func (l *loop) Read(p []byte) (int, error) {
	if l.pos == len(l.msg) {
		l.pos = 0
	}
	n := copy(p, l.msg[l.pos:])
	l.pos += n
	return n, nil
}
func (l *loop) Write(p []byte) (int, error) { return len(p), nil }
func (l *loop) WaitReadable() error         { return nil }

const browser = "GET /api/items/42?fields=a,b HTTP/1.1\r\nHost: shop.default.svc.cluster.local\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"X-Request-Id: 6f0d5d5c-21b4-4a65-9b0b-0c1fd5a9cf33\r\nX-Forwarded-For: 10.1.2.3\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nCookie: session=0123456789abcdef\r\nConnection: keep-alive\r\n\r\n"

var kilobyte = make([]byte, 1024)

func serveOnce(s *ServerConn, h *codec.ResponseHead) error {
	x, err := s.Next()
	if err != nil {
		return err
	}
	if err := x.WriteHead(h, codec.More); err != nil {
		return err
	}
	return x.WriteBody(kilobyte, codec.End)
}

var okHead = &codec.ResponseHead{Status: 200, Length: 1024, Fields: []attrs.Field{{Name: "content-type", Value: "application/json"}, {Name: "server", Value: "istio-envoy"}, {Name: "date", Value: "Sat, 21 Nov 2026 04:00:00 GMT"}}}

var askHead = &codec.RequestHead{Method: "GET", Target: "/api/items/42", Authority: "shop", Fields: []attrs.Field{{Name: "accept", Value: "application/json"}, {Name: "x-request-id", Value: "6f0d5d5c-21b4-4a65-9b0b-0c1fd5a9cf33"}}}

func askOnce(cc *ClientConn, p []byte) error {
	x := cc.Client()
	defer x.Release()
	if err := x.WriteHead(askHead, codec.End); err != nil {
		return err
	}
	if _, err := x.ReadHead(); err != nil {
		return err
	}
	for {
		if _, err := x.Read(p); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var kilobyteReply = append([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 21 Nov 2026 04:00:00 GMT\r\nContent-Length: 1024\r\n\r\n"), make([]byte, 1024)...)

var chunkedReply = append(append([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n"), make([]byte, 1024)...), "\r\n0\r\nx-t: v\r\n\r\n"...)

// A warm connection serves and asks without allocating.
func TestAllocs(t *testing.T) {
	buf.SetPoison(false)
	defer buf.SetPoison(true)
	s := NewServerConn(&loop{msg: []byte(browser)}, ServerOptions{})
	chunky := NewServerConn(&loop{msg: []byte(browser)}, ServerOptions{})
	a := NewClientConn(&loop{msg: kilobyteReply}, ClientOptions{})
	b := NewClientConn(&loop{msg: chunkedReply}, ClientOptions{})
	p := make([]byte, 4096)
	unknown := &codec.ResponseHead{Status: 200, Length: codec.LengthUnknown}
	for name, f := range map[string]func() error{
		"server":         func() error { return serveOnce(s, okHead) },
		"server chunked": func() error { return serveOnce(chunky, unknown) },
		"client":         func() error { return askOnce(a, p) },
		"client chunked": func() error { return askOnce(b, p) },
	} {
		n := testing.AllocsPerRun(200, func() {
			if err := f(); err != nil {
				t.Fatal(name, err)
			}
		})
		// The race detector makes sync.Pool drop at random.
		if n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkServerExchange(b *testing.B) {
	buf.SetPoison(false)
	s := NewServerConn(&loop{msg: []byte(browser)}, ServerOptions{})
	b.ReportAllocs()
	for b.Loop() {
		if err := serveOnce(s, okHead); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClientExchange(b *testing.B) {
	buf.SetPoison(false)
	cc := NewClientConn(&loop{msg: kilobyteReply}, ClientOptions{})
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if err := askOnce(cc, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseRequest is the parser alone: 9 fields, 430 octets.
func BenchmarkParseRequest(b *testing.B) {
	raw := []byte(browser)
	s := &scratch{fields: make([]attrs.Field, 0, 24), conns: make([]string, 0, 4)}
	var h codec.RequestHead
	var f framing
	l := newLimits(0, 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		var sc scan
		n, _ := sc.next(raw, &l, false)
		if err := parseRequest(raw[:n], sc.first, &h, &f, s, false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteHead is the serializer alone.
func BenchmarkWriteHead(b *testing.B) {
	buf.SetPoison(false)
	x := &server{head: codec.RequestHead{Version: codec.HTTP11}}
	b.ReportAllocs()
	for b.Loop() {
		x.out.w = 0
		if err := x.final(okHead, 0); err != nil {
			b.Fatal(err)
		}
	}
}
