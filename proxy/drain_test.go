package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/telemetry"
)

func TestDrainInsideTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.close()
		hold := make(chan struct{})
		r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/slow" {
				<-hold
			}
			fmt.Fprint(w, "ok")
		})
		draining := make(chan struct{})
		fresh, _ := r.open(vip+":80", draining) // accepted, no byte yet
		idle, _ := r.open(vip+":80", draining)
		exchangeOn(t, idle, get)
		busy, _ := r.open(vip+":80", draining)
		_, _ = io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: c\r\n\r\n")
		synctest.Wait()
		close(draining)
		synctest.Wait()
		for name, c := range map[string]*memConn{"fresh": fresh, "idle": idle} {
			if b, err := io.ReadAll(struct{ io.Reader }{c}); err != nil || len(b) > 0 {
				t.Errorf("%s: %q %v", name, b, err)
			}
		}
		close(hold)
		resp, body := readResponse(t, bufio.NewReader(busy), "GET")
		if !resp.Close || body != "ok" {
			t.Errorf("busy: close %v, %q", resp.Close, body)
		}
		time.Sleep(lingerTime) // for clients that do not close
		synctest.Wait()
		if n := r.p.Active(); n != 0 {
			t.Errorf("%d tunnels are left", n)
		}
		// One that still comes is served once.
		late, _ := r.open(vip+":80", draining)
		_, _ = io.WriteString(late, get)
		synctest.Wait()
		r.idle()
	})
}

// A tunnel that was opened for a request gets it served, though its connection drains
// before the first byte has come.
func TestFirstGrace(t *testing.T) {
	for _, before := range []bool{false, true} { // opened before the drain, or during it
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			defer r.close()
			r.handle(pod1, func(http.ResponseWriter, *http.Request) {})
			draining := make(chan struct{})
			var served, silent *memConn
			open := func() {
				served, _ = r.open(vip+":80", draining)
				silent, _ = r.open(vip+":80", draining)
				synctest.Wait()
			}
			if before {
				open()
			}
			close(draining)
			synctest.Wait()
			if !before {
				open()
			}
			start := time.Now()
			time.Sleep(firstGrace - time.Millisecond)
			if resp, _ := exchangeOn(t, served, get); resp.StatusCode != 200 || !resp.Close {
				t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
			}
			if b, err := io.ReadAll(struct{ io.Reader }{silent}); err != nil || len(b) > 0 {
				t.Errorf("silent: %q %v", b, err)
			}
			if d := time.Since(start); d != firstGrace {
				t.Errorf("the silent one ended after %v", d)
			}
			_ = served.Close()
			r.idle()
		})
	}
}

func TestDrainHTTP2AndTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(m *config.Model) {
			addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolAuto, pod1)
			m.Destinations[0].Protocol = config.ProtocolAuto
		})
		defer r.close()
		hold := make(chan struct{})
		r.on(pod1, func(c *memConn) {
			br := bufio.NewReader(c)
			if b, _ := br.Peek(3); string(b) != "PRI" {
				_, _ = io.Copy(struct{ io.Writer }{c}, br)
				return
			}
			answerH2{hold, "ok"}.serve(&memConn{r: prefixed(br, c.r), w: c.w})
		})
		c, _ := r.tunnel()
		cc := h2Client(t, c)
		got := make(chan string)
		go func() {
			req, _ := http.NewRequest("GET", "http://cart/", nil)
			resp, err := cc.RoundTrip(req)
			if err != nil {
				got <- err.Error()
				return
			}
			b, _ := io.ReadAll(resp.Body)
			got <- string(b)
		}()
		raw, _ := r.tunnel()
		_, _ = io.WriteString(raw, "*1\r\n")
		readN(t, raw, 4)
		synctest.Wait()
		r.p.Drain()
		time.Sleep(10 * time.Second)
		if cc.CanTakeNewRequest() {
			t.Error("no GOAWAY came")
		}
		close(hold)
		if s := <-got; s != "ok" {
			t.Errorf("open stream: %q", s)
		}
		time.Sleep(time.Second)
		if n := r.p.Active(); n != 1 {
			t.Errorf("%d tunnels are left, want the TCP one", n)
		}
		_, _ = io.WriteString(raw, "more")
		readN(t, raw, 4)
		_ = raw.Close()
		_ = cc.Close()
	})
}

// prefixed puts what br has read back in front of p.
func prefixed(br *bufio.Reader, p *memPipe) *memPipe {
	b, _ := br.Peek(br.Buffered())
	p.set(func() { p.data = append(append([]byte(nil), b...), p.data...) })
	return p
}

const upgradeRequest = "GET /chat HTTP/1.1\r\nHost: c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"

func websocketEcho(c *memConn) {
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil || !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\nhi")
	_, _ = io.Copy(struct{ io.Writer }{c}, br)
	_ = c.CloseWrite()
}

func TestWebSocket(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.on(pod1, websocketEcho)
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, upgradeRequest+"early")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") != "x" {
		t.Fatalf("%+v %v", resp, err)
	}
	if s := readN(t, br, 7); s != "hiearly" {
		t.Errorf("%q", s)
	}
	_, _ = io.WriteString(c, "frame")
	_ = c.CloseWrite()
	if b, err := io.ReadAll(br); err != nil || string(b) != "frame" {
		t.Errorf("%q %v", b, err)
	}
	r.idle()
	if rec := r.last(1); rec.Code != 101 || rec.Received != 10 || rec.Sent != 12 || rec.Flags != 0 {
		t.Errorf("record %d %d %d %v", rec.Code, rec.Received, rec.Sent, rec.Flags)
	}
}

// websocket opens one to addr, behind the greeting.
func (r *rig) websocket(addr netip.AddrPort) *bufio.Reader {
	r.t.Helper()
	r.on(addr, websocketEcho)
	c, _ := r.tunnel()
	_, _ = io.WriteString(c, upgradeRequest)
	br := bufio.NewReader(c)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
		r.t.Fatalf("%+v %v", resp, err)
	}
	readN(r.t, br, 2)
	return br
}

func TestWebSocketIsCutByPolicy(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	br := r.websocket(pod1)
	r.swap(cartModel(policy(authz.Deny, authz.RuleSpec{From: []authz.Source{{Principals: []string{"*/sa/curl"}}},
		To: []authz.Operation{{Paths: []string{"/chat"}}}, When: []authz.Condition{{Key: "request.headers[sec-websocket-version]", Values: []string{"13"}}}})))
	if _, err := io.ReadAll(br); err == nil {
		t.Error("ended cleanly")
	}
	r.idle()
	if rec := r.last(1); rec.Details != "policy_changed" || rec.Path != "/chat" {
		t.Errorf("record %q %q", rec.Details, rec.Path)
	}
}

// A client whose tunnel is reset has left; no policy cut it.
func TestWebSocketClientResets(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.websocket(pod1)
	(*resetTunnel)(r.p.tunnels.all()[0]).run() // what the reader of the connection starts
	r.idle()
	if rec := r.last(1); rec.Flags != telemetry.FlagDC || rec.Details != "via_upstream" {
		t.Errorf("record %v %q", rec.Flags, rec.Details)
	}
}

// What the end of the process cuts is not put down to the client.
func TestStopped(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.websocket(pod1)
	r.p.Stop()
	(*resetTunnel)(r.p.tunnels.all()[0]).run()
	r.idle()
	if rec := r.last(1); rec.Flags != telemetry.FlagLR || rec.Details != "drain_deadline" {
		t.Errorf("record %v %q", rec.Flags, rec.Details)
	}
}

// A backend that refuses the upgrade answers like any other.
func TestUpgradeRefused(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	r.handle(pod1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) })
	if resp, _ := r.do(upgradeRequest); resp.StatusCode != 403 {
		t.Errorf("status %d", resp.StatusCode)
	}
}
