package proxy

import (
	"cmp"
	"slices"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/telemetry"
)

// serverName is the server header of an Istio proxy.
const serverName = "istio-envoy"

func (x *exchange) serverName() string { return cmp.Or(x.server, serverName) }

// reply is an answer that the waypoint makes itself.
type reply struct {
	status  int
	body    string
	fields  []attrs.Field // further ones; borrowed
	flags   telemetry.Flags
	details string
	plain   bool // never mapped to gRPC (preflights, faults that name a gRPC status)
}

// answer sends r to the client. For a gRPC request the status becomes 200 with
// grpc-status and the body its message, as Envoy maps it.
func (x *exchange) answer(r reply) {
	x.rec.Flags |= r.flags
	if r.details != "" {
		x.rec.Details = r.details
	}
	fs := append(x.out[:0], r.fields...)
	if x.quiet {
		fs = slices.DeleteFunc(fs, func(f attrs.Field) bool { return f.Name == overloaded[0].Name })
	}
	x.reply = codec.ResponseHead{Status: r.status}
	h := &x.reply
	body := r.body
	if x.grpc && !x.web && !r.plain {
		h.Status = 200
		code := grpcCode(r.status)
		x.rec.GRPCStatus = code
		fs = append(fs, attrs.Field{Name: "content-type", Value: "application/grpc"}, attrs.Field{Name: "grpc-status", Value: decimal(int64(code))})
		if body != "" {
			at := len(x.scratch)
			x.scratch = appendGRPCMessage(x.scratch, body)
			fs = append(fs, attrs.Field{Name: "grpc-message", Value: view(x.scratch[at:])})
		}
		body = ""
	} else {
		if body != "" {
			if _, typed := findField(fs, "content-type"); !typed {
				fs = append(fs, attrs.Field{Name: "content-type", Value: "text/plain"})
			}
			h.Length = int64(len(body))
		}
		if x.req.Method == "HEAD" {
			if body != "" {
				fs = append(fs, attrs.Field{Name: "content-length", Value: decimal(h.Length)})
			}
			body, h.Length = "", codec.LengthNone
		}
	}
	fs = append(fs, attrs.Field{Name: "date", Value: x.p.dates.at(x.now)})
	if !x.keepServer {
		fs = append(fs, attrs.Field{Name: "server", Value: x.serverName()})
	}
	x.out = fs
	h.Fields = fs
	x.note(fs)
	x.rec.Code = h.Status
	x.sendAnswer(h, body)
}

func (x *exchange) sendAnswer(h *codec.ResponseHead, body string) {
	x.started = true
	if body == "" {
		if err := x.srv.WriteHead(h, codec.End); err != nil {
			x.clientGone(err)
		}
		return
	}
	err := x.srv.WriteHead(h, codec.More)
	if err == nil {
		at := len(x.scratch)
		x.scratch = append(x.scratch, body...)
		err = x.srv.WriteBody(x.scratch[at:], codec.End)
	}
	if err != nil {
		x.clientGone(err)
	}
}

// fail answers for an attempt that brought no response. attempts counts those
// made; exhausted says that the policy would have retried once more.
func (x *exchange) fail(f failure, exhausted bool) {
	d := &failures[f]
	r := reply{status: d.status, flags: d.flag, details: f.details(false)}
	if exhausted {
		r.flags |= telemetry.FlagURX
	}
	switch f {
	case failNoHost:
		r.body = "no healthy upstream"
	case failTryTimeout, failTimeout:
		r.body = "upstream request timeout"
	case failIdle, failDuration, failStreamDuration:
		r.body = slow[f]
		if x.src.srv != nil && !x.src.complete.Load() {
			r.status = 408 // Envoy: the request is not complete, so it is the client's
		}
	case failCut:
		r.body = ""
	default:
		r.body = x.resetBody(f)
	}
	if x.result.Rule != nil {
		r.fields = x.replyFields() // Envoy: Router::modify_headers_
	}
	if f == failOverflow {
		r.fields = append(r.fields, overloaded...)
		if x.shed != nil {
			r.details = x.shed.Resource.String()
		}
	}
	x.answer(r)
}

// slow are the texts of exchanges that took too long.
var slow = map[failure]string{
	failIdle:           "stream timeout",
	failDuration:       "downstream duration timeout",
	failStreamDuration: "upstream max stream duration reached",
}

var overloaded = []attrs.Field{{Name: "x-envoy-overloaded", Value: "true"}}

const resetPrefix = "upstream connect error or disconnect/reset before headers. "

// resetBodies are the texts of a failure at the first attempt, and after retries.
var resetBodies, retriedBodies = func() (a, b [len(failures)]string) {
	for i := range failures {
		a[i] = resetPrefix + "reset reason: " + failures[i].text
		b[i] = resetPrefix + "retried and the latest reset reason: " + failures[i].text
	}
	return a, b
}()

func (x *exchange) resetBody(f failure) string {
	if x.rec.Attempts > 1 {
		return retriedBodies[f]
	}
	return resetBodies[f]
}
