package proxy

import (
	"io"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// holdBelow is up to which length a response head waits for its body, so that
// the two leave in one write. Longer or unknown bodies may be slow to come.
const holdBelow = chunkSize

// writeRequest sends the head and sees to the body: none, what is here already
// in the same write, or a pump.
func (x *exchange) writeRequest(cl codec.Client) error {
	x.newAttempt()
	if x.in.Length == 0 {
		if err := cl.WriteHead(&x.up, codec.End); err != nil {
			return err
		}
		x.sent.Store(true)
		x.requestSent(cl)
		return nil
	}
	x.sent.Store(false)
	if x.src.complete.Load() {
		return x.writeWhole(cl)
	}
	f := codec.Flags(0)
	if x.bodyReady() {
		f = codec.More
	}
	if err := cl.WriteHead(&x.up, f); err != nil {
		return err
	}
	x.progressed(cl, false) // an HTTP/2 stream takes deadlines from here on
	x.markStreaming(x.in.Length)
	x.startPump(cl)
	return nil
}

// bodyReady reports whether a piece of the body can be sent at once behind the
// head. If not the head goes out alone: the client may wait for the backend.
func (x *exchange) bodyReady() bool {
	x.src.mu.Lock()
	kept := len(x.src.chunks) > 0
	x.src.mu.Unlock()
	if kept {
		return true
	}
	r, ok := x.srv.(codec.Readier)
	return ok && !x.pumped && r.Ready()
}

// writeWhole sends head and body, of which all is kept.
func (x *exchange) writeWhole(cl codec.Client) error {
	trailers := x.src.trailers()
	if err := cl.WriteHead(&x.up, codec.More); err != nil {
		return err
	}
	x.src.mu.Lock()
	defer x.src.mu.Unlock()
	chunks := x.src.chunks
	for i := range chunks {
		f := codec.More
		if i == len(chunks)-1 && len(trailers) == 0 {
			f = codec.End
		}
		if err := cl.WriteBody(chunks[i].b.B[:chunks[i].n], f); err != nil {
			return err
		}
	}
	switch {
	case len(trailers) > 0:
		if err := cl.WriteTrailers(trailers); err != nil {
			return err
		}
	case len(chunks) == 0:
		if err := cl.WriteBody(nil, codec.End); err != nil {
			return err
		}
	}
	x.sent.Store(true)
	x.requestSent(cl)
	return nil
}

// readHead returns the final response head; informational ones are passed on.
func (x *exchange) readHead(cl codec.Client) (*codec.ResponseHead, error) {
	for {
		h, err := cl.ReadHead()
		if err != nil {
			return nil, err
		}
		if h.Status >= 200 || h.Status == 101 {
			x.progressed(cl, true)
			return h, nil
		}
		x.progressed(cl, false)
		if x.in.Version == codec.HTTP10 {
			continue // RFC 9110 section 15.2: never to an HTTP/1.0 client
		}
		x.src.forget()
		x.started = true // no other attempt may answer after this
		x.out = append(x.out[:0], h.Fields...)
		x.reply = codec.ResponseHead{Status: h.Status, Fields: x.out}
		if err := x.srv.WriteHead(&x.reply, 0); err != nil {
			x.gone.Store(true)
			return nil, err
		}
	}
}

// response relays the answer, unless the policy retries it.
func (x *exchange) response(cl codec.Client, h *codec.ResponseHead, retries int) (out outcome) {
	// Retries look at it in any answer, as in Envoy; it counts as the status of calls.
	status, _ := findField(h.Fields, "grpc-status")
	x.rec.Code, x.rec.GRPCStatus = h.Status, -1
	if x.grpc {
		x.rec.GRPCStatus = grpcStatus(status)
	}
	if !x.started {
		o := resilience.Outcome{Status: h.Status, GRPC: status, Headers: h.Fields}
		v := x.retry.Verdict(&o, retries)
		out.reason = v.Reason
		switch {
		case v.Retry && x.canReplay():
			if !x.takeRetry() {
				x.rec.Flags |= telemetry.FlagUO
			} else if x.replay() {
				x.giveUp(cl)
				out.retry = true
				return out
			} else { // the body outgrew its room meanwhile
				x.dropRetry()
			}
		case v.Reason == resilience.ReasonExhausted:
			x.rec.Flags |= telemetry.FlagURX
		}
	}
	x.src.forget()
	x.rec.TransportFailure = ""
	out.done = true
	if h.Status == 101 {
		out.failure = x.upgrade(cl, h)
		return out
	}
	out.failure = x.relay(cl, h)
	return out
}

// relay copies the response to the client and gives the connection back.
func (x *exchange) relay(cl codec.Client, h *codec.ResponseHead) failure {
	if x.rec.Details == "" {
		x.rec.Details = "via_upstream"
	}
	x.replyHead(h)
	x.reply = codec.ResponseHead{Status: h.Status, Fields: x.out, Length: h.Length}
	if h.Length != codec.LengthNone {
		x.started = true
		return x.relayed(cl, x.relayBody(cl, &x.reply, h))
	}
	// The end is here, or as good as: reading it first tells whether trailers
	// follow, and lets the connection be kept.
	if err := x.endless(cl); err != nil {
		f := x.why(err)
		x.giveUp(cl)
		x.rec.Details = ""
		if f == failClient || f == failCut {
			x.left()
		} else {
			x.fail(f, false)
		}
		return f
	}
	x.started = true
	x.answered.Store(true)
	t := cl.Trailers()
	if len(t) == 0 || x.in.Method == "HEAD" {
		return x.relayed(cl, x.srv.WriteHead(&x.reply, codec.End))
	}
	x.reply.Length = codec.LengthUnknown
	err := x.srv.WriteHead(&x.reply, codec.More)
	if err == nil {
		err = x.endBody(cl, nil)
	}
	return x.relayed(cl, err)
}

// endless reads the end of a response without body, so that its connection can
// be kept.
func (x *exchange) endless(cl codec.Client) error {
	var none [1]byte
	for {
		n, err := cl.Read(none[:])
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case n > 0:
			return &codec.Error{Kind: codec.Protocol, Remote: true}
		}
	}
}

// upstreamError marks which side an error came from.
type upstreamError struct{ error }

func (e upstreamError) Unwrap() error { return e.error }

// replyHead builds the response fields in x.out.
func (x *exchange) replyHead(h *codec.ResponseHead) {
	fs := append(x.out[:0], h.Fields...)
	if !x.quiet {
		fs = setField(fs, "x-envoy-upstream-service-time", decimal(x.rec.UpstreamTime.Milliseconds()))
	}
	fs = x.result.Rule.ReplyHeaders(x.backend, fs, x)
	if x.cors == routing.CORSActual {
		fs = x.origins.ApplyResponse(fs, &x.req)
	}
	fs = append(fs, x.extra...)
	fs = applyEdits(fs, x.edits)
	fs = x.keepSession(fs)
	if !x.keepServer {
		fs = setField(fs, "server", x.serverName())
	}
	if _, ok := findField(fs, "date"); !ok {
		fs = append(fs, attrs.Field{Name: "date", Value: x.p.dates.at(x.heard)})
	}
	x.out = fs
	x.note(fs)
}

// note keeps the response's fields for a record that somebody wants them in: those of
// a backend are gone with its connection.
func (x *exchange) note(fs []attrs.Field) {
	if !x.rec.Plan.ReadsResponse() {
		return
	}
	x.noted = emptied(x.noted)
	for _, f := range fs {
		x.noted = append(x.noted, attrs.Field{Name: x.copied(f.Name), Value: x.copied(f.Value)})
	}
	x.rec.ResponseHeaders = x.noted
}

// copied copies s for as long as the exchange lasts.
func (x *exchange) copied(s string) string {
	at := len(x.scratch)
	x.scratch = append(x.scratch, s...)
	return view(x.scratch[at:])
}

// relayBody copies the body behind the head, and the trailers behind that.
func (x *exchange) relayBody(cl codec.Client, head *codec.ResponseHead, h *codec.ResponseHead) error {
	ready, _ := cl.(codec.Readier)
	hold := ready != nil && ready.Ready() ||
		ready == nil && h.Length > 0 && h.Length <= holdBelow && x.sent.Load()
	f := codec.Flags(0)
	if hold {
		f = codec.More
	} else {
		x.markStreaming(h.Length)
	}
	if err := x.srv.WriteHead(head, f); err != nil {
		return err
	}
	size := chunkSize
	if h.Length > 0 && h.Length < chunkSize {
		size = int(h.Length)
	}
	b := buf.Take(size)
	defer b.Release()
	for first := true; ; first = false {
		n, err := cl.Read(b.B)
		if n > 0 {
			if x.grpc {
				x.respCount.add(b.B[:n])
			}
			x.progressed(cl, false)
		}
		switch {
		case err == io.EOF:
			return x.endBody(cl, b.B[:n])
		case err != nil:
			return upstreamError{err}
		}
		f = 0
		if ready != nil && ready.Ready() {
			f = codec.More
		}
		if n > 0 || first && hold {
			if err := x.srv.WriteBody(b.B[:n], f); err != nil {
				return err
			}
		}
		if first {
			x.markStreaming(h.Length)
		}
	}
}

// endBody writes the last bytes and the trailers.
func (x *exchange) endBody(cl codec.Client, last []byte) error {
	x.answered.Store(true)
	t := cl.Trailers()
	if len(t) == 0 {
		// Nothing is borrowed from the backend any more: its connection is free
		// before a slow client has taken the rest, and before its next request.
		if x.sent.Load() {
			x.release(cl)
		}
		return x.srv.WriteBody(last, codec.End)
	}
	if x.grpc {
		if s, ok := findField(t, "grpc-status"); ok {
			x.rec.GRPCStatus = grpcStatus(s)
		}
	}
	if len(last) > 0 {
		if err := x.srv.WriteBody(last, codec.More); err != nil {
			return err
		}
	}
	return x.srv.WriteTrailers(t)
}

// release gives the connection back behind a whole exchange.
func (x *exchange) release(cl codec.Client) {
	x.detach()
	x.clockEnds(cl)
	x.pumps.Wait()
	cl.Release()
	x.released = true
}

// relayed ends the attempt whose response went out, whole or not.
func (x *exchange) relayed(cl codec.Client, err error) failure {
	if err == nil {
		switch {
		case x.released:
		case x.sent.Load():
			x.release(cl)
		default:
			x.giveUp(cl) // answered early: the rest of the request has no taker
		}
		x.clientClockEnds()
		return failNone
	}
	var f failure
	if ue, ok := err.(upstreamError); ok {
		f = x.why(ue.error)
	} else if f = failClient; codec.KindOf(err) == codec.Timeout && x.timed {
		f = x.whichTimeout() // the client took the answer too slowly
	} else if x.cut.Load() {
		f = failCut
	}
	if !x.released {
		x.giveUp(cl)
	}
	x.rec.Flags |= f.flag()
	x.rec.Details = f.details(true)
	if f == failCut {
		x.cutRecord()
	}
	x.srv.Abort(codec.AbortInternal)
	return f
}

// grpcStatus parses grpc-status; -1 when it is missing or no number.
func grpcStatus(s string) int {
	if s == "" || len(s) > 3 {
		return -1
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}
