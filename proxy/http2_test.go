package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/telemetry"
)

// handleH2 makes an HTTP/2 backend of h; not in a bubble, see answerH2.
func (r *rig) handleH2(c *memConn, h http.Handler) {
	(&xhttp2.Server{}).ServeConn(c, &xhttp2.ServeConnOpts{Handler: h})
}

// answerH2 is an HTTP/2 backend in a bubble: each answer is body, given once wait is
// closed. x/net's server passes its channels on to the next one, which may be outside
// of the bubble.
type answerH2 struct {
	wait <-chan struct{} // nil: at once
	body string
}

func (a answerH2) serve(c net.Conn) { _ = h2.NewServer(c, h2.Config{}, a).Serve() }

// ServeStream implements h2.Handler.
func (a answerH2) ServeStream(s *h2.Stream) {
	if a.wait != nil {
		<-a.wait
	}
	if s.WriteHead(&h2.Head{Status: 200}, h2.More) == nil {
		_, _ = s.WriteData([]byte(a.body), h2.End)
	}
}

// h2Client speaks HTTP/2 with prior knowledge on one tunnel.
func h2Client(t *testing.T, c *memConn) *xhttp2.ClientConn {
	t.Helper()
	cc, err := (&xhttp2.Transport{AllowHTTP: true, DisableCompression: true}).NewClientConn(net.Conn(c))
	if err != nil {
		t.Fatal(err)
	}
	return cc
}

// echoBody answers with the request's body, its trailers, and what it saw.
func echoBody(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	w.Header().Set("Trailer", "X-Sum")
	w.Header().Set("X-Saw", fmt.Sprintf("%s %s %s %d", req.Proto, req.Method, req.RequestURI, len(b)))
	w.Header().Set("X-In", req.Trailer.Get("X-In"))
	_, _ = w.Write(b)
	w.Header().Set("X-Sum", fmt.Sprint(len(b)))
}

func TestAcrossVersions(t *testing.T) {
	for _, client := range []string{"h1", "h2"} {
		for _, backend := range []config.Protocol{config.ProtocolHTTP, config.ProtocolHTTP2, config.ProtocolAuto} {
			for _, size := range []int{0, 10, 300 << 10} {
				t.Run(fmt.Sprintf("%s to %d, %d bytes", client, backend, size), func(t *testing.T) {
					r := newRig(t, func(m *config.Model) { addBackend(m, "cart.shop.svc.cluster.local|80", backend, pod1) })
					defer r.close()
					h2 := backend == config.ProtocolHTTP2 || backend == config.ProtocolAuto && client == "h2"
					r.on(pod1, func(c *memConn) {
						if h2 {
							r.handleH2(c, http.HandlerFunc(echoBody))
							return
						}
						serveHTTP1(c, echoBody)
					})
					c, _ := r.tunnel()
					var rt http.RoundTripper
					if client == "h2" {
						cc := h2Client(t, c)
						defer cc.Close()
						rt = cc
					} else {
						tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
						defer tr.CloseIdleConnections()
						rt = tr
					}
					body := strings.Repeat("b", size)
					for range 3 {
						req, _ := http.NewRequest("POST", "http://cart/p?q", strings.NewReader(body))
						if size == 0 {
							req, _ = http.NewRequest("GET", "http://cart/p?q", nil)
						}
						resp, err := rt.RoundTrip(req)
						if err != nil {
							t.Fatal(err)
						}
						b, err := io.ReadAll(resp.Body)
						_ = resp.Body.Close()
						if err != nil || string(b) != body || resp.StatusCode != 200 {
							t.Fatalf("%d, %d bytes, %v", resp.StatusCode, len(b), err)
						}
						proto := "HTTP/1.1"
						if h2 {
							proto = "HTTP/2.0"
						}
						if want := fmt.Sprintf("%s %s /p?q %d", proto, req.Method, size); resp.Header.Get("X-Saw") != want {
							t.Errorf("backend saw %q, want %q", resp.Header.Get("X-Saw"), want)
						}
						// An HTTP/1 message with a content-length has no place for trailers.
						if h2 && (client == "h2" || resp.ContentLength < 0) && resp.Trailer.Get("X-Sum") != fmt.Sprint(size) {
							t.Errorf("trailer %v", resp.Trailer)
						}
					}
					// An HTTP/2 client's next request may overtake the end of the last.
					if len(r.dials) != 1 && (client == "h1" || h2) {
						t.Errorf("%d dials", len(r.dials))
					}
				})
			}
		}
	}
}

// grpcFrame is one message.
func grpcFrame(s string) []byte {
	return append([]byte{0, 0, 0, 0, byte(len(s))}, s...)
}

// All four kinds of gRPC are one: messages either way as they come, then trailers.
func TestGRPCBidi(t *testing.T) {
	r := newRig(t, func(m *config.Model) { addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolGRPC, pod1) })
	defer r.close()
	r.on(pod1, func(c *memConn) {
		r.handleH2(c, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			b := make([]byte, 64)
			for {
				n, err := req.Body.Read(b)
				_, _ = w.Write(b[:n])
				w.(http.Flusher).Flush()
				if err != nil {
					break
				}
			}
			w.Header().Set("Grpc-Status", "5")
		}))
	})
	c, _ := r.tunnel()
	cc := h2Client(t, c)
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", "http://cart/s/m", pr)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		m := grpcFrame(fmt.Sprint("message ", i))
		_, _ = pw.Write(m)
		got := make([]byte, len(m))
		if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, m) {
			t.Fatalf("%q %v", got, err)
		}
	}
	_ = pw.Close()
	_, _ = io.ReadAll(resp.Body)
	if s := resp.Trailer.Get("Grpc-Status"); s != "5" {
		t.Errorf("grpc-status %q", s)
	}
	_ = cc.Close()
	r.idle()
	rec := r.last(1)
	if rec.Protocol != telemetry.GRPC || rec.GRPCStatus != 5 || rec.RequestMessages != 5 || rec.ResponseMessages != 5 {
		t.Errorf("record %+v", rec)
	}
}

// A cancelled call reaches the backend though nothing else moves.
func TestCancelReachesBackend(t *testing.T) {
	for _, head := range []bool{false, true} {
		t.Run(fmt.Sprintf("head sent: %v", head), func(t *testing.T) {
			r := newRig(t, func(m *config.Model) { addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolHTTP2, pod1) })
			defer r.close()
			entered, left := make(chan struct{}), make(chan struct{})
			r.on(pod1, func(c *memConn) {
				r.handleH2(c, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if head {
						w.WriteHeader(200)
						w.(http.Flusher).Flush()
					}
					close(entered)
					<-req.Context().Done()
					close(left)
				}))
			})
			c, _ := r.tunnel()
			cc := h2Client(t, c)
			ctx, cancel := context.WithCancel(context.Background())
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://cart/wait", nil)
			got := make(chan error, 1)
			go func() {
				resp, err := cc.RoundTrip(req)
				if err == nil {
					_, err = io.ReadAll(resp.Body)
				}
				got <- err
			}()
			<-entered
			cancel()
			if err := <-got; !errors.Is(err, context.Canceled) {
				t.Errorf("client: %v", err)
			}
			<-left
			_ = cc.Close()
			r.idle()
			if rec := r.last(1); rec.Flags&telemetry.FlagDC == 0 {
				t.Errorf("record %v", rec.Flags)
			}
		})
	}
}

// A refused stream is another endpoint's, whatever the method.
func TestRefusedStreamIsRetried(t *testing.T) {
	r := newRig(t, func(m *config.Model) {
		addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolHTTP2, pod1, pod2)
	})
	defer r.close()
	r.on(pod1, func(c *memConn) {
		fr := xhttp2.NewFramer(c, c)
		_, _ = io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface)))
		_ = fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := f.(*xhttp2.HeadersFrame); ok {
				_ = fr.WriteRSTStream(h.StreamID, xhttp2.ErrCodeRefusedStream)
			}
		}
	})
	r.on(pod2, func(c *memConn) { r.handleH2(c, http.HandlerFunc(echoBody)) })
	for range 4 {
		resp, body := r.do("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 2\r\n\r\nhi")
		if resp.StatusCode != 200 || body != "hi" {
			t.Fatalf("%d %q", resp.StatusCode, body)
		}
	}
}

// A long response is cut when a new policy denies its request.
func TestPolicyChangeCutsStream(t *testing.T) {
	edit := func(m *config.Model) { addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolHTTP2, pod1) }
	r := newRig(t, edit)
	defer r.close()
	r.on(pod1, func(c *memConn) {
		r.handleH2(c, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-req.Context().Done()
		}))
	})
	c, _ := r.tunnel()
	cc := h2Client(t, c)
	req, _ := http.NewRequest("GET", "http://cart/watch", nil)
	resp, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(resp.Body, make([]byte, 1))
	r.swap(cartModel(both(edit, policy(authz.Deny, authz.RuleSpec{To: []authz.Operation{{Paths: []string{"/watch"}}}}))))
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended cleanly")
	}
	_ = cc.Close()
	r.idle()
	if rec := r.last(1); rec.Details != "policy_changed" {
		t.Errorf("record %v %q", rec.Flags, rec.Details)
	}
}

func TestManyStreams(t *testing.T) {
	r := newRig(t, func(m *config.Model) { addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolAuto, pod1) })
	defer r.close()
	r.on(pod1, func(c *memConn) { r.handleH2(c, http.HandlerFunc(echoBody)) })
	c, _ := r.tunnel()
	cc := h2Client(t, c)
	errs := make(chan error)
	const n = 50
	for i := range n {
		go func() {
			body := strings.Repeat("z", i*1000)
			req, _ := http.NewRequest("POST", "http://cart/", strings.NewReader(body))
			resp, err := cc.RoundTrip(req)
			if err == nil {
				var b []byte
				if b, err = io.ReadAll(resp.Body); err == nil && string(b) != body {
					err = fmt.Errorf("%d: %d bytes", i, len(b))
				}
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	_ = cc.Close()
}
