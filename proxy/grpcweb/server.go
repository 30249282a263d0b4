package grpcweb

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

const (
	// MaxMessage is how much of the body of a response that is no gRPC becomes its
	// grpc-message (Envoy: MAX_BUFFERED_PLAINTEXT_LENGTH).
	MaxMessage = 16384
	// trailerFlag marks the frame of the trailers (PROTOCOL-WEB.md).
	trailerFlag = 0x80
	// piece is how much of a body is encoded at once.
	piece = 8 << 10
)

// Server is a codec.Server whose client speaks gRPC-Web.
type Server struct {
	codec.Server

	// fixed behind Wrap
	code    func(status int) int // grpc-status of an HTTP status
	escape  func(dst []byte, s string) []byte
	textIn  bool
	textOut bool

	dec decoder // owned by the reader
	enc encoder // owned by the writer

	held *codec.ResponseHead // owned by the writer: of a response that is no gRPC
	text []byte              // owned by the writer: its body
}

var (
	_ codec.Server  = (*Server)(nil)
	_ codec.Watcher = (*Server)(nil)
)

// Wrap makes s the client's side of a request whose fields are fs. code maps the
// status of a response that is no gRPC, escape encodes its grpc-message. s can be
// used for one exchange after another.
func (s *Server) Wrap(srv codec.Server, fs []attrs.Field, code func(status int) int, escape func(dst []byte, s string) []byte) {
	ct, _ := find(fs, "content-type")
	accept, _ := find(fs, "accept")
	*s = Server{Server: srv, code: code, escape: escape, textIn: isText(ct), textOut: isText(accept)}
}

// Reset lets go of the exchange.
func (s *Server) Reset() { *s = Server{} }

// OnGone implements codec.Watcher where the server in s does.
func (s *Server) OnGone(f func()) {
	if w, ok := s.Server.(codec.Watcher); ok {
		w.OnGone(f)
	}
}

// Read returns the body as gRPC. A body that is no base64 is a protocol error of
// status 400 that wraps ErrSize or ErrData.
func (s *Server) Read(p []byte) (int, error) {
	if !s.textIn {
		return s.Server.Read(p)
	}
	return s.dec.read(s.Server.Read, p)
}

// Decode is Read of a piece of the body that was read before Wrap, into dst, which
// has room for Carry bytes more. last says that the body ends behind it.
func (s *Server) Decode(dst, p []byte, last bool) (int, error) {
	if !s.textIn {
		return copy(dst, p), nil
	}
	return s.dec.feed(dst, p, last)
}

// WriteHead writes the head of a gRPC response, and keeps that of another one
// until its body is known.
func (s *Server) WriteHead(h *codec.ResponseHead, f codec.Flags) error {
	if h.Status < 200 {
		return s.Server.WriteHead(h, f)
	}
	alone := f&codec.End != 0
	plain := !gRPC(h.Status, h.Fields, alone)
	ct := webProto
	if s.textOut {
		ct = textProto
	}
	h.Fields = retype(h.Fields, ct)
	if alone || !plain {
		if !alone {
			h.Length = codec.LengthUnknown
		}
		return s.Server.WriteHead(h, f)
	}
	// What the head borrows may be gone when the body ends.
	c := *h
	c.Fields = make([]attrs.Field, len(h.Fields), len(h.Fields)+2)
	for i, x := range h.Fields {
		c.Fields[i] = attrs.Field{Name: strings.Clone(x.Name), Value: strings.Clone(x.Value)}
	}
	s.held = &c
	return nil
}

// WriteBody writes a piece of the body.
func (s *Server) WriteBody(p []byte, f codec.Flags) error {
	switch {
	case s.held != nil:
		s.text = append(s.text, p[:min(len(p), MaxMessage-len(s.text))]...)
		if f&codec.End == 0 {
			return nil
		}
		return s.writeHeld()
	case !s.textOut:
		return s.Server.WriteBody(p, f)
	}
	for len(p) > piece {
		if err := s.encode(p[:piece], codec.More); err != nil {
			return err
		}
		p = p[piece:]
	}
	return s.encode(p, f)
}

func (s *Server) encode(p []byte, f codec.Flags) error {
	b := buf.Take(room(len(p)))
	defer b.Release()
	out := s.enc.append(b.B[:0], p)
	if f&codec.End != 0 {
		out = s.enc.end(out) // in the middle of a message: there is no more of it
	}
	if len(out) == 0 && f == codec.More {
		return nil
	}
	return s.Server.WriteBody(out, f)
}

// WriteTrailers writes the trailers as the last frame of the body.
func (s *Server) WriteTrailers(t []attrs.Field) error {
	if s.held != nil {
		return s.writeHeld()
	}
	n := 0
	for i := range t {
		n += len(t[i].Name) + len(t[i].Value) + len(":\r\n")
	}
	b := buf.Take(len(s.enc.frame.prefix) + n)
	defer b.Release()
	out := binary.BigEndian.AppendUint32(append(b.B[:0], trailerFlag), uint32(n))
	for i := range t {
		out = append(append(append(append(out, t[i].Name...), ':'), t[i].Value...), "\r\n"...)
	}
	if s.textOut {
		e := buf.Take(room(len(out)))
		defer e.Release()
		out = base64.StdEncoding.AppendEncode(s.enc.end(e.B[:0]), out)
	}
	return s.Server.WriteBody(out, codec.End)
}

// writeHeld answers with what a response that is no gRPC comes to.
func (s *Server) writeHeld() error {
	h := s.held
	s.held = nil
	h.Fields = append(h.Fields, attrs.Field{Name: "grpc-status", Value: strconv.Itoa(s.code(h.Status))})
	if len(s.text) > 0 {
		h.Fields = append(h.Fields, attrs.Field{Name: "grpc-message", Value: string(s.escape(nil, string(s.text)))})
	}
	s.text = nil
	h.Length = codec.LengthNone
	return s.Server.WriteHead(h, codec.End)
}

// retype replaces the content type and drops the length, which will be another.
func retype(fs []attrs.Field, ct string) []attrs.Field {
	out := fs[:0]
	typed := false
	for _, f := range fs {
		switch f.Name {
		case "content-type":
			if typed {
				continue
			}
			typed, f.Value = true, ct
		case "content-length":
			continue
		}
		out = append(out, f)
	}
	if !typed {
		out = append(out, attrs.Field{Name: "content-type", Value: ct})
	}
	return out
}

// Details returns why a request body was refused, empty for any other error.
func Details(err error) string {
	for _, e := range [...]error{ErrSize, ErrData} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return ""
}
