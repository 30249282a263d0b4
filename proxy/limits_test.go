package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/telemetry"
)

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
