package grpcweb

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// sink is a codec.Server that keeps what is written.
type sink struct {
	codec.Server // nil: nothing else is called
	in           io.Reader
	head         *codec.ResponseHead
	body         bytes.Buffer
	ended        bool
}

func (s *sink) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *sink) WriteHead(h *codec.ResponseHead, f codec.Flags) error {
	c := *h
	c.Fields = append([]attrs.Field(nil), h.Fields...)
	s.head, s.ended = &c, f&codec.End != 0
	return nil
}

func (s *sink) WriteBody(p []byte, f codec.Flags) error {
	s.body.Write(p)
	s.ended = f&codec.End != 0
	return nil
}

func code(status int) int { return status }

func escape(dst []byte, s string) []byte { return append(dst, "<"+s+">"...) }

func newServer(in, contentType, accept string) (*Server, *sink) {
	k := &sink{in: strings.NewReader(in)}
	s := new(Server)
	s.Wrap(k, []attrs.Field{{Name: "content-type", Value: contentType}, {Name: "accept", Value: accept}}, code, escape)
	return s, k
}

// message is a gRPC message of n bytes.
func message(n int) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(n))
	for i := range n {
		b = append(b, byte(i*7))
	}
	return b
}

func TestIs(t *testing.T) {
	for ct, want := range map[string]bool{
		"application/grpc-web": true, "application/grpc-web+proto": true,
		"application/grpc-web-text": true, "application/grpc-web-text+proto": true,
		"application/grpc": false, "application/grpc+proto": false, "": false,
		"application/grpc-web+json": false, "application/grpc-web; x=y": false, "Application/grpc-web": false,
	} {
		if Is(ct) != want {
			t.Errorf("%q: %v", ct, !want)
		}
	}
}

func TestRequest(t *testing.T) {
	fs := Request([]attrs.Field{{Name: "content-type", Value: web}, {Name: "content-length", Value: "5"}, {Name: "x-a", Value: "b"}})
	want := []attrs.Field{{Name: "content-type", Value: "application/grpc"}, {Name: "x-a", Value: "b"}, {Name: "grpc-accept-encoding", Value: "identity"}}
	if len(fs) != len(want) {
		t.Fatal(fs)
	}
	for i := range want {
		if fs[i] != want[i] {
			t.Errorf("%v, want %v", fs[i], want[i])
		}
	}
	fs = Request([]attrs.Field{{Name: "content-type", Value: web}, {Name: "grpc-accept-encoding", Value: "gzip"}})
	if v, _ := find(fs, "grpc-accept-encoding"); v != "gzip" || len(fs) != 2 {
		t.Error(fs)
	}
}

func TestReadText(t *testing.T) {
	one, two := message(5), message(4)
	each := base64.StdEncoding.EncodeToString(one) + base64.StdEncoding.EncodeToString(two)
	both := append(append([]byte(nil), one...), two...)
	for _, tt := range []struct {
		name, in string
		want     []byte
		err      error
	}{
		{"whole", base64.StdEncoding.EncodeToString(both), both, nil},
		{"each message padded", each, both, nil},
		{"empty", "", nil, nil},
		{"no padding", "YWI", nil, ErrSize},
		{"foreign character", "YW*j", nil, ErrData},
		{"url alphabet", "-_-_", nil, ErrData},
		{"padding alone", "====", nil, ErrData},
		{"padding inside", "Y=Jj", nil, ErrData},
		{"bits left over", "YWJ=", nil, ErrData},
		{"line break", "YWJj\r\n\r\nYWJj", nil, ErrData},
	} {
		for mode, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "end with data": iotest.DataErrReader,
		} {
			for _, size := range []int{1, 2, 3, 4, 5, 1024} {
				s, k := newServer("", text, "")
				k.in = wrap(strings.NewReader(tt.in))
				var got []byte
				var err error
				for p := make([]byte, size); err == nil; {
					var n int
					n, err = s.Read(p)
					got = append(got, p[:n]...)
				}
				if tt.err == nil && (err != io.EOF || !bytes.Equal(got, tt.want)) {
					t.Errorf("%s, %s, %d: %q %v", tt.name, mode, size, got, err)
				}
				var ce *codec.Error
				if tt.err != nil && (!errors.Is(err, tt.err) || !errors.As(err, &ce) || ce.Kind != codec.Protocol || ce.Status != 400 || Details(err) != tt.err.Error()) {
					t.Errorf("%s, %s, %d: %v", tt.name, mode, size, err)
				}
			}
		}
	}
	if Details(io.EOF) != "" {
		t.Error("any error has details")
	}
}

// What was read before the body is known to be text is decoded with the rest.
func TestDecode(t *testing.T) {
	body := message(50)
	in := base64.StdEncoding.EncodeToString(body)
	for cut := 1; cut <= len(in); cut++ {
		s, _ := newServer(in[cut:], text, "")
		got := make([]byte, cut+Carry)
		n, err := s.Decode(got, []byte(in[:cut]), cut == len(in))
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(append(got[:n], rest...), body) {
			t.Errorf("cut at %d: %q %v", cut, append(got[:n], rest...), err)
		}
	}
	s, _ := newServer("", text, "")
	if _, err := s.Decode(make([]byte, 9), []byte("YWJjYW"), true); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
	if _, err := s.Decode(make([]byte, 9), []byte("*"), false); err != nil {
		t.Error(err)
	}
	if _, err := s.Decode(make([]byte, 9), []byte("abc"), false); !errors.Is(err, ErrData) {
		t.Error(err)
	}
	s, _ = newServer("", webProto, "")
	if n, err := s.Decode(make([]byte, 9), []byte("\x00*"), true); n != 2 || err != nil {
		t.Error(n, err)
	}
}

func TestReadBinary(t *testing.T) {
	s, _ := newServer("\x00\x01=", webProto, "")
	if b, err := io.ReadAll(s); string(b) != "\x00\x01=" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

// respond writes a gRPC response in pieces of some size and returns the body.
func respond(t *testing.T, accept string, body []byte, size int, trailers []attrs.Field) (string, *sink) {
	t.Helper()
	s, k := newServer("", web, accept)
	if err := s.WriteHead(&codec.ResponseHead{Status: 200, Length: 9, Fields: []attrs.Field{{Name: "content-type", Value: "application/grpc"}, {Name: "content-length", Value: "9"}}}, codec.More); err != nil {
		t.Fatal(err)
	}
	for len(body) > 0 {
		n := min(size, len(body))
		if err := s.WriteBody(body[:n], codec.More); err != nil {
			t.Fatal(err)
		}
		body = body[n:]
	}
	if err := s.WriteTrailers(trailers); err != nil {
		t.Fatal(err)
	}
	if !k.ended {
		t.Error("the body does not end")
	}
	return k.body.String(), k
}

func TestRespond(t *testing.T) {
	body := append(append(message(0), message(7)...), message(30000)...)
	trailers := []attrs.Field{{Name: "grpc-status", Value: "0"}, {Name: "x-a", Value: "b c"}}
	frame := "\x80\x00\x00\x00\x1egrpc-status:0\r\nx-a:b c\r\n"
	frame = frame[:4] + string(rune(len(frame)-5)) + frame[5:]
	for _, size := range []int{1, 3, 5, 100, 1 << 20} {
		got, k := respond(t, "", body, size, trailers)
		if got != string(body)+frame {
			t.Errorf("%d: %d bytes, want %d", size, len(got), len(body)+len(frame))
		}
		if ct, _ := find(k.head.Fields, "content-type"); ct != webProto || len(k.head.Fields) != 1 || k.head.Length != codec.LengthUnknown {
			t.Errorf("head %+v", k.head)
		}
		// As Envoy writes it: each message and the trailers encoded by themselves.
		want := ""
		for _, m := range [][]byte{message(0), message(7), message(30000), []byte(frame)} {
			want += base64.StdEncoding.EncodeToString(m)
		}
		got, k = respond(t, text, body, size, trailers)
		if ct, _ := find(k.head.Fields, "content-type"); got != want || ct != textProto {
			t.Errorf("text, %d: %d bytes, want %d, %s", size, len(got), len(want), ct)
		}
	}
}

// A message that is complete can be decoded at once, whatever follows.
func TestMessageNotHeldBack(t *testing.T) {
	s, k := newServer("", text, textProto)
	s.WriteHead(&codec.ResponseHead{Status: 200, Fields: []attrs.Field{{Name: "content-type", Value: "application/grpc+proto"}}}, 0)
	m := append(message(2), message(100)[:50]...)
	s.WriteBody(m, 0)
	if want := base64.StdEncoding.EncodeToString(message(2)); !strings.HasPrefix(k.body.String(), want) || k.body.Len() < len(want)+64 {
		t.Errorf("%d characters are there", k.body.Len())
	}
	s.WriteBody(nil, codec.End) // cut: what came is told
	if k.body.Len()%4 != 0 || !k.ended {
		t.Errorf("%d characters", k.body.Len())
	}
}

func TestNoGRPC(t *testing.T) {
	for _, tt := range []struct {
		name   string
		head   codec.ResponseHead
		body   string
		end    codec.Flags // of the head
		status string      // grpc-status
		msg    string
	}{
		{name: "page", head: codec.ResponseHead{Status: 503, Length: 4, Fields: []attrs.Field{{Name: "content-type", Value: "text/html"}, {Name: "content-length", Value: "4"}}}, body: "oops", status: "503", msg: "<oops>"},
		{name: "status of an error with the type of gRPC", head: codec.ResponseHead{Status: 500, Fields: []attrs.Field{{Name: "content-type", Value: "application/grpc"}}}, body: "x", status: "500", msg: "<x>"},
		{name: "no type", head: codec.ResponseHead{Status: 200}, body: "x", status: "200", msg: "<x>"},
		{name: "empty body", head: codec.ResponseHead{Status: 200}, status: "200"},
		{name: "cut", head: codec.ResponseHead{Status: 404}, body: strings.Repeat("a", MaxMessage+5), status: "404", msg: "<" + strings.Repeat("a", MaxMessage) + ">"},
		{name: "head alone", head: codec.ResponseHead{Status: 404}, end: codec.End},
		{name: "trailers-only", head: codec.ResponseHead{Status: 200, Fields: []attrs.Field{{Name: "grpc-status", Value: "5"}, {Name: "content-type", Value: "application/grpc"}}}, end: codec.End, status: "5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, k := newServer("", web, "")
			if err := s.WriteHead(&tt.head, tt.end); err != nil {
				t.Fatal(err)
			}
			if tt.end == 0 {
				if k.head != nil {
					t.Fatal("the head is not held")
				}
				for b := tt.body; b != ""; b = b[min(len(b), 7000):] {
					s.WriteBody([]byte(b[:min(len(b), 7000)]), 0)
				}
				if strings.HasPrefix(tt.name, "page") {
					s.WriteTrailers(nil)
				} else {
					s.WriteBody(nil, codec.End)
				}
			}
			status, _ := find(k.head.Fields, "grpc-status")
			msg, _ := find(k.head.Fields, "grpc-message")
			ct, _ := find(k.head.Fields, "content-type")
			if k.head.Status != tt.head.Status || status != tt.status || msg != tt.msg || ct != webProto || !k.ended || k.body.Len() != 0 || k.head.Length != codec.LengthNone {
				t.Errorf("%+v, ended %v, body %q", k.head, k.ended, k.body.String())
			}
		})
	}
	s, k := newServer("", web, "")
	s.WriteHead(&codec.ResponseHead{Status: 100}, 0)
	if k.head == nil || len(k.head.Fields) != 0 {
		t.Error("100 (Continue) is not passed on as it is")
	}
	// A backend that speaks gRPC-Web is passed on.
	s, k = newServer("", web, "")
	s.WriteHead(&codec.ResponseHead{Status: 200, Fields: []attrs.Field{{Name: "content-type", Value: "application/GRPC-web ; a=b"}}}, 0)
	s.WriteBody([]byte("x"), codec.End)
	if k.body.String() != "x" {
		t.Error("the body of a gRPC-Web backend is lost")
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var body []byte
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 9000), 1, 4).Draw(t, "messages") {
			body = append(body, message(n)...)
		}
		var enc encoder
		var out []byte
		for p := body; len(p) > 0; {
			n := min(rapid.IntRange(1, 8000).Draw(t, "piece"), len(p))
			out = enc.append(out, p[:n])
			p = p[n:]
		}
		if enc.held != 0 || len(out) > room(len(body)) {
			t.Fatalf("%d held, %d characters in a room of %d", enc.held, len(out), room(len(body)))
		}
		n, ok := decode(out)
		if !ok || !bytes.Equal(out[:n], body) {
			t.Fatalf("%d of %d bytes, %v", n, len(body), ok)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "AAAA", "AAAAAAU=", "YQ==YWI=", "YWJ=", "*", "AAA"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		// The standard library takes what is encoded at once: ours takes that too,
		// but for line breaks.
		std, err := base64.StdEncoding.Strict().DecodeString(string(in))
		b := append([]byte(nil), in...)
		n, ok := decode(b[:len(b)/4*4])
		if err == nil && !bytes.ContainsAny(in, "\r\n") && (!ok || !bytes.Equal(b[:n], std)) {
			t.Errorf("%q: %v", in, ok)
		}
		if n > len(in)/4*3 {
			t.Errorf("%d bytes of %d characters", n, len(in))
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{100, 100000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			m := message(n)
			out := make([]byte, 0, room(len(m)))
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				var e encoder
				out = e.append(out[:0], m)
			}
		})
	}
}
