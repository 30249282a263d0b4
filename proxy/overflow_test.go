package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/telemetry"
)

// usageOf reads the limits of the cart.
func (r *rig) usageOf() resilience.Usage { return stateOf(r.snap.Target(cartKey)).limits.Usage() }

// A request that waits for its connection to be dialed is pending, whatever the
// version of HTTP, and one over the limit is refused at once.
func TestDialingIsPending(t *testing.T) {
	for _, proto := range []config.Protocol{config.ProtocolHTTP, config.ProtocolHTTP2} {
		r := newRig(t, both(func(m *config.Model) { addBackend(m, cartKey, proto, pod1) },
			settings(func(s *resilience.Settings) { s.MaxPending = 1 })))
		defer r.close()
		r.on(pod1, func(c *memConn) {
			if proto == config.ProtocolHTTP2 {
				r.handleH2(c, http.HandlerFunc(hello))
				return
			}
			serveHTTP1(c, hello)
		})
		dial := r.p.dial
		dialing, ready := make(chan struct{}), make(chan struct{})
		r.p.dial = func(ctx context.Context, ep *balance.Endpoint) (hbone.Conn, error) {
			dialing <- struct{}{}
			<-ready
			return dial(ctx, ep)
		}
		first := make(chan int, 1)
		go func() {
			resp, _ := r.do(get)
			first <- resp.StatusCode
		}()
		<-dialing
		if u := r.usageOf(); u.Pending != 1 || u.Requests != 1 {
			t.Errorf("protocol %d, while dialing: %+v", proto, u)
		}
		resp, body := r.do(get)
		if resp.StatusCode != 503 || !strings.HasSuffix(body, "reset reason: overflow") || resp.Header.Get("X-Envoy-Overloaded") != "true" {
			t.Errorf("protocol %d: %d %q", proto, resp.StatusCode, body)
		}
		if rec := r.last(1); rec.Flags != telemetry.FlagUO || rec.Attempts != 1 {
			t.Errorf("protocol %d: %v after %d attempts", proto, rec.Flags, rec.Attempts)
		}
		close(ready)
		if got := <-first; got != 200 {
			t.Errorf("protocol %d: the one that waited got %d", proto, got)
		}
		// A connection is there: nothing waits any more.
		if resp, _ := r.do(get); resp.StatusCode != 200 {
			t.Errorf("protocol %d: %d", proto, resp.StatusCode)
		}
		r.idle()
		if u := r.usageOf(); u.Pending != 0 || u.PendingRefused != 1 || u.Requests != 0 {
			t.Errorf("protocol %d, at the end: %+v", proto, u)
		}
	}
}

// A dial that fails or is given up gives its place among the pending back.
func TestPendingEndsWithTheDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, both(retrying(&resilience.Retry{}), settings(func(s *resilience.Settings) { s.MaxPending, s.ConnectTimeout = 1, time.Second })))
		defer r.close()
		r.p.dial = func(ctx context.Context, _ *balance.Endpoint) (hbone.Conn, error) {
			<-ctx.Done()
			return nil, &hbone.DialError{Stage: hbone.StageTimeout, Err: ctx.Err()}
		}
		for i := range 3 {
			if resp, _ := r.do(get); resp.StatusCode != 503 || r.last(i+1).Flags != telemetry.FlagUF {
				t.Errorf("request %d: %d %v", i, resp.StatusCode, r.last(i+1).Flags)
			}
		}
		if u := r.usageOf(); u.Pending != 0 || u.PendingRefused != 0 {
			t.Errorf("%+v", u)
		}
	})
}

// maxRetries bounds retries at once, not those of one request: each gives its place
// back before the next takes one, whether an answer or a failure is retried.
func TestMaxRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, both(
			retrying(&resilience.Retry{Attempts: 3, On: resilience.On5xx, Backoff: time.Second, MaxBackoff: time.Second}),
			settings(func(s *resilience.Settings) { s.MaxRetries = 1 })))
		defer r.close()
		var n atomic.Int32
		r.handle(pod1, failing(&n))
		if resp, _ := r.do(get); resp.StatusCode != 503 || n.Load() != 4 {
			t.Errorf("alone: %d after %d tries", resp.StatusCode, n.Load())
		}
		if rec := r.last(1); rec.Flags != telemetry.FlagURX || rec.Attempts != 4 {
			t.Errorf("alone: %v after %d", rec.Flags, rec.Attempts)
		}
		if u := r.usageOf(); u.Retries != 0 || u.RetriesRefused != 0 {
			t.Errorf("alone: %+v", u)
		}
		// While one waits to retry, another may not: it gets the answer there is.
		n.Store(0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.do(get)
		}()
		for n.Load() == 0 {
			synctest.Wait()
		}
		synctest.Wait()
		if u := r.usageOf(); u.Retries != 1 {
			t.Fatalf("nobody retries: %+v", u)
		}
		resp, _ := r.do(get)
		if rec := r.last(2); resp.StatusCode != 503 || rec.Attempts != 1 || rec.Flags != telemetry.FlagUO {
			t.Errorf("beside it: %d, %v after %d", resp.StatusCode, rec.Flags, rec.Attempts)
		}
		<-done
		r.last(3)
		if u := r.usageOf(); u.Retries != 0 || u.RetriesRefused != 1 {
			t.Errorf("at the end: %+v", u)
		}
	})
}

// Of a budget over an interval each retry takes one place, not two.
func TestBudgetOverAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, both(
			retrying(&resilience.Retry{Attempts: 10, On: resilience.On5xx, Backoff: time.Nanosecond, MaxBackoff: time.Nanosecond}),
			settings(func(s *resilience.Settings) {
				s.RetryBudget = &resilience.RetryBudget{Interval: time.Hour, MinRetryRate: 6.0 / 3600}
			})))
		defer r.close()
		var n atomic.Int32
		r.handle(pod1, failing(&n))
		r.do(get)
		if n.Load() != 7 {
			t.Errorf("%d tries, want one and 6 retries", n.Load())
		}
	})
}

// A connection of bytes over the limit is closed and says why; it is counted, and the
// place of one that ends is free.
func TestTCPMaxConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, both(func(m *config.Model) {
			m.Destinations[0].Protocol = config.ProtocolTCP
			addBackend(m, cartKey, config.ProtocolTCP, pod1)
		}, settings(func(s *resilience.Settings) { s.MaxConnections = 1 })))
		defer r.close()
		r.on(pod1, func(c *memConn) { _, _ = io.Copy(c, c) })
		a, _ := r.tunnel()
		echo := func(c *memConn) error {
			if _, err := io.WriteString(c, "ping"); err != nil {
				return err
			}
			_, err := io.ReadFull(c, make([]byte, 4))
			return err
		}
		if err := echo(a); err != nil {
			t.Fatal(err)
		}
		b, _ := r.tunnel()
		if err := echo(b); err == nil {
			t.Error("a second connection was served")
		}
		synctest.Wait()
		if rec := r.last(1); rec.Flags != telemetry.FlagUO || rec.Details != "overflow" || rec.Attempts != 0 {
			t.Errorf("record %v %q after %d attempts", rec.Flags, rec.Details, rec.Attempts)
		}
		_, _ = b.Close(), a.Close()
		synctest.Wait()
		r.last(2)
		c, _ := r.tunnel()
		if err := echo(c); err != nil {
			t.Errorf("the place of the first is not free: %v", err)
		}
		_ = c.Close()
		synctest.Wait()
		r.last(3)
		if u := r.usageOf(); u.Connections != 0 || u.ConnectionsRefused != 1 || u.Pending != 0 {
			t.Errorf("%+v", u)
		}
	})
}
