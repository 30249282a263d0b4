package proxy

import (
	"bufio"
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// cartOf serves the cart by pods that speak proto, without retries.
func cartOf(proto config.Protocol, edit func(*resilience.Settings), pods ...netip.AddrPort) func(*config.Model) {
	return both(func(m *config.Model) { addBackend(m, cartKey, proto, pods...) },
		retrying(&resilience.Retry{}), settings(edit))
}

// heldPod serves both versions of HTTP; each request is answered once it took a
// token from let. begun counts requests.
type heldPod struct {
	proto   config.Protocol
	streams uint32 // of an HTTP/2 connection; 0: the engine's default
	let     chan struct{}
	begun   atomic.Int32
}

func (p *heldPod) serve(c *memConn) {
	if p.proto == config.ProtocolHTTP2 {
		_ = h2.NewServer(c, h2.Config{MaxConcurrentStreams: p.streams}, p).Serve()
		return
	}
	serveHTTP1(c, func(http.ResponseWriter, *http.Request) { p.begun.Add(1); <-p.let })
}

// ServeStream implements h2.Handler.
func (p *heldPod) ServeStream(s *h2.Stream) {
	p.begun.Add(1)
	<-p.let
	_ = s.WriteHead(&h2.Head{Status: 200}, h2.End)
}

// status makes a request on a tunnel of its own and sends the status to out.
func (r *rig) status(wg *sync.WaitGroup, out chan<- int) {
	wg.Go(func() {
		resp, _ := r.do(get)
		out <- resp.StatusCode
	})
}

var bothVersions = []config.Protocol{config.ProtocolHTTP, config.ProtocolHTTP2}

// Who waited for a dial that failed has failed with it: a pod that does not answer
// costs a crowd no more than one request.
func TestFailedDialIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cartOf(config.ProtocolHTTP2, func(s *resilience.Settings) { s.ConnectTimeout = time.Second }, pod1))
		defer r.close()
		r.p.dial = func(ctx context.Context, _ *balance.Endpoint) (hbone.Conn, error) {
			<-ctx.Done()
			return nil, &hbone.DialError{Stage: hbone.StageTimeout, Err: ctx.Err()}
		}
		start := time.Now()
		var wg sync.WaitGroup
		out := make(chan int, 20)
		for range cap(out) {
			r.status(&wg, out)
		}
		wg.Wait()
		if d := time.Since(start); d != time.Second {
			t.Errorf("all had their answer after %v", d)
		}
		for range cap(out) {
			if s := <-out; s != 503 {
				t.Errorf("status %d", s)
			}
		}
		if rec := r.last(cap(out)); rec.Flags != telemetry.FlagUF {
			t.Errorf("flags %v", rec.Flags)
		}
		if u := r.usageOf(); u != (resilience.Usage{}) {
			t.Errorf("%+v", u)
		}
	})
}

// A dial goes on for those who have time when the request that began it has none.
func TestDialOutlivesItsFirstRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := forward()
		short.Timeout, short.Matches = time.Second, []routing.Match{{Path: routing.PathMatch{Kind: routing.PathPrefix, Value: "/short"}}}
		r := newRig(t, both(cartOf(config.ProtocolHTTP2, func(*resilience.Settings) {}, pod1), rules(short, forward())))
		defer r.close()
		r.on(pod1, func(c *memConn) { answerH2{body: "hello"}.serve(c) })
		dial := r.p.dial
		r.p.dial = func(ctx context.Context, ep *balance.Endpoint) (hbone.Conn, error) {
			select {
			case <-time.After(3 * time.Second):
				return dial(ctx, ep)
			case <-ctx.Done():
				return nil, &hbone.DialError{Stage: hbone.StageTimeout, Err: ctx.Err()}
			}
		}
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if resp, _ := r.do(strings.Replace(get, "/a/b", "/short", 1)); resp.StatusCode != 504 || time.Since(start) != time.Second {
				t.Errorf("the one in a hurry: %d after %v", resp.StatusCode, time.Since(start))
			}
		})
		synctest.Wait()
		if resp, _ := r.do(get); resp.StatusCode != 200 || time.Since(start) != 3*time.Second {
			t.Errorf("the other: %d after %v", resp.StatusCode, time.Since(start))
		}
		wg.Wait()
		if n := len(r.dials); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

// A request over maxConnections waits for as long as it takes, as in Envoy; it is no
// failed connection, and none of the endpoint's faults.
func TestPendingHasNoLimitOfItsOwn(t *testing.T) {
	for _, proto := range bothVersions {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, cartOf(proto, func(s *resilience.Settings) {
				s.MaxConnections, s.MaxConcurrentStreams = 1, 1
				s.Outlier = &resilience.Outlier{Consecutive5xx: 1, MaxEjectionPercent: 100}
			}, pod1))
			defer r.close()
			p := &heldPod{proto: proto, let: make(chan struct{}, 2)}
			r.on(pod1, p.serve)
			var wg sync.WaitGroup
			out := make(chan int, 2)
			for range cap(out) {
				r.status(&wg, out)
			}
			synctest.Wait()
			if u := r.usageOf(); u.Connections != 1 || u.Pending != 1 || p.begun.Load() != 1 {
				t.Errorf("protocol %d: %+v, %d begun", proto, u, p.begun.Load())
			}
			time.Sleep(3 * time.Minute)
			for range cap(out) {
				p.let <- struct{}{}
				if s := <-out; s != 200 {
					t.Errorf("protocol %d: status %d", proto, s)
				}
				synctest.Wait() // the place of the first is the second's, without a pause
			}
			wg.Wait()
			if n := len(r.dials); n != 1 {
				t.Errorf("protocol %d: %d dials", proto, n)
			}
			if h := r.snap.Target(cartKey).Set.Load().Endpoints()[0].Host; h.Ejected.Load() {
				t.Errorf("protocol %d: the endpoint was ejected", proto)
			}
		})
	}
}

// One connection that comes free is one for all who wait for its streams, and a limit
// that is raised is one for all who wait under it.
func TestWaitersPassOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cartOf(config.ProtocolHTTP2, func(s *resilience.Settings) { s.MaxConnections = 1 }, pod1, pod2))
		defer r.close()
		pods := map[netip.AddrPort]*heldPod{}
		for _, a := range []netip.AddrPort{pod1, pod2} {
			pods[a] = &heldPod{proto: config.ProtocolHTTP2, let: make(chan struct{}, 8)}
			r.on(a, pods[a].serve)
		}
		var wg sync.WaitGroup
		out := make(chan int, 8)
		for range cap(out) { // to one and the other
			r.status(&wg, out)
			synctest.Wait()
		}
		first, second := pods[pod1], pods[pod2]
		if second.begun.Load() > 0 {
			first, second = second, first
		}
		if u := r.usageOf(); first.begun.Load() != 4 || second.begun.Load() != 0 || u.Pending != 4 {
			t.Fatalf("%d and %d began, %+v", first.begun.Load(), second.begun.Load(), u)
		}
		for range 4 {
			first.let <- struct{}{}
		}
		synctest.Wait()
		if n := second.begun.Load(); n != 4 {
			t.Errorf("%d of four began when the connection was free", n)
		}
		for range 4 {
			second.let <- struct{}{}
		}
		wg.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		limit := func(n uint32) func(*config.Model) {
			return cartOf(config.ProtocolHTTP, func(s *resilience.Settings) { s.MaxConnections = n }, pod1)
		}
		r := newRig(t, limit(1))
		defer r.close()
		p := &heldPod{proto: config.ProtocolHTTP, let: make(chan struct{}, 5)}
		r.on(pod1, p.serve)
		var wg sync.WaitGroup
		out := make(chan int, 5)
		for range cap(out) {
			r.status(&wg, out)
		}
		synctest.Wait()
		r.swap(cartModel(limit(4)))
		synctest.Wait()
		if n, u := p.begun.Load(), r.usageOf(); n != 4 || u.Pending != 1 || u.Connections != 4 {
			t.Errorf("%d began when there were places, %+v", n, u)
		}
		close(p.let)
		wg.Wait()
	})
}

// A connection that idles at one endpoint makes room for a request to another, of
// either version of HTTP.
func TestIdleConnectionMakesRoom(t *testing.T) {
	for _, proto := range bothVersions {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, cartOf(proto, func(s *resilience.Settings) { s.MaxConnections = 1 }, pod1, pod2))
			defer r.close()
			p := &heldPod{proto: proto, let: make(chan struct{})}
			close(p.let)
			r.on(pod1, p.serve)
			r.on(pod2, p.serve)
			start := time.Now()
			for range 4 {
				if resp, _ := r.do(get); resp.StatusCode != 200 {
					t.Errorf("protocol %d: %d", proto, resp.StatusCode)
				}
				synctest.Wait()
				if u := r.usageOf(); u.Connections != 1 || u.Pending != 0 {
					t.Errorf("protocol %d: %+v", proto, u)
				}
				if n := stateOf(r.snap.Target(cartKey)).idle.Load(); n != 1 {
					t.Errorf("protocol %d: %d connections idle", proto, n)
				}
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("protocol %d: it took %v", proto, d)
			}
		})
	}
}

// More requests than a connection has streams take more connections, and none of
// them uses up a try.
func TestStreamsAreReserved(t *testing.T) {
	for _, limit := range []struct{ peer, own uint32 }{{peer: 10}, {own: 10}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, cartOf(config.ProtocolHTTP2, func(s *resilience.Settings) { s.MaxConcurrentStreams = limit.own }, pod1))
			defer r.close()
			p := &heldPod{proto: config.ProtocolHTTP2, streams: limit.peer, let: make(chan struct{})}
			r.on(pod1, p.serve)
			out := make(chan int, 105)
			var wg sync.WaitGroup
			r.status(&wg, out) // makes the connection, whose SETTINGS tell the limit
			synctest.Wait()
			for range cap(out) - 1 {
				r.status(&wg, out)
			}
			synctest.Wait()
			if n := p.begun.Load(); int(n) != cap(out) {
				t.Errorf("%+v: %d requests arrived", limit, n)
			}
			if n := len(r.dials); limit.own > 0 && n != 11 || n < 11 {
				t.Errorf("%+v: %d connections", limit, n)
			}
			close(p.let)
			wg.Wait()
			for i := range cap(out) {
				if s := <-out; s != 200 {
					t.Errorf("%+v: status %d", limit, s)
				}
				if a := r.records[i].Attempts; a != 1 {
					t.Errorf("%+v: %d attempts", limit, a)
				}
			}
		})
	}
}

// An HTTP/1 client that closes while its request is under way is gone: nothing is
// retried for it, and its backend hears of it. One that ended its side with the
// request is served.
func TestClosedClientIsGone(t *testing.T) {
	for _, early := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, retrying(&resilience.Retry{Attempts: 3, On: resilience.OnReset | resilience.On5xx}))
			defer r.close()
			ended, answer := make(chan struct{}), make(chan struct{})
			r.on(pod1, func(c *memConn) {
				serveHTTP1(c, func(_ http.ResponseWriter, _ *http.Request) {
					go func() { // what the connection says meanwhile
						_ = c.WaitReadable()
						close(ended)
					}()
					select {
					case <-answer:
					case <-ended:
					}
				})
			})
			c, ft := r.tunnel()
			c.w.set(func() { c.w.data, c.w.eof = []byte(get), early })
			synctest.Wait()
			if !early {
				_ = c.CloseWrite()
				synctest.Wait()
				<-ended
				_ = c.Close()
			} else {
				close(answer)
				if resp, _ := readResponse(t, bufio.NewReader(c), get); resp.StatusCode != 200 {
					t.Errorf("half closed: %d", resp.StatusCode)
				}
			}
			<-ft.done
			rec := r.last(1)
			if want := map[bool]telemetry.Flags{false: telemetry.FlagDC}[early]; rec.Flags != want || rec.Attempts != 1 {
				t.Errorf("early %v: %v after %d attempts", early, rec.Flags, rec.Attempts)
			}
		})
	}
}

// A client that leaves while its request waits for a connection, or for one to be
// dialed, leaves its place, and blames nobody.
func TestWaitingEndsWithTheClient(t *testing.T) {
	for _, proto := range bothVersions {
		for _, dialing := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, cartOf(proto, func(s *resilience.Settings) {
					s.MaxConnections, s.MaxConcurrentStreams = 1, 1
					s.Outlier = &resilience.Outlier{Consecutive5xx: 1, MaxEjectionPercent: 100}
				}, pod1))
				defer r.close()
				p := &heldPod{proto: proto, let: make(chan struct{})}
				r.on(pod1, p.serve)
				out := make(chan int, 1)
				var wg sync.WaitGroup
				want := 1
				if dialing {
					r.p.dial = func(ctx context.Context, _ *balance.Endpoint) (hbone.Conn, error) {
						<-ctx.Done()
						return nil, &hbone.DialError{Stage: hbone.StageTimeout, Err: ctx.Err()}
					}
				} else {
					r.status(&wg, out)
					synctest.Wait()
					want++
				}
				c, ft := r.tunnel()
				cc := h2Client(t, c)
				ctx, cancel := context.WithCancel(context.Background())
				wg.Go(func() {
					req, _ := http.NewRequestWithContext(ctx, "GET", "http://cart/", nil)
					_, _ = cc.RoundTrip(req)
				})
				synctest.Wait()
				if u := r.usageOf(); u.Pending != 1 {
					t.Errorf("protocol %d, dialing %v: nobody waits: %+v", proto, dialing, u)
				}
				start := time.Now()
				cancel()
				synctest.Wait()
				if u := r.usageOf(); u.Pending != 0 || time.Since(start) != 0 {
					t.Errorf("protocol %d, dialing %v: it waits on: %+v", proto, dialing, u)
				}
				_ = cc.Close()
				<-ft.done
				if !dialing {
					p.let <- struct{}{}
					if s := <-out; s != 200 {
						t.Errorf("protocol %d: the first has %d", proto, s)
					}
				}
				wg.Wait()
				synctest.Wait()
				r.mu.Lock()
				rec := r.records[0]
				r.mu.Unlock()
				if rec.Flags != telemetry.FlagDC {
					t.Errorf("protocol %d, dialing %v: flags %v", proto, dialing, rec.Flags)
				}
				if h := r.snap.Target(cartKey).Set.Load().Endpoints()[0].Host; h.Ejected.Load() {
					t.Errorf("protocol %d, dialing %v: the endpoint was ejected", proto, dialing)
				}
				r.last(want)
			})
		}
	}
}
