package proxy

import (
	"errors"
	"math/rand/v2"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/telemetry"
)

// outcome is how one attempt ended.
type outcome struct {
	failure   failure // failNone: a response, or done
	done      bool    // the client has its answer, or left
	untouched bool    // no byte of the request was written
	free      bool    // to be repeated on a fresh connection, whatever the policy says
	retry     bool    // the response is one that the policy retries
	reason    string  // of the verdict on the response
}

// forward sends the request upstream, as often as the policy allows, and the
// answer back.
func (x *exchange) forward() {
	st := stateOf(x.target)
	ticket, err := st.breaker.Allow()
	if err != nil {
		x.noHost(st)
		x.rec.Reason = "circuit_open"
		x.fail(failOverflow, false)
		x.rec.Details = "circuit_open"
		return
	}
	x.body()
	x.clockStarts()
	defer x.dropRetry() // a contained panic must not keep the place
	var (
		retries int
		again   bool // the free repeat on a fresh connection was used
		out     outcome
	)
	for {
		x.rec.Attempts++
		out = x.try(st, retries, again)
		if out.done {
			break
		}
		if out.free {
			again = true
			x.stay()
			continue
		}
		v := x.verdict(&out, retries)
		if !v.Retry || !out.retry && !x.replay() {
			x.fail(out.failure, v.Reason == resilience.ReasonExhausted)
			break
		}
		if !out.retry && !x.takeRetry() {
			x.rec.Flags |= telemetry.FlagUO
			x.fail(out.failure, false)
			break
		}
		retries++
		if f := x.backoff(retries); f == failClient {
			out = x.left()
			break
		} else if f != failNone {
			out.failure = f
			x.fail(f, false)
			break
		}
	}
	x.dropRetry()
	ticket.Done(x.hostFault(out.failure), x.outcomeStatus())
	x.finishBody()
}

// takeRetry takes a place among the backend's retries, from here to the end of the
// retry. The one of an earlier retry of this exchange is given back first: that is over
// (Envoy: RetryStateImpl::resetRetry).
func (x *exchange) takeRetry() bool {
	x.dropRetry()
	l := &stateOf(x.target).limits
	if l.AcquireRetry() != nil {
		return false
	}
	x.retrying = l
	return true
}

func (x *exchange) dropRetry() {
	if x.retrying != nil {
		x.retrying.ReleaseRetry()
		x.retrying = nil
	}
}

// stay lets the free repeat go where a hash leads: it was a connection that ended, not
// the host, and a client that is bound to one must not lose it for that.
func (x *exchange) stay() {
	if n := len(x.tried); n > 0 && x.target.Set.Load().Policy().Kind.Hashing() {
		x.tried = x.tried[:n-1]
	}
}

// spent reports whether an attempt without an answer is none that counts: a kept
// connection had ended by the time the request came to it, which happens to any
// server that closes idle ones. The request goes out again, on a fresh connection,
// if nothing of it was sent, or if sending it twice is the same as once.
func (x *exchange) spent(l *lease, out *outcome, err error) bool {
	if !l.reused || x.started || x.gone.Load() || x.cut.Load() {
		return false
	}
	switch out.failure {
	case failRefused, failTermination:
		if out.untouched {
			// A body that no attempt has read is whole, kept or not.
			return !x.pumped || x.replay()
		}
		return errors.Is(err, codec.ErrConnClosed) && x.repeatable()
	}
	return false
}

// repeatable reports whether the request may be sent again though the backend
// may have seen it: it has no body and asks for nothing twice (RFC 9110 section
// 9.2.2).
func (x *exchange) repeatable() bool {
	if x.in.Length != 0 || x.up.Upgrade != "" {
		return false
	}
	switch x.in.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// verdict asks the retry policy about an attempt without a response.
func (x *exchange) verdict(out *outcome, retries int) resilience.Verdict {
	if out.retry { // its place and the body are taken already
		return resilience.Verdict{Retry: true}
	}
	if x.started || x.gone.Load() || x.cut.Load() {
		return resilience.Verdict{}
	}
	if out.failure == failNoHost {
		return resilience.Verdict{}
	}
	o := resilience.Outcome{Failure: x.blame(out.failure), Untouched: out.untouched}
	return x.retry.Verdict(&o, retries)
}

// blame maps a failure to what retry policy and outlier detection know.
func (x *exchange) blame(f failure) resilience.Failure {
	switch f {
	case failNone:
		return resilience.FailureNone
	case failRemoteConnect, failLocalConnect, failConnectTimeout:
		return resilience.FailureConnect
	case failRefused:
		return resilience.FailureRefused
	case failOverflow, failNoHost:
		return resilience.FailureOverflow
	case failTryTimeout:
		return resilience.FailureTryTimeout
	case failTimeout, failIdle, failDuration:
		return resilience.FailureTimeout
	case failClient, failCut:
		return resilience.FailureClient
	case failProtocol:
		return resilience.FailureProtocol
	}
	return resilience.FailureReset
}

// outcomeStatus is the status that breakers and outlier detection count.
func (x *exchange) outcomeStatus() int {
	if x.grpc && x.rec.GRPCStatus > 0 {
		return resilience.GRPCToHTTP(decimal(int64(x.rec.GRPCStatus)))
	}
	return x.rec.Code
}

// hostFault is blame for what an endpoint is to answer for. A stream that was too
// quiet or too long behind its head, or may only last so long, is no failure of
// the endpoint (Envoy's Router tells outlier detection of none of these).
func (x *exchange) hostFault(f failure) resilience.Failure {
	switch f {
	case failDuration, failStreamDuration:
		return resilience.FailureClient
	case failIdle:
		if x.started {
			return resilience.FailureClient
		}
	}
	return x.blame(f)
}

// backoff waits before retry n. It ends early, with the reason, when the
// exchange does.
func (x *exchange) backoff(n int) failure {
	d := x.retry.Delay(n, rand.Uint64())
	if due := x.due(); !due.IsZero() {
		d = min(d, time.Until(due))
	}
	if d > 0 {
		ctx, stop := x.interruptible()
		defer stop()
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	switch {
	case x.gone.Load(), x.cut.Load():
		return failClient
	case x.p.ctx.Err() != nil:
		return failLocalReset
	case x.expired():
		return failTimeout
	}
	return failNone
}

// pick chooses the endpoint of the next attempt.
func (x *exchange) pick() *balance.Endpoint {
	if ep := x.pinned(); ep != nil {
		return ep
	}
	set := x.target.Set.Load()
	if set.Policy().Kind == balance.Passthrough {
		return x.passthrough(set)
	}
	skip, far := x.tried, x.tried[:x.retry.Shift(len(x.tried))]
	if x.retry != nil && !x.retry.AvoidPrevious {
		skip = nil
	}
	return set.PickBeyond(x.hash, skip, far)
}

// passthrough is the address that the client asked for: an endpoint if it is
// one, else that address itself, unless it must not be reached through here.
func (x *exchange) passthrough(set *balance.Set) *balance.Endpoint {
	if spec := x.target.Spec.Load(); spec.Dynamic != nil {
		port := uint16(portHTTP)
		if spec.TLS != nil {
			port = portHTTPS
		}
		return x.p.named(stateOf(x.target), spec.Dynamic, x.in.Authority, port)
	}
	to := withPort(x.t.conn.Dest, set.Policy().Port)
	if ep := set.ByAddr(to); ep != nil {
		return ep
	}
	if !to.IsValid() || x.p.opts.Guard.Check(to.Addr()) != nil {
		return nil
	}
	return x.p.chosen(to)
}

// try makes one attempt at the request.
func (x *exchange) try(st *backendState, retries int, fresh bool) (out outcome) {
	if x.gone.Load() {
		return x.left()
	}
	ep := x.pick()
	if ep == nil {
		x.noHost(st)
		out.failure = failNoHost
		return out
	}
	spec := x.target.Spec.Load()
	hp := x.p.poolOf(ep.Host)
	x.host = hp.infoOf(ep, spec, x.target.Key)
	x.rec.Upstream, x.rec.Dest, x.rec.Service, x.rec.UpstreamCluster = ep.Addr, x.host.peer, x.host.service, x.host.cluster
	if err := st.limits.AcquireRequest(); err != nil {
		out.failure = failOverflow
		return out
	}
	ep.Host.Active.Add(1)
	defer func() { // a contained panic must not keep the place
		ep.Host.Active.Add(-1)
		st.limits.ReleaseRequest()
	}()
	x.tried = append(x.tried, ep)

	out = x.send(hp, ep, spec, st, retries, fresh)

	if !out.free { // the host was asked nothing
		st.outliers.Report(ep, x.hostFault(out.failure), x.outcomeStatus())
	}
	return out
}

// send takes a connection to ep, sends the request on it and relays the answer.
func (x *exchange) send(hp *hostPool, ep *balance.Endpoint, spec *config.Backend, st *backendState, retries int, fresh bool) (out outcome) {
	// A WebSocket is an HTTP/1 upgrade whatever the backend speaks otherwise.
	h2 := x.up.Upgrade == "" && multiplexed(spec, x.in.Version == codec.HTTP2)
	l, err := hp.lease(x, want{ep: ep, set: &spec.Settings, st: st, multiplexed: h2, fresh: fresh, deadline: x.due()})
	if err != nil {
		if x.gone.Load() || x.cut.Load() {
			return x.left()
		}
		out.untouched = true
		out.failure = connectFailure(err)
		x.shed = nil
		if out.failure == failOverflow {
			errors.As(err, &x.shed)
		}
		if x.expired() {
			out.failure = failTimeout
		}
		x.rec.TransportFailure = err.Error()
		return out
	}
	cl := l.Client
	if !x.attach(cl) {
		x.giveUp(cl)
		return x.left()
	}
	sent := time.Now()
	if err = x.writeRequest(cl); err == nil {
		var h *codec.ResponseHead
		if h, err = x.readHead(cl); err == nil {
			x.heard = time.Now()
			x.rec.UpstreamTime = x.heard.Sub(sent)
			return x.response(cl, h, retries)
		}
	}
	out.failure = x.why(err)
	if out.failure == failTermination || out.failure == failProtocol {
		x.rec.TransportFailure = err.Error()
	}
	out.untouched = x.giveUp(cl) == 0
	out.free = !fresh && x.spent(&l, &out, err)
	if out.failure == failClient || out.failure == failCut {
		return x.left()
	}
	return out
}

// multiplexed says whether a backend is spoken to in HTTP/2: as its port
// declares, else as the client does.
func multiplexed(spec *config.Backend, client bool) bool {
	switch spec.Protocol {
	case config.ProtocolHTTP2, config.ProtocolGRPC, config.ProtocolGRPCWeb:
		return true
	case config.ProtocolAuto:
		return client
	}
	return false
}

// why maps the error of an attempt, of which the client or a timer may be the cause.
func (x *exchange) why(err error) failure {
	switch {
	case x.gone.Load() || x.src.failed.Load():
		return failClient
	case x.cut.Load():
		return failCut
	}
	f := exchangeFailure(err)
	if f == failTimeout {
		return x.whichTimeout()
	}
	return f
}

// left ends the exchange for a client that went away, broke the protocol in the
// middle of its body, or was cut off.
func (x *exchange) left() outcome {
	if x.cut.Load() && !x.gone.Load() {
		if d := x.denial.Load(); !x.started && d != nil {
			x.decided(*d)
			x.denied(*d)
		} else {
			x.cutRecord()
			x.rec.Flags |= failCut.flag()
			x.rec.Details = failCut.details(true)
			x.srv.Abort(codec.AbortCancel)
		}
		return outcome{failure: failCut, done: true}
	}
	err := x.src.clientError()
	if r, ok := webRefusal(err); ok && !x.started {
		x.answer(r)
		return outcome{failure: failClient, done: true}
	}
	var ce *codec.Error
	if errors.As(err, &ce) && ce.Kind == codec.Protocol && !x.started && ce.Status != 0 {
		x.answer(reply{status: ce.Status, flags: telemetry.FlagDPE, details: "downstream_protocol_error"})
		return outcome{failure: failClient, done: true}
	}
	x.clientGone(err)
	x.srv.Abort(codec.AbortCancel)
	return outcome{failure: failClient, done: true}
}
