package proxy

import (
	"net/http"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/telemetry"
)

// A tunnel over the limit hears 503 inside, where its app can read it; a flood of
// them, and what is no HTTP, is refused at the door. Each is counted.
func TestTunnelsOverTheLimit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		proto config.Protocol
		flood bool
		at    int // status of the CONNECT
	}{
		{"http", config.ProtocolHTTP, false, 200},
		{"http/2", config.ProtocolHTTP2, false, 200},
		{"flood", config.ProtocolHTTP, true, 503},
		{"tcp", config.ProtocolTCP, false, 503},
		{"not declared", config.ProtocolAuto, false, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(m *config.Model) { m.Destinations[0].Protocol = tt.proto })
			defer r.close()
			r.handle(pod1, hello)
			o := r.p.overload
			o.SetLimit(resilience.Streams, 1)
			c, ft := r.tunnel()
			<-ft.decided
			if tt.flood {
				r.p.inside.Store(maxInside)
			}
			over, second := r.tunnel()
			<-second.decided
			if second.status != tt.at {
				t.Fatalf("CONNECT answered %d %q", second.status, second.reason)
			}
			if tt.at == 200 {
				resp, _ := exchangeOn(t, over, get)
				if resp.StatusCode != 503 || resp.Header.Get("X-Envoy-Overloaded") != "true" || !resp.Close {
					t.Errorf("%d %v, close %v", resp.StatusCode, resp.Header, resp.Close)
				}
			}
			<-second.done // nobody has to hang up
			_ = over.Close()
			if rec := r.last(1); rec.Code != 503 || rec.Flags != telemetry.FlagUO || rec.Details != "overload_streams" {
				t.Errorf("recorded as %d %v %q", rec.Code, rec.Flags, rec.Details)
			}
			if tt.flood {
				r.p.inside.Store(0)
			}
			_ = c.Close()
			<-ft.done
			if o.Used(resilience.Streams) != 0 || o.Shed(resilience.Streams) != 1 || r.p.inside.Load() != 0 {
				t.Errorf("%d tunnels are charged, %d were shed, %d are inside", o.Used(resilience.Streams), o.Shed(resilience.Streams), r.p.inside.Load())
			}
			if d, n := r.do(get); tt.proto == config.ProtocolHTTP && (d.StatusCode != 200 || n != "hello") {
				t.Errorf("behind it: %d %q", d.StatusCode, n)
			}
		})
	}
}

// A request over the limit is shed before anything is done for it.
func TestRequestsOverTheLimit(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	begun, finish := make(chan struct{}), make(chan struct{})
	r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
		begun <- struct{}{}
		<-finish
	})
	o := r.p.overload
	o.SetLimit(resilience.Requests, 1)
	c, ft := r.tunnel()
	done := make(chan int)
	go func() {
		resp, _ := exchangeOn(t, c, get)
		done <- resp.StatusCode
	}()
	<-begun
	resp, _ := r.do(get)
	if rec := r.last(1); resp.StatusCode != 503 || resp.Header.Get("X-Envoy-Overloaded") != "true" || rec.Flags != telemetry.FlagUO || rec.Details != "overload_requests" {
		t.Errorf("%d, recorded %v %q", resp.StatusCode, rec.Flags, rec.Details)
	}
	close(finish)
	if code := <-done; code != 200 {
		t.Errorf("the first got %d", code)
	}
	_ = c.Close()
	<-ft.done
	if o.Used(resilience.Requests) != 0 || o.Shed(resilience.Requests) != 1 {
		t.Errorf("%d are charged, %d were shed", o.Used(resilience.Requests), o.Shed(resilience.Requests))
	}
}
