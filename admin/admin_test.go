package admin

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(Addrs{Admin: "127.0.0.1:0", Metrics: "127.0.0.1:0", Ready: "127.0.0.1:0", Stats: "127.0.0.1:0"}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); http.DefaultClient.CloseIdleConnections() })
	return s
}

func ask(t *testing.T, s *Server, method, port, path string) (int, string) {
	t.Helper()
	req, _ := http.NewRequest(method, "http://"+s.Addr(port).String()+path, nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

func TestPorts(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total", Help: "x"})
	reg.MustRegister(c)
	c.Add(3)
	var notReady atomic.Bool
	var drained, quit atomic.Int32
	level := new(slog.LevelVar)
	s := start(t, Options{
		Metrics: reg, Level: level,
		Ready: func() error {
			if notReady.Load() {
				return errors.New("no configuration yet")
			}
			return nil
		},
		Drain: func() { drained.Add(1) }, Quit: func() { quit.Add(1) },
		Dump: func(q map[string]string) any { return map[string]string{"resource": q["resource"]} },
	})
	for _, tt := range []struct {
		method, port, path string
		code               int
		body               string
	}{
		{"GET", "ready", "/healthz/ready", 200, "LIVE"},
		{"GET", "metrics", "/healthz/ready", 200, "LIVE"},
		{"GET", "admin", "/ready", 200, "LIVE"},
		{"GET", "metrics", "/metrics", 200, "things_total 3"},
		{"GET", "metrics", "/stats/prometheus", 200, "things_total 3"},
		{"GET", "stats", "/stats/prometheus", 200, "things_total 3"},
		{"GET", "admin", "/stats?filter=things", 200, "things_total{}: 3"},
		{"GET", "admin", "/stats?usedonly&filter=^things_t&format=json", 200, "{\n \"stats\": [\n  {\n   \"name\": \"things_total{}\",\n   \"value\": 3"},
		{"GET", "admin", "/stats?filter=nothing&format=json", 200, "{\n \"stats\": []\n}"},
		{"GET", "admin", "/stats?format=prometheus", 200, "things_total 3"},
		{"GET", "admin", "/stats?format=xml", 400, "xml"},
		{"GET", "admin", "/stats?filter=(", 400, "parsing"},
		{"POST", "admin", "/logging?paths=rbac:debug", 200, "debug"},
		{"GET", "admin", "/config_dump?resource=x", 200, `"resource": "x"`},
		{"GET", "admin", "/memory", 200, "goroutines"},
		{"GET", "admin", "/", 200, "POST /logging"},
		{"GET", "admin", "/nothing", 404, ""},
		{"GET", "admin", "/clusters", 404, ""},
		{"GET", "admin", "/quitquitquit", 405, ""},
		{"POST", "admin", "/logging?level=debug", 200, "debug"},
		{"POST", "admin", "/logging?level=loud", 400, "unknown level"},
		{"POST", "admin", "/drain_listeners?graceful", 200, "OK"},
		{"POST", "metrics", "/drain", 200, "OK"},
		{"POST", "metrics", "/quitquitquit", 200, "OK"},
		{"GET", "ready", "/metrics", 404, ""},
		{"GET", "admin", "/debug/pprof/cmdline", 200, ""},
	} {
		code, body := ask(t, s, tt.method, tt.port, tt.path)
		if code != tt.code || !strings.Contains(body, tt.body) {
			t.Errorf("%s %s%s = %d %q, want %d with %q", tt.method, tt.port, tt.path, code, body, tt.code, tt.body)
		}
	}
	if drained.Load() != 2 || quit.Load() != 1 || level.Level() != slog.LevelDebug {
		t.Errorf("drained %d, quit %d, level %v", drained.Load(), quit.Load(), level.Level())
	}
	notReady.Store(true)
	if code, body := ask(t, s, "GET", "ready", "/healthz/ready"); code != 503 || !strings.Contains(body, "no configuration") {
		t.Errorf("not ready = %d %q", code, body)
	}
}

// A waypoint that has its certificate at once closes the ports of its wait before they
// began to serve, and opens them again.
func TestPortsAreFreeAfterClose(t *testing.T) {
	at := "127.0.0.1:0"
	for range 200 {
		s, err := Start(Addrs{Ready: at}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		at = s.Addr("ready").String()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAdminPortIsLoopbackOnly(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:0": true, "[::1]:0": true, "localhost:0": true,
		":0": false, "0.0.0.0:0": false, "192.0.2.1:0": false, "nonsense": false,
	} {
		if err := loopback(addr); (err == nil) != ok {
			t.Errorf("loopback(%q) = %v", addr, err)
		}
	}
	if s, err := Start(Addrs{Admin: ":0"}, Options{}); !errors.Is(err, ErrNotLoopback) {
		s.Close()
		t.Errorf("an open administration port started: %v", err)
	}
}

func TestStoppingIsLocal(t *testing.T) {
	h := local(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) })
	for from, want := range map[string]int{"127.0.0.1:5": 200, "[::1]:5": 200, "192.0.2.7:5": 403, "": 403} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/quitquitquit", nil)
		r.RemoteAddr = from
		h(w, r)
		if w.Code != want {
			t.Errorf("from %q: %d, want %d", from, w.Code, want)
		}
	}
}
