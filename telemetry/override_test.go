package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// scrape returns the series of a metric as their own labels and value, sorted.
func scrape(t *testing.T, r *Reporter, name string, show ...string) (out []string) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(r)
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var l []string
			for _, p := range m.GetLabel() {
				if slices.Contains(show, p.GetName()) {
					l = append(l, p.GetName()+"="+p.GetValue())
				}
			}
			n := m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				n = float64(h.GetSampleCount())
			}
			out = append(out, fmt.Sprintf("%s %v", strings.Join(l, ","), n))
		}
	}
	slices.Sort(out)
	return out
}

func TestChangedMetrics(t *testing.T) {
	m, errs := CompileMetrics([]MetricChange{
		{Metric: "requests_total", Set: map[string]string{"request_host": "request.host", "bad": "what.is.this"}, Remove: []string{"response_code"}},
		{Metric: "request_duration_milliseconds", Drop: true},
		{Set: map[string]string{"source_app": "'me'"}},
		{Metric: "tcp_sent_bytes_total", Remove: []string{"source_app"}},
		{Metric: "nothing"},
	})
	if len(errs) != 2 {
		t.Errorf("%d errors, want those of an expression and a metric: %v", len(errs), errs)
	}
	rep := New(Options{})
	plan := &Plan{Metrics: m}
	done := func(p *Plan, code int, host string) {
		r := record()
		r.Plan, r.Code, r.Authority = p, code, host
		rep.Begin()
		rep.Done(r)
	}
	done(nil, 200, "plain") // another service's, as it is
	done(plan, 200, "a")
	done(plan, 500, "a")
	done(plan, 200, "b\x00c\xff")
	if got, want := fmt.Sprint(scrape(t, rep, "istio_requests_total", "request_host", "response_code", "bad", "source_app")),
		"[bad=unknown,request_host=a,source_app=me 2 bad=unknown,request_host=b?c\uFFFD,source_app=me 1 response_code=200,source_app=curl 1]"; got != want {
		t.Errorf("requests %s, want %s", got, want)
	}
	if got := scrape(t, rep, "istio_request_duration_milliseconds", "response_code"); len(got) != 1 || got[0] != "response_code=200 1" {
		t.Errorf("durations %v: dropped for the one service only", got)
	}
	// What keeps its labels is counted together with what nobody changed.
	same, _ := CompileMetrics([]MetricChange{{Metric: "request_duration_milliseconds", Drop: true}})
	done(&Plan{Metrics: same}, 200, "plain")
	if got := scrape(t, rep, "istio_requests_total", "response_code", "source_app"); !slices.Contains(got, "response_code=200,source_app=curl 2") {
		t.Errorf("requests %v", got)
	}
	tcp := record()
	tcp.Protocol, tcp.Plan = TCP, plan
	rep.Begin()
	rep.TCPOpened(tcp)
	rep.TCPBytes(tcp, 5, 7)
	rep.TCPClosed(tcp)
	if got := fmt.Sprint(scrape(t, rep, "istio_tcp_sent_bytes_total", "source_app"), scrape(t, rep, "istio_tcp_connections_opened_total", "source_app")); got != "[ 7] [source_app=me 1]" {
		t.Errorf("tcp %s", got)
	}
}

// TestChangedMetricsAreBounded shows that clients who choose the values of labels
// cannot make series without end.
func TestChangedMetricsAreBounded(t *testing.T) {
	m, _ := CompileMetrics([]MetricChange{{Set: map[string]string{"h": "request.host"}}})
	rep := New(Options{})
	rep.reg = newRegistry(10)
	for i := range 100 {
		r := record()
		r.Plan, r.Authority = &Plan{Metrics: m}, fmt.Sprint("host-", i)
		rep.Begin()
		rep.Done(r)
	}
	got := scrape(t, rep, "istio_requests_total", "h")
	if len(got) != 11 || !slices.Contains(got, "h=unknown 90") {
		t.Errorf("%d series: %v", len(got), got)
	}
}

func TestChangedMetricsDoNotAllocate(t *testing.T) {
	m, _ := CompileMetrics([]MetricChange{{Set: map[string]string{"h": "request.host", "p": "destination.port"}, Remove: []string{"response_code"}}})
	rep, r := New(Options{}), record()
	r.Plan = &Plan{Metrics: m}
	if n := testing.AllocsPerRun(100, func() {
		rep.Begin()
		rep.Done(r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
