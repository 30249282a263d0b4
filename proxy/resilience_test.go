package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

const cartKey = "cart.shop.svc.cluster.local|80"

var pod3 = netip.MustParseAddrPort("10.1.0.3:8080")

// failing answers 503 and counts.
func failing(n *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { n.Add(1); w.WriteHeader(503) }
}

// A retry goes to a host that was not tried yet, if the policy asks for it.
func TestPreviousHostsAreAvoided(t *testing.T) {
	r := newRig(t, both(
		func(m *config.Model) {
			addBackend(m, cartKey, config.ProtocolHTTP, pod1, pod2, pod3).Balance.Kind = balance.Random
		},
		retrying(&resilience.Retry{Attempts: 2, On: resilience.On5xx, Backoff: time.Microsecond, AvoidPrevious: true})))
	defer r.close()
	var bad atomic.Int32
	r.handle(pod1, failing(&bad))
	r.handle(pod2, failing(&bad))
	r.handle(pod3, hello)
	for i := range 60 {
		if resp, _ := r.do(get); resp.StatusCode != 200 {
			t.Fatalf("request %d: %d", i, resp.StatusCode)
		}
		if rec := r.last(i + 1); rec.Upstream != pod3 || rec.Attempts > 3 {
			t.Fatalf("request %d: %v after %d attempts", i, rec.Upstream, rec.Attempts)
		}
	}
	if bad.Load() == 0 {
		t.Error("no request met a failing host")
	}
}

// retryRemoteLocalities leaves a priority after so many tries in it.
func TestRetryGoesToRemoteLocality(t *testing.T) {
	for _, after := range []int{0, 1, 2} {
		r := newRig(t, both(
			func(m *config.Model) {
				addBackend(m, cartKey, config.ProtocolHTTP, pod1, pod2, pod3).Endpoints[2].Priority = 1
			},
			retrying(&resilience.Retry{Attempts: 2, On: resilience.On5xx, Backoff: time.Microsecond, RemoteLocalities: after})))
		var near atomic.Int32
		r.handle(pod1, failing(&near))
		r.handle(pod2, failing(&near))
		r.handle(pod3, hello)
		resp, _ := r.do(get)
		status, want := 200, int32(after)
		if after == 0 {
			status, want = 503, 3
		}
		if resp.StatusCode != status || near.Load() != want {
			t.Errorf("after %d: %d with %d tries nearby, want %d", after, resp.StatusCode, near.Load(), want)
		}
		r.close()
	}
}

// Bodies for a second try come out of one budget for the process: when it is used
// up, requests are served without replay.
func TestReplayBudgetIsTheProcess(t *testing.T) {
	r := newRig(t, retrying(&resilience.Retry{Attempts: 1, On: resilience.On5xx, Backoff: time.Microsecond}))
	defer r.close()
	const budget = 2 * chunkSize
	r.p.replay = resilience.NewReplayBudget(budget)
	var tries atomic.Int32
	r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		tries.Add(1)
		w.WriteHeader(503)
		fmt.Fprint(w, n)
	})
	post := "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000)
	for _, tt := range []struct {
		taken int
		req   string
		tries int32
	}{{0, post, 2}, {budget, post, 1}, {budget, get, 2}, {0, post, 2}} {
		if !r.p.replay.Acquire(tt.taken) {
			t.Fatal("the budget leaks")
		}
		tries.Store(0)
		resp, body := r.do(tt.req)
		if want := map[string]string{post: "20000", get: "0"}[tt.req]; resp.StatusCode != 503 || body != want || tries.Load() != tt.tries {
			t.Errorf("%d of the budget taken: %d %q after %d tries, want %d", tt.taken, resp.StatusCode, body, tries.Load(), tt.tries)
		}
		r.p.replay.Release(tt.taken)
	}
	if r.p.replay.Refused() == 0 || r.p.replay.Used() != 0 {
		t.Errorf("%d refused, %d used", r.p.replay.Refused(), r.p.replay.Used())
	}
}

// A retry over the budget is not made: the client gets the last answer, and the
// record says UO.
func TestRetryBudgetIsHeld(t *testing.T) {
	r := newRig(t, both(
		retrying(&resilience.Retry{Attempts: 3, On: resilience.On5xx | resilience.OnConnectFailure, Backoff: time.Microsecond}),
		settings(func(s *resilience.Settings) { s.RetryBudget = &resilience.RetryBudget{} })))
	defer r.close()
	if resp, _ := r.do(get); resp.StatusCode != 503 {
		t.Errorf("without a backend: %d", resp.StatusCode)
	}
	if rec := r.last(1); rec.Attempts != 1 || rec.Flags != telemetry.FlagUF|telemetry.FlagUO {
		t.Errorf("record %d %v", rec.Attempts, rec.Flags)
	}
	r.handle(pod1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprint(w, "mine") })
	if resp, body := r.do(get); resp.StatusCode != 500 || body != "mine" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if rec := r.last(2); rec.Attempts != 1 || rec.Flags != telemetry.FlagUO {
		t.Errorf("record %d %v", rec.Attempts, rec.Flags)
	}
}

// A client that leaves while a retry is waited for is not waited on.
func TestBackoffEndsWithClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, retrying(&resilience.Retry{Attempts: 1, On: resilience.On5xx, Backoff: 1000 * time.Hour}))
		defer r.close()
		var n atomic.Int32
		r.handle(pod1, failing(&n))
		c, ft := r.tunnel()
		cc := h2Client(t, c)
		ctx, cancel := context.WithCancel(context.Background())
		got := make(chan error, 1)
		go func() {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://cart/", nil)
			_, err := cc.RoundTrip(req)
			got <- err
		}()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("client: %v", err)
		}
		_ = cc.Close()
		<-ft.done
		if d := time.Since(start); d > time.Minute {
			t.Errorf("the exchange went on for %v", d)
		}
		if rec := r.last(1); rec.Flags&telemetry.FlagDC == 0 || rec.Attempts != 1 || n.Load() != 1 {
			t.Errorf("record %v %d, %d tries", rec.Flags, rec.Attempts, n.Load())
		}
	})
}

// An open breaker refuses before anything is dialed.
func TestCircuitBreakerOpens(t *testing.T) {
	r := newRig(t, settings(func(s *resilience.Settings) {
		s.Breaker = &resilience.Breaker{MinRequests: 2, ErrorPercent: 50, OpenFor: time.Hour}
	}))
	defer r.close()
	var n atomic.Int32
	r.handle(pod1, failing(&n))
	for range 2 {
		r.do(get)
	}
	resp, body := r.do(get)
	if resp.StatusCode != 503 || !strings.HasSuffix(body, "reset reason: overflow") || resp.Header.Get("X-Envoy-Overloaded") != "true" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if rec := r.last(3); rec.Flags != telemetry.FlagUO || rec.Details != "circuit_open" || n.Load() != 2 {
		t.Errorf("record %v %q, the backend saw %d", rec.Flags, rec.Details, n.Load())
	}
}

// The connect timeout covers everything up to the answer to CONNECT.
func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, both(retrying(&resilience.Retry{}), settings(func(s *resilience.Settings) { s.ConnectTimeout = 300 * time.Millisecond })))
		defer r.close()
		r.p.dial = func(ctx context.Context, _ *balance.Endpoint) (hbone.Conn, error) {
			<-ctx.Done()
			return nil, &hbone.DialError{Stage: hbone.StageTimeout, Err: ctx.Err()}
		}
		start := time.Now()
		resp, body := r.do(get)
		if d := time.Since(start); resp.StatusCode != 503 || !strings.HasSuffix(body, "reset reason: connection timeout") || d != 300*time.Millisecond {
			t.Errorf("%d %q after %v", resp.StatusCode, body, d)
		}
		if rec := r.last(1); rec.Flags != telemetry.FlagUF {
			t.Errorf("flags %v", rec.Flags)
		}
	})
}

// A connection inside a tunnel is not used beyond its maximum duration, of either
// version of HTTP.
func TestMaxConnectionDuration(t *testing.T) {
	for _, proto := range []config.Protocol{config.ProtocolHTTP, config.ProtocolHTTP2} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, both(func(m *config.Model) { addBackend(m, cartKey, proto, pod1) },
				settings(func(s *resilience.Settings) { s.MaxConnectionDuration = time.Minute })))
			defer r.close()
			r.on(pod1, func(c *memConn) {
				if proto == config.ProtocolHTTP2 {
					answerH2{body: "hello"}.serve(c)
					return
				}
				serveHTTP1(c, hello)
			})
			for i, pause := range []time.Duration{0, 50 * time.Second, 15 * time.Second, time.Second} {
				time.Sleep(pause)
				r.do(get)
				synctest.Wait()
				if want := []int{1, 1, 2, 2}[i]; len(r.dials) != want {
					t.Errorf("protocol %d, request %d: %d dials, want %d", proto, i, len(r.dials), want)
				}
			}
		})
	}
}

// Outlier detection takes a pod that does not answer for a bad one, but not one
// whose stream was quiet for too long, or as long as streams may be.
func TestQuietStreamsAreNobodysFault(t *testing.T) {
	begun := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
	for _, tt := range []struct {
		name  string
		edit  func(*routing.Rule)
		start string // what the pod sends
		out   bool
	}{
		{"no answer", func(r *routing.Rule) { r.IdleTimeout = time.Second }, "", true},
		{"quiet", func(r *routing.Rule) { r.IdleTimeout = time.Second }, begun, false},
		{"long", func(r *routing.Rule) { r.MaxDuration = time.Second }, begun, false},
		{"timeout", func(r *routing.Rule) { r.Timeout = time.Second }, begun, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, both(edited(tt.edit), settings(func(s *resilience.Settings) {
					s.Outlier = &resilience.Outlier{Consecutive5xx: 1, MaxEjectionPercent: 100}
				})))
				defer r.close()
				r.on(pod1, func(c *memConn) {
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, tt.start)
					silent(c)
				})
				c, ft := r.tunnel()
				_, _ = io.WriteString(c, get)
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.ReadAll(resp.Body)
				_ = c.Close()
				<-ft.done
				h := r.snap.Target(cartKey).Set.Load().Endpoints()[0].Host
				if out := h.Ejected.Load(); out != tt.out {
					t.Errorf("ejected: %v, want %v", out, tt.out)
				}
				stateOf(r.snap.Target(cartKey)).outliers.Close() // its sweep would outlive the bubble
			})
		})
	}
}

// grpc-timeout bounds a call beside the route's timeout, the shorter counts. It
// means nothing in a request that is no call.
func TestGRPCTimeoutIsABound(t *testing.T) {
	const call = "Content-Type: application/grpc\r\n"
	for _, tt := range []struct {
		route  time.Duration
		header string
		after  time.Duration // 0: the pod's answer, after a second
	}{
		{0, call + "Grpc-Timeout: 300m\r\n", 300 * time.Millisecond},
		{200 * time.Millisecond, call + "Grpc-Timeout: 300m\r\n", 200 * time.Millisecond},
		{500 * time.Millisecond, call + "Grpc-Timeout: 300m\r\n", 300 * time.Millisecond},
		{0, call + "Grpc-Timeout: 2S\r\n", 0},
		{0, call + "Grpc-Timeout: soon\r\n", 0},
		{0, "Grpc-Timeout: 300m\r\n", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, edited(func(rule *routing.Rule) { rule.Timeout = tt.route }))
			defer r.close()
			r.handle(pod1, func(w http.ResponseWriter, req *http.Request) { time.Sleep(time.Second); hello(w, req) })
			start := time.Now()
			resp, _ := r.do("POST /s/m HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n" + tt.header + "\r\n")
			after, status := tt.after, "14"
			if after == 0 {
				after, status = time.Second, ""
			}
			if d := time.Since(start); resp.StatusCode != 200 || d != after || resp.Header.Get("Grpc-Status") != status {
				t.Errorf("route %v, %q: %d %v after %v, want %v", tt.route, tt.header, resp.StatusCode, resp.Header, d, after)
			}
		})
	}
}

// An injected abort names the status of calls.
func TestFaultOfCalls(t *testing.T) {
	all := resilience.Fraction{Num: 1, Den: 1}
	r := staged(t, []*resilience.Fault{{AbortGRPC: "9", AbortShare: all}}, config.Stage{Kind: config.StageFault})
	defer r.close()
	resp, body := r.do("POST /s/m HTTP/1.1\r\nHost: c\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n")
	if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "9" || resp.Header.Get("Grpc-Message") != "fault filter abort" || body != "" {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
	}
	if rec := r.last(1); rec.Flags != telemetry.FlagFI || rec.Details != "fault_filter_abort" {
		t.Errorf("record %v %q", rec.Flags, rec.Details)
	}
}

// A TCP connection that comes about ends a row of those that did not.
func TestTCPConnectsEndARow(t *testing.T) {
	r := newRig(t, both(func(m *config.Model) {
		m.Destinations[0].Protocol = config.ProtocolTCP
		addBackend(m, cartKey, config.ProtocolTCP, pod1)
	}, settings(func(s *resilience.Settings) {
		s.Outlier = &resilience.Outlier{Consecutive5xx: 2, MaxEjectionPercent: 100}
	})))
	defer r.close()
	defer stateOf(r.snap.Target(cartKey)).outliers.Close()
	h := r.snap.Target(cartKey).Set.Load().Endpoints()[0].Host
	for i, up := range []bool{false, true, false, false} {
		r.on(pod1, nil)
		if up {
			r.on(pod1, func(c *memConn) { _, _ = io.WriteString(c, "hi") })
		}
		c, ft := r.tunnel()
		_, _ = io.ReadAll(struct{ io.Reader }{c})
		_ = c.Close()
		<-ft.done
		if out, want := h.Ejected.Load(), i == 3; out != want {
			t.Errorf("connection %d: ejected %v, want %v", i, out, want)
		}
	}
}
