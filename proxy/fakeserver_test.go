package proxy

import (
	"io"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// fakeServer is a codec.Server without anything behind it.
type fakeServer struct{ head codec.RequestHead }

func (s *fakeServer) Head() *codec.RequestHead                         { return &s.head }
func (s *fakeServer) Read([]byte) (int, error)                         { return 0, io.EOF }
func (s *fakeServer) Trailers() []attrs.Field                          { return nil }
func (s *fakeServer) WriteHead(*codec.ResponseHead, codec.Flags) error { return nil }
func (s *fakeServer) WriteBody([]byte, codec.Flags) error              { return nil }
func (s *fakeServer) WriteTrailers([]attrs.Field) error                { return nil }
func (s *fakeServer) Abort(error)                                      {}
func (s *fakeServer) SetReadDeadline(time.Time) error                  { return nil }
func (s *fakeServer) SetWriteDeadline(time.Time) error                 { return nil }
func (s *fakeServer) Received() int64                                  { return 0 }
func (s *fakeServer) Sent() int64                                      { return 0 }
