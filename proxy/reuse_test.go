package proxy

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http2"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

// brittle is a connection whose peer is gone without a sign of it: it looks alive,
// and takes nothing.
type brittle struct {
	*memConn
	broken atomic.Bool
}

// dialBrittle has the proxy dial brittle connections. breakAll takes the peers of those
// there are away.
func (r *rig) dialBrittle() (breakAll func()) {
	var mu sync.Mutex
	var conns []*brittle
	r.p.dial = func(ctx context.Context, ep *balance.Endpoint) (hbone.Conn, error) {
		c, err := r.dial(ctx, ep)
		if err != nil {
			return nil, err
		}
		b := &brittle{memConn: c.(*memConn)}
		mu.Lock()
		conns = append(conns, b)
		mu.Unlock()
		return b, nil
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		for _, b := range conns {
			b.broken.Store(true)
		}
	}
}

func (c *brittle) Readable() bool { return !c.broken.Load() && c.memConn.Readable() }

func (c *brittle) WaitReadable() error {
	if c.broken.Load() {
		return io.EOF
	}
	return c.memConn.WaitReadable()
}

func (c *brittle) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, syscall.EPIPE
	}
	return c.memConn.Write(p)
}

func (c *brittle) Read(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, io.EOF
	}
	return c.memConn.Read(p)
}

// A request of which nothing was sent goes out again on a fresh connection,
// whatever its method, and even with retries off.
func TestUnsentRequestsAreRepeated(t *testing.T) {
	for _, tt := range []struct {
		name, req string
		retry     *resilience.Retry
	}{
		{"GET", get, nil},
		{"POST without body", "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n", nil},
		{"POST", "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\nhi", nil},
		{"POST, retries off", "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\nhi", &resilience.Retry{}},
		{"chunked POST", "POST / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(m *config.Model) {
					if tt.retry != nil {
						d := m.Destinations[0]
						rule := forward()
						rule.Retry = 0
						d.Refs, d.Routes, d.Retries = []string{d.Backend}, append(d.Routes, rule), []*resilience.Retry{tt.retry}
					}
				})
				defer r.close()
				var seen atomic.Int32
				r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
					b, _ := io.ReadAll(req.Body)
					seen.Add(1)
					w.Write(b)
				})
				breakAll := r.dialBrittle()
				c, _ := r.tunnel()
				exchangeOn(t, c, get)
				synctest.Wait() // the connection is back in its pool
				breakAll()
				resp, _ := exchangeOn(t, c, tt.req)
				if resp.StatusCode != 200 || seen.Load() != 2 {
					t.Errorf("%d, %d requests arrived", resp.StatusCode, seen.Load())
				}
				_ = c.Close()
				r.idle()
				if rec := r.last(2); rec.Attempts != 2 {
					t.Errorf("%d attempts", rec.Attempts)
				}
			})
		})
	}
}

// A connection that its server will close soon, by its own word, is not used any
// more: a request would cross the close on its way.
func TestAnnouncedCloseIsHeeded(t *testing.T) {
	for _, tt := range []struct {
		hint  string
		pause time.Duration
		dials int
	}{
		{"timeout=5", 3 * time.Second, 1},
		{"timeout=5", 4100 * time.Millisecond, 2},
		{"timeout=5, max=100", 4100 * time.Millisecond, 2},
		{"max=100", 4100 * time.Millisecond, 1},
		{"timeout=1", 400 * time.Millisecond, 1},
		{"timeout=1", 600 * time.Millisecond, 2},
		{"", time.Minute, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			defer r.close()
			r.handle(pod1, func(w http.ResponseWriter, _ *http.Request) {
				if tt.hint != "" {
					w.Header().Set("Keep-Alive", tt.hint)
				}
			})
			c, _ := r.tunnel()
			exchangeOn(t, c, get)
			time.Sleep(tt.pause)
			exchangeOn(t, c, get)
			_ = c.Close()
			r.idle()
			if len(r.dials) != tt.dials {
				t.Errorf("%q, %v later: %d connections, want %d", tt.hint, tt.pause, len(r.dials), tt.dials)
			}
		})
	}
}

// farewell is a tunnel whose connection can be told to drain.
type farewell struct {
	*memConn
	drain chan struct{}
}

func (c *farewell) Draining() <-chan struct{} { return c.drain }

// A connection in a tunnel whose node proxy goes away is not used again, and an idle
// one is closed: the node proxy waits for it, and cuts it in the end.
func TestDrainingTunnelIsLeft(t *testing.T) {
	for _, proto := range []config.Protocol{config.ProtocolHTTP, config.ProtocolHTTP2} {
		for _, idle := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(m *config.Model) { m.Backends[m.Destinations[0].Backend].Protocol = proto })
				defer r.close()
				r.handle(pod1, func(http.ResponseWriter, *http.Request) {})
				if proto == config.ProtocolHTTP2 {
					// Not the server of x/net, which shares channels between bubbles.
					r.on(pod1, func(c *memConn) {
						_ = http2.NewServerConn(c, h2.Config{}, func(srv codec.Server) {
							_ = srv.WriteHead(&codec.ResponseHead{Status: 200}, codec.End)
						}).Serve()
					})
				}
				var mu sync.Mutex
				var conns []*farewell
				r.p.dial = func(ctx context.Context, ep *balance.Endpoint) (hbone.Conn, error) {
					c, err := r.dial(ctx, ep)
					if err != nil {
						return nil, err
					}
					l := &farewell{c.(*memConn), make(chan struct{})}
					mu.Lock()
					conns = append(conns, l)
					mu.Unlock()
					return l, nil
				}
				open := func() int {
					r.p.pools.mu.Lock()
					defer r.p.pools.mu.Unlock()
					n := len(r.p.pools.leaving)
					for hp := range r.p.pools.pools {
						n += len(hp.idle) + len(hp.busy) + len(hp.multi)
					}
					return n
				}
				c, _ := r.tunnel()
				exchangeOn(t, c, get)
				synctest.Wait()
				close(conns[0].drain)
				if idle {
					time.Sleep(2*sweepInterval + time.Second) // HTTP/2 says GOAWAY, and is looked after in the next round
					synctest.Wait()
					if n := open(); n != 0 {
						t.Errorf("%v: %d connections are left to a node proxy that goes away", proto, n)
					}
				}
				for range 2 { // on one that is dialed anew
					if resp, _ := exchangeOn(t, c, get); resp.StatusCode != 200 {
						t.Errorf("%v: %d", proto, resp.StatusCode)
					}
				}
				_ = c.Close()
				r.idle()
				if len(conns) != 2 {
					t.Errorf("%v, idle %v: %d connections, want 2", proto, idle, len(conns))
				}
			})
		}
	}
}

// Who is bound to an endpoint by a hash stays with it when a kept connection has
// ended: the endpoint is there, only the connection is not.
func TestEndedConnectionKeepsTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(m *config.Model) {
			addBackend(m, cartKey, config.ProtocolHTTP, pod1, pod2, pod3).Balance = balance.Policy{Kind: balance.Maglev,
				Hash: []balance.HashSource{{Header: "x-user"}}}
		})
		defer r.close()
		for _, pod := range []netip.AddrPort{pod1, pod2, pod3} {
			r.on(pod, func(c *memConn) {
				canned(c, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Pod: "+pod.Addr().String()+"\r\n\r\n"))
			})
		}
		breakAll := r.dialBrittle()
		c, _ := r.tunnel()
		for i := range 20 {
			user := "GET / HTTP/1.1\r\nHost: c\r\nX-User: user" + strconv.Itoa(i) + "\r\n\r\n"
			first, _ := exchangeOn(t, c, user)
			synctest.Wait()
			breakAll()
			second, _ := exchangeOn(t, c, user)
			if a, b := first.Header.Get("X-Pod"), second.Header.Get("X-Pod"); a != b || second.StatusCode != 200 {
				t.Errorf("user %d went from %s to %s, %d", i, a, b, second.StatusCode)
			}
			synctest.Wait()
		}
	})
}

// Nothing is sent on a quiet HTTP/2 connection to an application: gRPC servers close
// the connection of who asks them for signs of life.
func TestQuietConnectionIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, both(func(m *config.Model) { addBackend(m, cartKey, config.ProtocolHTTP2, pod1) },
			edited(func(r *routing.Rule) { r.Timeout = 30 * time.Minute })))
		defer r.close()
		var calls atomic.Int32
		r.on(pod1, func(c *memConn) {
			if _, err := io.ReadFull(c, make([]byte, len(preface))); err != nil {
				return
			}
			fr := xhttp2.NewFramer(c, c)
			_ = fr.WriteSettings()
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return
				}
				switch f := f.(type) {
				case *xhttp2.PingFrame:
					t.Errorf("%v", f)
				case *xhttp2.SettingsFrame:
					_ = fr.WriteSettingsAck()
				case *xhttp2.HeadersFrame: // a call that is never answered
					calls.Add(1)
				}
			}
		})
		start := time.Now()
		if resp, _ := r.do(get); resp.StatusCode != 504 || time.Since(start) != 30*time.Minute || calls.Load() != 1 {
			t.Errorf("%d after %v, %d calls", resp.StatusCode, time.Since(start), calls.Load())
		}
		time.Sleep(30 * time.Minute) // and without a call
	})
}
