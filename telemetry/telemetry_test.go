package telemetry

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sample() *Record {
	r := &Record{}
	r.Reset()
	r.Start = time.Date(2026, 11, 21, 4, 5, 6, 789e6, time.UTC)
	r.Duration, r.UpstreamTime = 12*time.Millisecond, 9*time.Millisecond
	r.Version, r.Method, r.Path, r.Authority = "HTTP/1.1", "GET", "/v2/items?x=1", "cart.shop"
	r.UserAgent, r.RequestID = "curl/8", "id-1"
	r.Code, r.Details, r.Route = 200, "via_upstream", "default"
	r.Sent = 1024
	r.Upstream = netip.MustParseAddrPort("10.0.0.7:8080")
	r.UpstreamCluster = "inbound-vip|80|http|cart.shop.svc.cluster.local"
	r.DownstreamLocal = netip.MustParseAddrPort("10.96.0.10:80")
	r.Downstream = netip.MustParseAddrPort("10.0.0.3:40000")
	return r
}

func TestTextLine(t *testing.T) {
	got := string(appendText(nil, sample()))
	want := `[2026-11-21T04:05:06.789Z] "GET /v2/items?x=1 HTTP/1.1" 200 - via_upstream - "-" 0 1024 12 9 "-" "curl/8" "id-1" "cart.shop" "10.0.0.7:8080" inbound-vip|80|http|cart.shop.svc.cluster.local - 10.96.0.10:80 10.0.0.3:40000 - default` + "\n"
	if got != want {
		t.Errorf("line:\n got %s\nwant %s", got, want)
	}
}

func TestLineCannotBeForged(t *testing.T) {
	r := sample()
	r.UserAgent = "a\"\n[2026] \"GET / HTTP/1.1\" 200"
	if got := string(appendText(nil, r)); strings.Count(got, "\n") != 1 || strings.Contains(got, `"a""`) {
		t.Errorf("a client wrote into the log: %q", got)
	}
	r.Path = "/\x00\x7f\xff\\"
	var m map[string]any
	if err := json.Unmarshal(appendJSON(nil, r), &m); err != nil {
		t.Errorf("JSON line: %v", err)
	}
	if m["user_agent"] != r.UserAgent {
		t.Errorf("user_agent = %q", m["user_agent"])
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		f    Flags
		want string
	}{{0, "-"}, {FlagUH, "UH"}, {FlagURX | FlagUF, "UF,URX"}, {FlagNC, "NC"}} {
		if got := tt.f.String(); got != tt.want {
			t.Errorf("%b = %q, want %q", tt.f, got, tt.want)
		}
	}
	if 1<<len(flagNames) != flagEnd {
		t.Errorf("%d names for flags up to %b", len(flagNames), flagEnd)
	}
}

func gather(t *testing.T, r *Reporter) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r)
	fams, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range fams {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				if l.GetValue() != "unknown" && (l.GetName() == "source_workload" || l.GetName() == "response_code" || l.GetName() == "response_flags" || l.GetName() == "grpc_response_status" || l.GetName() == "request_protocol") {
					key += "|" + l.GetValue()
				}
			}
			switch {
			case m.Counter != nil:
				out[key] += m.Counter.GetValue()
			case m.Gauge != nil:
				out[key] += m.Gauge.GetValue()
			case m.Histogram != nil:
				out[key+"_count"] += float64(m.Histogram.GetSampleCount())
				out[key+"_sum"] += m.Histogram.GetSampleSum()
			}
		}
	}
	return out
}

func TestCounting(t *testing.T) {
	rep := New(Options{Build: "test"})
	src := rep.Peer(Peer{Workload: "curl", Namespace: "clients"})
	if rep.Peer(Peer{Workload: "curl", Namespace: "clients"}) != src {
		t.Fatal("a peer is interned twice")
	}
	var wg sync.WaitGroup
	for shard := range uint32(16) {
		wg.Go(func() {
			for range 100 {
				r := sample()
				r.Source, r.Shard = src, shard
				rep.Begin()
				rep.Done(r)
			}
		})
	}
	wg.Wait()
	denied := sample()
	denied.Source, denied.Code, denied.Protocol, denied.GRPCStatus = src, 200, GRPC, 7
	rep.Begin()
	rep.Done(denied)
	tcp := sample()
	tcp.Source, tcp.Protocol = src, TCP
	rep.Begin()
	rep.TCPOpened(tcp)
	rep.TCPBytes(tcp, 10, 20)
	tcp.Flags = FlagUF
	rep.TCPClosed(tcp)

	got := gather(t, rep)
	// Prometheus sorts labels by name: grpc status, protocol, code, flags, source.
	for k, want := range map[string]float64{
		"istio_requests_total||http|200|-|curl":                      1600,
		"istio_requests_total|7|grpc|200|-|curl":                     1,
		"istio_request_duration_milliseconds||http|200|-|curl_count": 1600,
		"istio_request_duration_milliseconds||http|200|-|curl_sum":   1600 * 12,
		"istio_response_bytes||http|200|-|curl_sum":                  1600 * 1024,
		"istio_tcp_received_bytes_total|tcp|-|curl":                  10,
		"istio_tcp_sent_bytes_total|tcp|-|curl":                      20,
		"istio_tcp_connections_closed_total|tcp|-|curl":              1,
		"waypoint_exchanges_active":                                  0,
	} {
		if v, ok := got[k]; !ok || v != want {
			t.Errorf("%s = %v (%v), want %v; have %v", k, v, ok, want, got)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	rep := New(Options{})
	rep.reg.limit = 3
	for i := range 10 {
		for _, p := range []Protocol{HTTP, GRPC, TCP} {
			r := sample()
			r.Protocol = p
			r.Source = &Peer{Workload: strings.Repeat("x", i+1)}
			rep.Begin()
			if p == TCP {
				rep.TCPOpened(r)
				rep.TCPClosed(r)
			} else {
				rep.Done(r)
			}
		}
	}
	total := 0.0
	for name, v := range gather(t, rep) {
		if strings.HasPrefix(name, "istio_requests_total") || strings.HasPrefix(name, "istio_tcp_connections_opened_total") {
			total += v
		}
	}
	if total != 30 {
		t.Errorf("counted %v exchanges of 30", total)
	}
}

func TestDoneDoesNotAllocate(t *testing.T) {
	var sink bytes.Buffer
	sink.Grow(1 << 22)
	log := NewAccessLog(&sink, Text)
	defer log.Close()
	rep := New(Options{Log: log})
	r := sample()
	r.Source = rep.Peer(Peer{Workload: "curl"})
	run := func() { rep.Begin(); rep.Done(r) }
	for range 2000 {
		run()
	}
	if n := testing.AllocsPerRun(1000, run); n > 0.1 {
		t.Errorf("Done allocates %v times", n)
	}
}

type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.release; return len(p), nil }

func TestStuckSinkLosesLinesNotTime(t *testing.T) {
	s := stuck{make(chan struct{})}
	log := NewAccessLog(s, JSON)
	r := sample()
	for range 2 * maxPending / 300 {
		log.write(r)
	}
	if log.Lost() == 0 {
		t.Error("nothing was dropped")
	}
	close(s.release)
	log.Close()
	before := log.Lost()
	log.write(r)
	if log.Lost() != before+1 {
		t.Error("a line after Close is not counted as lost")
	}
}

func BenchmarkDone(b *testing.B) {
	rep := New(Options{})
	r := sample()
	r.Source = rep.Peer(Peer{Workload: "curl"})
	b.ReportAllocs()
	for b.Loop() {
		rep.Begin()
		rep.Done(r)
	}
}

func BenchmarkLine(b *testing.B) {
	r := sample()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = appendText(buf[:0], r)
	}
}
