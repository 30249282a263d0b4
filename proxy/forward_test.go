package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"waypoint.dev/waypoint/config"
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

// An answer that comes before the end of the request body ends the exchange.
func TestEarlyResponse(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, func(c *memConn) {
		// The connection is used again if the client's rest went out before the
		// answer had come whole.
		for br := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
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
