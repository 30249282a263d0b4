package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// twoPods puts pod2 beside pod1.
func twoPods(m *config.Model) {
	addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolHTTP, pod1, pod2)
}

func TestKeepAliveReusesConnection(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.handle(pod1, hello)
	c, _ := r.tunnel()
	for range 3 {
		if resp, body := exchangeOn(t, c, get); resp.StatusCode != 200 || body != "hello" {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
	}
	_ = c.Close()
	r.idle()
	if len(r.dials) != 1 {
		t.Errorf("%d dials", len(r.dials))
	}
}

func TestDeadPodIsNeverSeen(t *testing.T) {
	r := newRig(t, twoPods)
	defer r.close()
	r.handle(pod2, hello) // pod1 refuses
	for _, method := range []string{"GET", "POST"} {
		for range 4 {
			resp, body := r.do(method + " / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\nhi")
			if resp.StatusCode != 200 || body != "hello" {
				t.Fatalf("%s: %d %q", method, resp.StatusCode, body)
			}
		}
	}
}

// A kept connection that died is replaced once, for requests that may be repeated.
func TestStaleConnection(t *testing.T) {
	tests := []struct {
		req  string
		code int
	}{
		{get, 200},
		{"DELETE /x HTTP/1.1\r\nHost: c\r\n\r\n", 200},
		{"POST /x HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n", 503},
		{"PUT /x HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\n\r\n1", 503},
	}
	for _, tt := range tests {
		r := newRig(t, nil)
		var conns atomic.Int32
		r.on(pod1, func(c *memConn) {
			br := bufio.NewReader(c)
			first := conns.Add(1) == 1
			for n := 0; ; n++ {
				req, err := http.ReadRequest(br)
				if err != nil || first && n == 1 {
					return // takes the second request and dies
				}
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})
		c, _ := r.tunnel()
		exchangeOn(t, c, get)
		resp, _ := exchangeOn(t, c, tt.req)
		if resp.StatusCode != tt.code {
			t.Errorf("%.20q: %d, want %d", tt.req, resp.StatusCode, tt.code)
		}
		_ = c.Close()
		r.close()
	}
}

// Stray bytes behind a response make the connection unusable.
func TestStrayBytes(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, func(c *memConn) {
		br := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		}
	})
	c, _ := r.tunnel()
	for range 2 {
		if _, body := exchangeOn(t, c, get); body != "ok" {
			t.Fatalf("body %q", body)
		}
	}
	_ = c.Close()
	r.idle()
	if len(r.dials) != 2 {
		t.Errorf("%d dials", len(r.dials))
	}
}

func retrying(p *resilience.Retry, edit ...func(*routing.Rule)) func(*config.Model) {
	return func(m *config.Model) {
		edited(func(r *routing.Rule) {
			r.Retry = 0
			for _, e := range edit {
				e(r)
			}
		})(m)
		m.Destinations[0].Retries = []*resilience.Retry{p}
	}
}

func TestRetryOnStatusReplaysBody(t *testing.T) {
	for _, size := range []int{0, 5, 200 << 10} {
		r := newRig(t, retrying(&resilience.Retry{Attempts: 2, On: resilience.On5xx, Backoff: time.Millisecond}))
		var tries atomic.Int32
		var bodies sync.Map
		r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
			b, _ := io.ReadAll(req.Body)
			n := tries.Add(1)
			bodies.Store(n, string(b))
			if n < 3 {
				w.WriteHeader(503)
				return
			}
			fmt.Fprint(w, "done")
		})
		want := strings.Repeat("x", size)
		resp, body := r.do(fmt.Sprintf("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: %d\r\n\r\n%s", size, want))
		if resp.StatusCode != 200 || body != "done" || tries.Load() != 3 {
			t.Fatalf("size %d: %d %q after %d", size, resp.StatusCode, body, tries.Load())
		}
		for i := int32(1); i <= 3; i++ {
			if b, _ := bodies.Load(i); b != want {
				t.Errorf("size %d: try %d got %d bytes", size, i, len(b.(string)))
			}
		}
		if rec := r.last(1); rec.Attempts != 3 || rec.Flags != 0 {
			t.Errorf("record %+v", rec)
		}
		r.close()
	}
}

func TestRetriesUsedUp(t *testing.T) {
	r := newRig(t, retrying(&resilience.Retry{Attempts: 1, On: resilience.On5xx, Backoff: time.Millisecond}))
	defer r.close()
	r.handle(pod1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprint(w, "no") })
	resp, body := r.do(get)
	if resp.StatusCode != 500 || body != "no" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if rec := r.last(1); rec.Flags != telemetry.FlagURX || rec.Details != "via_upstream" {
		t.Errorf("record %v %q", rec.Flags, rec.Details)
	}
}

// A body larger than the bound is not kept, and its request not repeated.
func TestLargeBodyIsNotReplayed(t *testing.T) {
	r := newRig(t, retrying(&resilience.Retry{Attempts: 2, On: resilience.On5xx, Backoff: time.Millisecond}))
	defer r.close()
	var tries atomic.Int32
	r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		tries.Add(1)
		w.WriteHeader(503)
		fmt.Fprint(w, n)
	})
	const size = 3 << 20
	c, _ := r.tunnel()
	go func() {
		_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: %d\r\n\r\n", size)
		_, _ = c.Write(make([]byte, size))
	}()
	resp, body := readResponse(t, bufio.NewReader(c), "POST")
	if resp.StatusCode != 503 || body != fmt.Sprint(size) || tries.Load() != 1 {
		t.Errorf("%d %q after %d", resp.StatusCode, body, tries.Load())
	}
	_ = c.Close()
	r.idle()
	if used := r.p.replay.Used(); used != 0 {
		t.Errorf("%d bytes still charged", used)
	}
}

// What the client sends while the first attempt fails reaches the second.
func TestRetryWhileBodyFlows(t *testing.T) {
	r := newRig(t, retrying(&resilience.Retry{Attempts: 1, On: resilience.OnReset, Backoff: time.Millisecond}))
	defer r.close()
	var tries atomic.Int32
	got := make(chan string, 1)
	again := make(chan struct{})
	r.on(pod1, func(c *memConn) {
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if tries.Add(1) == 1 {
			_, _ = io.ReadFull(req.Body, make([]byte, 3))
			c.Reset()
			return
		}
		close(again)
		b, _ := io.ReadAll(req.Body)
		got <- string(b)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	<-again
	_, _ = io.WriteString(c, "3\r\ndef\r\n0\r\n\r\n")
	resp, _ := readResponse(t, bufio.NewReader(c), "POST")
	if b := <-got; resp.StatusCode != 200 || b != "abcdef" {
		t.Errorf("%d %q", resp.StatusCode, b)
	}
	_ = c.Close()
}

// An answer that comes before the end of the request body ends the exchange.
func TestEarlyResponse(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, func(c *memConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
		silent(c)
	})
	c, _ := r.tunnel()
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 100\r\n\r\nabc")
	resp, body := readResponse(t, br, "POST")
	if resp.StatusCode != 413 || body != "no" {
		t.Fatalf("%d %q", resp.StatusCode, body)
	}
	// The rest of the body is read away and the connection lives on.
	_, _ = c.Write(make([]byte, 97))
	_, _ = io.WriteString(c, get)
	if resp, _ := readResponse(t, br, "GET"); resp.StatusCode != 413 {
		t.Errorf("second: %d", resp.StatusCode)
	}
	_ = c.Close()
}

func TestExpectContinueAndHints(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, func(c *memConn) {
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
		b, _ := io.ReadAll(req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
	})
	c, _ := r.tunnel()
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	for _, want := range []int{103, 100} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("interim %v %v, want %d", resp, err, want)
		}
	}
	_, _ = io.WriteString(c, "body")
	if resp, body := readResponse(t, br, "POST"); resp.StatusCode != 200 || body != "body" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	_ = c.Close()
}

func TestTrailersBothWays(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, func(c *memConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: %s\r\n\r\n", req.Trailer.Get("X-In"))
	})
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: c\r\nTrailer: X-In\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-In: 7\r\n\r\n")
	resp, body := readResponse(t, bufio.NewReader(c), "POST")
	if body != "ok" || resp.Trailer.Get("X-Sum") != "7" {
		t.Errorf("%q %v", body, resp.Trailer)
	}
	_ = c.Close()
}

func TestHeadAndNoContent(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, func(c *memConn) {
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if req.Method == "HEAD" {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
			} else {
				_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		}
	})
	c, _ := r.tunnel()
	br := bufio.NewReader(c)
	for _, m := range []string{"HEAD", "DELETE", "HEAD"} {
		_, _ = io.WriteString(c, m+" / HTTP/1.1\r\nHost: c\r\n\r\n")
		resp, body := readResponse(t, br, m)
		if body != "" || m == "HEAD" && resp.Header.Get("Content-Length") != "1234" {
			t.Errorf("%s: %q %v", m, body, resp.Header)
		}
	}
	_ = c.Close()
	r.idle()
	if len(r.dials) != 1 {
		t.Errorf("%d dials", len(r.dials))
	}
}

// The route's clock starts when the request is complete, and covers all tries.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, retrying(&resilience.Retry{Attempts: 5, On: resilience.On5xx, TryTimeout: 300 * time.Millisecond, Backoff: time.Millisecond},
			func(rule *routing.Rule) { rule.Timeout = time.Second }))
		defer r.close()
		r.on(pod1, silent)
		start := time.Now()
		c, _ := r.tunnel()
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\na")
		time.Sleep(5 * time.Second) // a slow upload is not covered
		_, _ = io.WriteString(c, "b")
		resp, body := readResponse(t, bufio.NewReader(c), "POST")
		if d := time.Since(start); resp.StatusCode != 504 || body != "upstream request timeout" || d != 6*time.Second {
			t.Errorf("%d %q after %v", resp.StatusCode, body, d)
		}
		_ = c.Close()
		synctest.Wait()
		if rec := r.last(1); rec.Flags != telemetry.FlagUT || rec.Attempts < 3 || rec.Attempts > 4 {
			t.Errorf("record %v %d", rec.Flags, rec.Attempts)
		}
	})
}

// A timeout behind the response head resets the stream.
func TestTimeoutAfterHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, edited(func(rule *routing.Rule) { rule.Timeout = time.Second }))
		defer r.close()
		r.on(pod1, func(c *memConn) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")
			silent(c)
		})
		c, _ := r.tunnel()
		_, _ = io.WriteString(c, get)
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("a whole body of %d bytes", len(b))
		}
		_ = c.Close()
		synctest.Wait()
		if rec := r.last(1); rec.Flags != telemetry.FlagUT || rec.Code != 200 || rec.Details != "upstream_response_timeout" {
			t.Errorf("record %d %v %q", rec.Code, rec.Flags, rec.Details)
		}
	})
}

func TestTruncatedResponse(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	begun := make(chan struct{})
	r.on(pod1, func(c *memConn) {
		script("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")(c)
		<-begun
	})
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, get)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	close(begun)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("body came whole")
	}
	_ = c.Close()
	r.idle()
	if rec := r.last(1); rec.Flags != telemetry.FlagUC || rec.Details != "upstream_reset_after_response_started{connection_termination}" {
		t.Errorf("record %v %q", rec.Flags, rec.Details)
	}
}

// A client that leaves in the middle of its body ends the attempt.
func TestClientLeaves(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	ended := make(chan error, 1)
	got := make(chan struct{})
	r.on(pod1, func(c *memConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		close(got)
		if err == nil {
			_, err = io.ReadAll(req.Body)
		}
		ended <- err
	})
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 100\r\n\r\nabc")
	<-got
	c.Reset()
	if err := <-ended; err == nil {
		t.Error("the backend got a whole request")
	}
	r.idle()
	if rec := r.last(1); rec.Flags != telemetry.FlagDC || rec.Code != 0 {
		t.Errorf("record %d %v", rec.Code, rec.Flags)
	}
}

func TestBrokenChunkIsTheClientsFault(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, silent)
	resp, _ := r.do("POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	if resp.StatusCode != 400 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if rec := r.last(1); rec.Flags != telemetry.FlagDPE {
		t.Errorf("flags %v", rec.Flags)
	}
}

func TestMalformedHead(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	resp, body := r.do("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	if resp.StatusCode != 400 || body != "Bad Request" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if rec := r.last(1); rec.Flags != telemetry.FlagDPE || rec.Code != 400 || !strings.HasPrefix(rec.Details, "http1.") {
		t.Errorf("record %+v", rec)
	}
}

func TestLimits(t *testing.T) {
	hold := make(chan struct{})
	entered := make(chan struct{}, 10)
	slow := func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-hold
		fmt.Fprint(w, "ok")
	}
	t.Run("requests", func(t *testing.T) {
		r := newRig(t, settings(func(s *resilience.Settings) { s.MaxRequests = 1 }))
		defer r.close()
		r.handle(pod1, slow)
		c, _ := r.tunnel()
		_, _ = io.WriteString(c, get)
		<-entered
		resp, body := r.do(get)
		if resp.StatusCode != 503 || !strings.HasSuffix(body, "reset reason: overflow") || resp.Header.Get("X-Envoy-Overloaded") != "true" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
		if rec := r.last(1); rec.Flags != telemetry.FlagUO {
			t.Errorf("flags %v", rec.Flags)
		}
		hold <- struct{}{}
		readResponse(t, bufio.NewReader(c), "GET")
		_ = c.Close()
	})
	t.Run("connections wait, pending overflows", func(t *testing.T) {
		r := newRig(t, settings(func(s *resilience.Settings) { s.MaxConnections, s.MaxPending = 1, 1 }))
		defer r.close()
		r.handle(pod1, slow)
		a, _ := r.tunnel()
		_, _ = io.WriteString(a, get)
		<-entered
		b, _ := r.tunnel()
		_, _ = io.WriteString(b, get)
		st := stateOf(r.snap.Target("cart.shop.svc.cluster.local|80"))
		for st.limits.Usage().Pending == 0 {
			time.Sleep(time.Microsecond)
		}
		if resp, _ := r.do(get); resp.StatusCode != 503 {
			t.Errorf("third: %d", resp.StatusCode)
		}
		hold <- struct{}{}
		readResponse(t, bufio.NewReader(a), "GET")
		<-entered
		hold <- struct{}{}
		if resp, _ := readResponse(t, bufio.NewReader(b), "GET"); resp.StatusCode != 200 {
			t.Errorf("second: %d", resp.StatusCode)
		}
		_, _ = a.Close(), b.Close()
		r.idle()
		if len(r.dials) != 1 {
			t.Errorf("%d dials", len(r.dials))
		}
	})
}
