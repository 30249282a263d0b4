package h2

import (
	"testing"

	"golang.org/x/net/http2/hpack"

	"waypoint.dev/waypoint/internal/attrs"
)

func field(name, value string) attrs.Field { return attrs.Field{Name: name, Value: value} }

// TestEncode checks blocks byte for byte where that matters, and by decoding.
func TestEncode(t *testing.T) {
	tests := []struct {
		h    Head
		want string
	}{
		{Head{Status: 200}, "\x88"},
		{Head{Status: 431}, "\x08\x03431"},
		{Head{Method: "GET", Scheme: "http", Path: "/", Authority: "a"}, "\x82\x86\x84\x01\x01a"},
		{Head{Method: "CONNECT", Authority: "a:1"}, "\x02\x07CONNECT\x01\x03a:1"},
		{Head{Fields: []attrs.Field{field("cookie", "c")}}, "\x1f\x11\x01c"},
		{Head{Fields: []attrs.Field{field("x", "y")}}, "\x00\x01x\x01y"},
	}
	for _, tt := range tests {
		if got := string(appendBlock(nil, &tt.h)); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.h, got, tt.want)
		}
	}
	long := make([]byte, 300)
	for i := range long {
		long[i] = 'v'
	}
	h := Head{Method: "PUT", Scheme: "https", Path: "/p?q", Authority: "b", Protocol: "websocket",
		Fields: []attrs.Field{field("content-type", string(long)), field("authorization", "s")}}
	fields, err := hpack.NewDecoder(0, nil).DecodeFull(appendBlock(nil, &h))
	if err != nil || len(fields) != 7 {
		t.Fatalf("%v, %v", fields, err)
	}
	if fields[5].Value != string(long) || !fields[6].Sensitive || fields[5].Sensitive {
		t.Errorf("%v", fields)
	}
	if n := headSize(&h); n < len(appendBlock(nil, &h)) {
		t.Errorf("headSize %d is too small", n)
	}
}

// TestStaticTable holds staticNames to the table of the hpack package.
func TestStaticTable(t *testing.T) {
	for name, idx := range staticNames {
		fields, err := hpack.NewDecoder(0, nil).DecodeFull([]byte{0x80 | idx})
		if err != nil || fields[0].Name != name {
			t.Errorf("%s is not entry %d: %v, %v", name, idx, fields, err)
		}
	}
	for _, code := range []int{200, 204, 206, 304, 400, 404, 500} {
		fields, err := hpack.NewDecoder(0, nil).DecodeFull(appendBlock(nil, &Head{Status: code}))
		if err != nil || len(fields) != 1 || len(fields[0].Value) != 3 {
			t.Errorf("%d: %v, %v", code, fields, err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	h := Head{Method: "POST", Scheme: "http", Path: "/pkg.Service/Method", Authority: "service.ns.svc.cluster.local",
		Fields: []attrs.Field{field("content-type", "application/grpc"), field("te", "trailers"), field("user-agent", "grpc-go/1.80"),
			field("x-request-id", "0123456789abcdef")}}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendBlock(buf[:0], &h)
	}
}
