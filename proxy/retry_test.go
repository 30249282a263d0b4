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
