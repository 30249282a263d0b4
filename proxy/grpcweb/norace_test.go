//go:build !race

package grpcweb

import (
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// discard is a codec.Server that costs nothing.
type discard struct{ codec.Server }

func (discard) WriteHead(*codec.ResponseHead, codec.Flags) error { return nil }
func (discard) WriteBody([]byte, codec.Flags) error              { return nil }

func TestAllocs(t *testing.T) {
	var s Server
	body := message(1000)
	request := []attrs.Field{{Name: "content-type", Value: text}, {Name: "accept", Value: text}}
	trailers := []attrs.Field{{Name: "grpc-status", Value: "0"}}
	fs := make([]attrs.Field, 0, 4)
	h := &codec.ResponseHead{Status: 200}
	var srv codec.Server = discard{}
	if n := testing.AllocsPerRun(100, func() {
		h.Fields = append(fs[:0], attrs.Field{Name: "content-type", Value: ContentType})
		s.Wrap(srv, request, code, escape)
		s.WriteHead(h, 0)
		s.WriteBody(body, 0)
		s.WriteTrailers(trailers)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
