package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// The bounds of a whole exchange and of a whole attempt count from its start,
// whoever is slow.
func TestMaxDuration(t *testing.T) {
	route := edited(func(r *routing.Rule) { r.MaxDuration = time.Second })
	cluster := settings(func(s *resilience.Settings) { s.MaxStreamDuration = time.Second })
	slowBody := func(c *memConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")
		silent(c)
	}
	upgraded := func(c *memConn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		silent(c)
	}
	const upload = "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\na"
	const websocket = "GET / HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	for _, tt := range []struct {
		name    string
		edit    func(*config.Model)
		serve   func(*memConn)
		in      string
		code    int // of the answer; what does not end well is cut
		body    string
		flags   telemetry.Flags
		details string
	}{
		{"no answer, by the route", route, silent, get, 504, "downstream duration timeout", telemetry.FlagDT, "max_duration_timeout"},
		{"no answer, by the cluster", cluster, silent, get, 504, "upstream max stream duration reached", telemetry.FlagUMSDR, "upstream_max_stream_duration_reached"},
		{"slow upload, by the route", route, silent, upload, 408, "downstream duration timeout", telemetry.FlagDT, "max_duration_timeout"},
		{"slow upload, by the cluster", cluster, silent, upload, 408, "upstream max stream duration reached", telemetry.FlagUMSDR, "upstream_max_stream_duration_reached"},
		{"slow answer, by the route", route, slowBody, get, 200, "", telemetry.FlagDT, "max_duration_timeout"},
		{"slow answer, by the cluster", cluster, slowBody, get, 200, "", telemetry.FlagUMSDR, "upstream_max_stream_duration_reached"},
		{"upgrade, by the route", route, upgraded, websocket, 101, "", telemetry.FlagDT, "max_duration_timeout"},
		{"upgrade, by the cluster", cluster, upgraded, websocket, 101, "", telemetry.FlagUMSDR, "upstream_max_stream_duration_reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, tt.edit)
				defer r.close()
				r.on(pod1, tt.serve)
				start := time.Now()
				c, _ := r.tunnel()
				_, _ = io.WriteString(c, tt.in)
				br := bufio.NewReader(c)
				resp, err := http.ReadResponse(br, nil)
				if err != nil || resp.StatusCode != tt.code {
					t.Fatalf("%v %v", resp, err)
				}
				if tt.code == 101 {
					_, err = br.ReadByte()
				} else {
					var b []byte
					if b, err = io.ReadAll(resp.Body); err == nil && string(b) != tt.body {
						t.Errorf("%q", b)
					}
				}
				if d := time.Since(start); d != time.Second || (err == nil) != (tt.code >= 400) {
					t.Errorf("%v after %v", err, d)
				}
				_ = c.Close()
				synctest.Wait()
				if rec := r.last(1); rec.Flags != tt.flags || rec.Code != tt.code || rec.Details != tt.details {
					t.Errorf("record %d %v %q", rec.Code, rec.Flags, rec.Details)
				}
			})
		})
	}
}

// What ends in time is left alone, on a connection that is used again later.
func TestMaxDurationIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(m *config.Model) {
			edited(func(r *routing.Rule) { r.MaxDuration = time.Second })(m)
			settings(func(s *resilience.Settings) { s.MaxStreamDuration = 2 * time.Second })(m)
		})
		defer r.close()
		r.handle(pod1, func(w http.ResponseWriter, _ *http.Request) { time.Sleep(900 * time.Millisecond) })
		c, _ := r.tunnel()
		br := bufio.NewReader(c)
		for range 3 {
			_, _ = io.WriteString(c, get)
			if resp, _ := readResponse(t, br, get); resp.StatusCode != 200 {
				t.Errorf("%d", resp.StatusCode)
			}
			time.Sleep(5 * time.Second)
		}
		_ = c.Close()
	})
}

// A request does not take the body that another one's client broke off for its own.
func TestBrokenBodyIsForgotten(t *testing.T) {
	r := newRig(t, edited(func(r *routing.Rule) { r.Timeout = 20 * time.Millisecond }))
	defer r.close()
	r.on(pod1, silent)
	for range 20 {
		c, ft := r.tunnel()
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n")
		_, _ = io.ReadAll(c)
		_ = c.Close()
		<-ft.done
		if resp, body := r.do(get); resp.StatusCode != 504 || body != "upstream request timeout" {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
	}
}

// A rule's hash sources take the place of its backend's; only a backend that
// places requests by a hash makes a cookie.
func TestRouteHash(t *testing.T) {
	byHeader := []balance.HashSource{{Header: "x-user"}}
	byCookie := []balance.HashSource{{Cookie: &balance.HashCookie{Name: "place", Create: true}}}
	for _, tt := range []struct {
		name          string
		kind          balance.Kind
		route, own    []balance.HashSource
		placed, baked bool
	}{
		{"route", balance.RingHash, byHeader, nil, true, false},
		{"route before backend", balance.Maglev, byHeader, byCookie, true, false},
		{"backend", balance.RingHash, nil, byHeader, true, false},
		{"route's cookie", balance.RingHash, byCookie, byHeader, false, true},
		{"no hashing", balance.RoundRobin, byCookie, nil, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(m *config.Model) {
				edited(func(r *routing.Rule) {
					if tt.route != nil {
						r.Hash = 0
					}
				})(m)
				if tt.route != nil {
					m.Destinations[0].Hashes = [][]balance.HashSource{tt.route}
				}
				b := addBackend(m, m.Destinations[0].Backend, config.ProtocolHTTP, pod1, pod2)
				b.Balance = balance.Policy{Kind: tt.kind, Hash: tt.own}
			})
			defer r.close()
			for i, pod := range []string{"1", "2"} {
				addr := pod1
				if i == 1 {
					addr = pod2
				}
				r.handle(addr, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Pod", pod) })
			}
			pods := map[string]bool{}
			for user := range 8 {
				first := ""
				for range 4 {
					resp, _ := r.do(fmt.Sprintf("GET / HTTP/1.1\r\nHost: c\r\nX-User: u%d\r\n\r\n", user))
					pod := resp.Header.Get("X-Pod")
					pods[pod] = true
					if first == "" {
						first = pod
					}
					if tt.placed && pod != first {
						t.Fatalf("user %d went to %s and %s", user, first, pod)
					}
					if got := strings.HasPrefix(resp.Header.Get("Set-Cookie"), "place="); got != tt.baked {
						t.Fatalf("cookie %q", resp.Header.Get("Set-Cookie"))
					}
				}
			}
			if len(pods) != 2 {
				t.Errorf("pods %v", pods)
			}
		})
	}
}
