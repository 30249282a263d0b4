package proxy

import (
	"io"
	"sync"
	"time"

	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

// pump copies the request body to one attempt, on a worker.
type pump struct {
	x   *exchange // fixed
	gen int       // fixed

	mu sync.Mutex   // held around each use of cl
	cl codec.Client // guarded by mu; nil once the attempt was given up
}

// body prepares the request body, if there is one. A small one that is here
// already is read at once: it then needs no pump.
func (x *exchange) body() {
	if x.in.Length == 0 {
		return
	}
	x.src.guarded = x.guarded
	x.once = x.retry != nil && x.retry.Attempts == 0
	if x.gathered.on {
		x.src.resume(x.mirrors)
		return
	}
	x.src.reset(x.srv, x.p.replay)
	x.src.mirrors = x.mirrors
	if x.grpc {
		x.src.count = &x.reqCount
	}
	r, ok := x.srv.(codec.Readier)
	if !ok || x.in.Expect || x.in.Length > chunkSize {
		return
	}
	b := buf.Take(int(max(x.in.Length, 1)))
	if x.in.Length < 0 {
		b.Release()
		b = buf.Take(chunkSize)
	}
	defer b.Release()
	for x.src.end < chunkSize && r.Ready() {
		if _, err := x.src.next(b.B, x.src.end, 0); err != nil {
			return
		}
	}
}

// startPump sends the body to cl on a worker.
func (x *exchange) startPump(cl codec.Client) {
	pu := &x.pump
	if x.pumped {
		pu = new(pump) // the one of the last attempt may still wait for the client
	}
	x.pumped = true
	pu.x, pu.gen, pu.cl = x, x.generation, cl
	x.pumping = pu
	x.pumps.Add(1)
	x.p.workers.do(pu)
}

// run implements task.
func (pu *pump) run() {
	x := pu.x
	defer x.pumps.Done()
	defer func() {
		if r := recover(); r != nil {
			x.p.panicked("request body", r)
			pu.use(func(cl codec.Client) error { cl.Abort(codec.AbortInternal); return nil })
		}
	}()
	b := buf.Take(chunkSize)
	defer b.Release()
	for pos := int64(0); ; {
		n, err := x.src.next(b.B, pos, pu.gen)
		pos += int64(n)
		if err != nil && err != io.EOF {
			if err != errStale {
				// The client left or broke the protocol: what waits for the response
				// has to hear of it.
				_ = pu.use(func(cl codec.Client) error { cl.Abort(codec.AbortCancel); return nil })
			}
			return
		}
		if pu.write(b.B[:n], err == io.EOF) != nil || err == io.EOF {
			return // a failed write: the reader of the response learns why, or gets an early answer
		}
	}
}

// use calls f unless the attempt was given up.
func (pu *pump) use(f func(cl codec.Client) error) error {
	pu.mu.Lock()
	defer pu.mu.Unlock()
	if pu.cl == nil {
		return errStale
	}
	return f(pu.cl)
}

// write passes a piece of the body on; last says that nothing but trailers follows.
func (pu *pump) write(p []byte, last bool) error {
	pu.mu.Lock()
	defer pu.mu.Unlock()
	x, cl := pu.x, pu.cl
	if cl == nil {
		return errStale
	}
	if !last {
		if err := cl.WriteBody(p, 0); err != nil {
			return err
		}
		if x.once {
			x.src.forget()
		}
		x.progressed(cl, false)
		return nil
	}
	t := x.src.trailers()
	if len(t) == 0 {
		if err := cl.WriteBody(p, codec.End); err != nil {
			return err
		}
	} else {
		if len(p) > 0 {
			if err := cl.WriteBody(p, codec.More); err != nil {
				return err
			}
		}
		if err := cl.WriteTrailers(t); err != nil {
			return err
		}
	}
	x.sent.Store(true)
	x.requestSent(cl)
	return nil
}

// giveUp ends an attempt whose connection serves no more. It returns how many
// bytes had been sent on it.
func (x *exchange) giveUp(cl codec.Client) (sent int64) {
	x.detach()
	cl.Abort(codec.AbortCancel) // frees a pump that is writing
	if pu := x.pumping; pu != nil {
		pu.mu.Lock()
		pu.cl = nil
		pu.mu.Unlock()
		x.pumping = nil
	}
	sent = cl.Sent()
	cl.Release()
	return sent
}

// canReplay reports whether another attempt could be made, without committing to it.
func (x *exchange) canReplay() bool {
	if x.in.Length == 0 {
		return true
	}
	x.src.turn.Lock()
	defer x.src.turn.Unlock()
	return !x.src.lost && !x.src.failed.Load()
}

// replay gives the body to the next attempt.
func (x *exchange) replay() bool {
	if x.in.Length == 0 {
		return true
	}
	gen, ok := x.src.again()
	x.generation = gen
	return ok
}

const (
	// lingerTime and lingerBytes bound how long the rest of a body is read after
	// an early answer, so that the client sees the answer and not a reset
	// (Envoy: delayed_close_timeout, 1 s).
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// finishBody ends the request body behind the response: when all of it was
// taken there is nothing to do.
func (x *exchange) finishBody() {
	if !x.pumped {
		return
	}
	if x.src.complete.Load() || x.src.failed.Load() {
		x.pumps.Wait()
		return
	}
	_, _ = x.src.again() // whoever reads the client now, stops after that
	x.src.forget()
	if x.in.Version == codec.HTTP2 {
		x.srv.Abort(codec.AbortNoError) // RFC 9113 section 8.1
		x.pumps.Wait()
		return
	}
	_ = x.srv.SetReadDeadline(time.Now().Add(lingerTime))
	x.pumps.Wait()
	b := buf.Take(chunkSize)
	defer b.Release()
	for left := lingerBytes; left > 0 && !x.src.complete.Load(); {
		n, err := x.srv.Read(b.B)
		left -= n
		if err == io.EOF {
			_ = x.srv.SetReadDeadline(time.Time{})
			return
		}
		if err != nil {
			break
		}
	}
	if x.src.complete.Load() {
		_ = x.srv.SetReadDeadline(time.Time{})
		return
	}
	x.srv.Abort(codec.AbortCancel)
}
