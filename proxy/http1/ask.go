package http1

import (
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

// WriteHead implements [codec.Client]. h.Close and h.Version are the client's
// affair and not passed on; h.Upgrade and h.Expect are.
func (x *client) WriteHead(h *codec.RequestHead, f codec.Flags) error {
	if x.started {
		return localError(errHeadOrder)
	}
	if x.out.err != nil || x.broken || x.aborted.Load() {
		return &codec.Error{Kind: codec.Refused, Err: errClosed}
	}
	if err := x.askHead(h, f); err != nil {
		x.out.w = 0
		return localError(err)
	}
	x.started, x.asked = true, int64(x.out.w)
	x.method = methodOther
	if h.Method == "HEAD" {
		x.method = methodHead
	}
	x.upgrade = h.Upgrade != ""
	if f&codec.More != 0 && !x.request.done {
		return nil
	}
	return x.flushed(x.out.flush())
}

// flushed turns a write error before the first octet went out into Refused. Behind
// the last octet of the request it gives the buffer back: the next request to be
// written finds it in the processor's cache, while this one waits for its answer.
func (x *client) flushed(err error) error {
	if x.request.done && x.out.w == 0 {
		x.out.release()
	}
	if err != nil && x.out.sent == 0 && codec.KindOf(err) == codec.ConnClosed {
		return &codec.Error{Kind: codec.Refused, Remote: true, Err: err}
	}
	return err
}

func (x *client) askHead(h *codec.RequestHead, f codec.Flags) error {
	if !codec.ValidToken(h.Method) || !codec.ValidTarget(h.Target) || h.Method == "CONNECT" || !codec.ValidAuthority(h.Authority) {
		return errLocalField
	}
	o := &x.out
	o.str(h.Method)
	o.str(" ")
	o.str(h.Target)
	o.str(" HTTP/1.1\r\nhost: ")
	o.str(h.Authority)
	o.str("\r\n")
	if err := o.fields(h.Fields, false); err != nil {
		return err
	}
	length := h.Length
	if length < 0 && f&codec.End != 0 {
		length = 0
	}
	d := outBody{}
	switch {
	case length < 0:
		o.str("transfer-encoding: chunked\r\n")
		d.kind = bodyChunked
	case length > 0:
		if f&codec.End != 0 {
			return errLocalLength
		}
		o.str("content-length: ")
		o.int(length, 10)
		o.str("\r\n")
		d.kind, d.left = bodyLength, length
	default:
		if anticipatesContent(h.Method) {
			o.str("content-length: 0\r\n")
		}
		d.done = true
	}
	if h.Expect && !d.done {
		o.str("expect: 100-continue\r\n")
	}
	switch {
	case h.Upgrade != "":
		if h.Upgrade != "websocket" {
			return errLocalField
		}
		o.str("connection: Upgrade\r\nupgrade: websocket\r\n")
	case h.Trailers:
		o.str("te: trailers\r\nconnection: te\r\n")
	}
	o.str("\r\n")
	x.request = d
	return nil
}

// anticipatesContent: RFC 9110 section 8.6 wants content-length: 0 for these.
func anticipatesContent(method string) bool {
	return method == "POST" || method == "PUT" || method == "PATCH"
}

// WriteBody implements [codec.Client].
func (x *client) WriteBody(p []byte, f codec.Flags) error {
	if !x.started {
		return localError(errHeadOrder)
	}
	return x.flushed(x.request.write(&x.out, p, f))
}

// WriteTrailers implements [codec.Client].
func (x *client) WriteTrailers(t []attrs.Field) error {
	if !x.started {
		return localError(errHeadOrder)
	}
	if x.request.done && x.request.kind != bodyChunked {
		return nil
	}
	return x.flushed(x.request.trailers(&x.out, t))
}
