package http1

import (
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
)

func (o *output) statusLine(status int) {
	if status == 200 {
		o.str("HTTP/1.1 200 OK\r\n")
		return
	}
	o.str("HTTP/1.1 ")
	o.int(int64(status), 10)
	o.str(" ")
	o.str(reason(status))
	o.str("\r\n")
}

// WriteHead implements [codec.Server]. A head with h.Close, or any head while the
// connection drains, says Connection: close.
func (x *server) WriteHead(h *codec.ResponseHead, f codec.Flags) error {
	if x.answered || h.Status < 100 || h.Status > 999 {
		return localError(errHeadOrder)
	}
	if x.out.err != nil {
		return x.out.err
	}
	o := &x.out
	mark := o.w
	var err error
	switch {
	case h.Status == 101:
		err = x.switching(h)
	case h.Status < 200:
		err = x.interim(h)
	default:
		err = x.final(h, f)
	}
	if err != nil {
		o.w = mark // nothing of a head that cannot be written
		return localError(err)
	}
	if f&codec.More != 0 && h.Status >= 200 && !x.answer.done {
		return nil
	}
	return o.flush()
}

func (x *server) interim(h *codec.ResponseHead) error {
	if x.head.Version == codec.HTTP10 {
		return nil // RFC 9110 section 15.2: a 1.0 client knows none
	}
	x.asked100 = x.asked100 || h.Status == 100
	x.out.statusLine(h.Status)
	if err := x.out.fields(h.Fields, false); err != nil {
		return err
	}
	x.out.str("\r\n")
	return nil
}

func (x *server) switching(h *codec.ResponseHead) error {
	if x.head.Upgrade == "" || h.Upgrade != x.head.Upgrade {
		return errSwitch
	}
	x.out.statusLine(101)
	if err := x.out.fields(h.Fields, false); err != nil {
		return err
	}
	x.out.str("connection: Upgrade\r\nupgrade: ")
	x.out.str(h.Upgrade)
	x.out.str("\r\n\r\n")
	x.answered, x.closing = true, true
	return nil
}

func (x *server) final(h *codec.ResponseHead, f codec.Flags) error {
	o := &x.out
	o.statusLine(h.Status)
	mute := x.head.Method == "HEAD"
	bare := h.Status == 204 || h.Status == 304
	if err := o.fields(h.Fields, mute || h.Status == 304); err != nil {
		return err
	}
	d := outBody{mute: mute || bare}
	length := h.Length
	if length < 0 && f&codec.End != 0 {
		length = 0
	}
	closing := x.closing || h.Close || x.draining.Load()
	switch {
	case bare || mute && (length <= 0 || hasLength(h.Fields)):
		d.kind = bodyNone
	case length > 0 || length == 0:
		if f&codec.End != 0 && length > 0 && !mute {
			return errLocalLength
		}
		o.str("content-length: ")
		o.int(length, 10)
		o.str("\r\n")
		d.kind, d.left = bodyLength, length
	case x.head.Version == codec.HTTP10:
		d.kind, closing = bodyUntilClose, true
	default:
		o.str("transfer-encoding: chunked\r\n")
		d.kind = bodyChunked
	}
	// The client may or may not send what it was never told to send (RFC 9110
	// section 10.1.1): nothing behind this request can be trusted, unless it came.
	if x.head.Expect && !x.asked100 && !x.came.Load() {
		closing = true
	}
	switch {
	case closing:
		o.str("connection: close\r\n")
	case x.head.Version == codec.HTTP10:
		o.str("connection: keep-alive\r\n")
	}
	o.str("\r\n")
	d.done = f&codec.End != 0 || d.kind == bodyLength && length == 0 || d.mute
	x.answer, x.answered, x.closing = d, true, closing
	return nil
}

func hasLength(fs []attrs.Field) bool {
	for i := range fs {
		if fs[i].Name == "content-length" {
			return true
		}
	}
	return false
}

// WriteBody implements [codec.Server].
func (x *server) WriteBody(p []byte, f codec.Flags) error {
	if !x.answered {
		return localError(errHeadOrder)
	}
	if x.answer.mute {
		return x.out.flush()
	}
	return x.answer.write(&x.out, p, f)
}

// WriteTrailers implements [codec.Server]. A response with a content-length has
// no place for them: they are dropped.
func (x *server) WriteTrailers(t []attrs.Field) error {
	if !x.answered {
		return localError(errHeadOrder)
	}
	if x.answer.mute {
		return x.out.flush()
	}
	if x.answer.done && x.answer.kind != bodyChunked {
		return nil
	}
	return x.answer.trailers(&x.out, t)
}
