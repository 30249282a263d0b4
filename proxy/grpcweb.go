package proxy

import (
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/grpcweb"
)

// wrapWeb puts the translation of a gRPC-Web request in front of its client.
// Whatever is answered from here on goes through it, as in Envoy a local reply
// passes the filters that have seen the request.
func (x *exchange) wrapWeb() {
	ct, _ := findField(x.fields, "content-type")
	if !grpcweb.Is(ct) || x.in.Upgrade != "" || x.web {
		return
	}
	if x.translator == nil {
		x.translator = new(grpcweb.Server)
	}
	x.translator.Wrap(x.srv, x.fields, grpcCode, appendGRPCMessage)
	x.srv, x.web = x.translator, true
}

// translateWeb makes the request one of gRPC. The rule was matched before: Envoy
// keeps the route that it found for its first filter. It reports whether the
// request goes on; otherwise it is answered.
func (x *exchange) translateWeb() bool {
	if !x.web || x.grpc {
		return true
	}
	x.grpc, x.req.GRPC = true, true
	x.fields = grpcweb.Request(x.fields)
	x.req.Headers = x.fields
	x.webHead = *x.in
	x.webHead.Trailers = true // "te: trailers", which gRPC asks for
	if x.webHead.Length > 0 {
		x.webHead.Length = codec.LengthUnknown // text is shorter as gRPC
	}
	x.in = &x.webHead
	if !x.gathered.on {
		return true
	}
	if err := x.src.translate(x.translator, &x.reqCount); err != nil {
		r, _ := webRefusal(err)
		x.answer(r)
		return false
	}
	return true
}

// translate decodes what was gathered of a body, and has the rest read through s.
func (src *source) translate(s *grpcweb.Server, count *messageCount) error {
	src.mu.Lock()
	defer src.mu.Unlock()
	src.srv, src.count, src.end = s, count, 0
	for i := range src.chunks {
		c := &src.chunks[i]
		b := buf.Take(c.n + grpcweb.Carry)
		n, err := s.Decode(b.B, c.b.B[:c.n], src.eof && i == len(src.chunks)-1)
		if err != nil {
			b.Release()
			return err
		}
		c.b.Release()
		c.b, c.n = b, n
		count.add(b.B[:n])
		src.end += int64(n)
	}
	return nil
}

// webRefusal is the answer to a body that is no base64, if that is what err says.
func webRefusal(err error) (reply, bool) {
	d := grpcweb.Details(err)
	return reply{status: 400, body: grpcweb.Refusal, details: d}, d != ""
}

// unwrapWeb lets go of the client.
func (x *exchange) unwrapWeb() {
	if x.web {
		x.translator.Reset()
	}
	x.web, x.webHead = false, codec.RequestHead{}
}
