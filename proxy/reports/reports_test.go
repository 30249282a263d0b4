package reports

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	tracecol "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/testmesh"
	"waypoint.dev/waypoint/telemetry"
	"waypoint.dev/waypoint/telemetry/otlp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is the files that logs were opened as.
type disk struct {
	mu     sync.Mutex
	files  map[string]*bytes.Buffer // guarded by mu
	opened int                      // guarded by mu
	closed int                      // guarded by mu
}

type diskFile struct {
	d    *disk
	name string
}

func (f diskFile) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.d.files[f.name].Write(b)
}

func (f diskFile) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.closed++
	return nil
}

func (d *disk) open(name string) (io.WriteCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if name == "/forbidden" {
		return nil, errors.New("read-only file system")
	}
	if d.files == nil {
		d.files = map[string]*bytes.Buffer{}
	}
	d.files[name] = &bytes.Buffer{}
	d.opened++
	return diskFile{d, name}, nil
}

func (d *disk) text(name string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[name].String()
}

// finish reports an exchange of a plan.
func finish(rep *telemetry.Reporter, run any, code int, edit func(*telemetry.Record)) {
	r := &telemetry.Record{}
	r.Reset()
	r.Plan = run.(*telemetry.Plan)
	r.Start, r.Duration, r.Method, r.Path, r.Authority, r.Code = time.Now(), time.Millisecond, "GET", "/x", "cart", code
	if edit != nil {
		edit(r)
	}
	if rep.Tracing(r.Plan) {
		r.Trace = rep.Place(r.Plan, "")
	}
	rep.Begin()
	rep.Done(r)
}

func TestFiles(t *testing.T) {
	d := &disk{}
	r := New(Options{Open: d.open})
	run, problems := r.Compile(&config.Telemetry{Logs: []config.AccessLog{
		{Kind: "file", Path: "/a", Text: "%RESPONSE_CODE% %REQ(X-A)% %HUH%\n", MinStatus: 400},
		{Kind: "file", Path: "/a", JSON: `{"code":"%RESPONSE_CODE%"}`, Expression: "response.code == 200"},
		{Kind: "file", Path: "/b", Text: "%RESPONSE_FLAGS%\n", Flags: []string{"NR", "UF"}},
		{Kind: "file", Path: "/b", Text: "all\n", Expression: "what is this"},
		{Kind: "file", Path: "/forbidden"},
		{Kind: "grpc"},
		{Kind: "file", Path: "/c", JSON: "no object"},
	}})
	var told []string
	for _, p := range problems {
		if p.Severity != config.Warning || p.Kind != "Telemetry" {
			t.Errorf("%+v", p)
		}
		told = append(told, p.Message)
	}
	all := strings.Join(told, "|")
	for _, want := range []string{"%HUH%", "everything is logged", "read-only", `"grpc" are not implemented`, "text format is written"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s: %q is not among it", all, want)
		}
	}
	rep := telemetry.New(telemetry.Options{})
	finish(rep, run, 200, nil)
	finish(rep, run, 404, func(r *telemetry.Record) {
		r.Flags, r.RequestHeaders = telemetry.FlagNR, []attrs.Field{{Name: "x-a", Value: "b"}}
	})
	again, _ := r.Compile(&config.Telemetry{Logs: []config.AccessLog{{Kind: "file", Path: "/a", Text: "again\n"}}})
	finish(rep, again, 200, nil)
	r.Close()
	if d.opened != 3 || d.closed != 3 {
		t.Errorf("%d files were opened and %d closed, want 3", d.opened, d.closed)
	}
	if got := d.text("/a"); got != "{\"code\":200}\n404 b -\nagain\n" {
		t.Errorf("a: %q", got)
	}
	if got := d.text("/b"); got != "all\nNR\nall\n" {
		t.Errorf("b: %q", got)
	}
	if got := d.text("/c"); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"GET /x -" 404 NR`) {
		t.Errorf("c: %q", got)
	}
}

// TestSweep closes what no snapshot uses, and not what the next one may use.
func TestSweep(t *testing.T) {
	d := &disk{}
	r := New(Options{Open: d.open})
	defer r.Close()
	tel := []*config.Telemetry{{Logs: []config.AccessLog{{Kind: "file", Path: "/a"}}}, {Logs: []config.AccessLog{{Kind: "file", Path: "/b"}}}}
	store := &config.Store{}
	defer r.Watch(store)()
	swap := func(use *config.Telemetry) {
		m := &config.Model{Destinations: []*config.Destination{{Key: "a:80", Port: 80, Backend: "b", Telemetry: use}}}
		s, _ := config.Compile(m, store.Load(), config.Env{Reports: r.Compile})
		store.Swap(s)
	}
	steps := []struct {
		use    *config.Telemetry
		closed int
	}{{tel[0], 0}, {tel[0], 0}, {tel[1], 1}, {tel[0], 2}, {nil, 3}, {nil, 3}}
	for i, x := range steps {
		swap(x.use)
		if d.closed != x.closed {
			t.Errorf("swap %d: %d closed, want %d", i, d.closed, x.closed)
		}
	}
	if a, _ := r.Compile(tel[0]); a == nil {
		t.Error("no plan")
	}
}

// TestCollectors sends spans and log records to a collector that a backend's key
// leads to.
func TestCollectors(t *testing.T) {
	c, err := testmesh.NewCollector()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var mu sync.Mutex
	var asked []string
	dial := func(ctx context.Context, backend string, h2 bool) (net.Conn, error) {
		mu.Lock()
		asked = append(asked, fmt.Sprint(backend, h2))
		mu.Unlock()
		return (&net.Dialer{}).DialContext(ctx, "tcp", c.Addr)
	}
	r := New(Options{Dial: dial, Node: otlp.Node{MeshID: "m"}, Service: "waypoint.shop"})
	t.Setenv("TEAM_ENV", "50%")
	run, problems := r.Compile(&config.Telemetry{
		Logs: []config.AccessLog{{Kind: "otel", Backend: "outbound|4317||otel.obs", Name: "log", Text: "%RESPONSE_CODE%", Attributes: []config.LogAttribute{{Name: "team", Format: "%REQ(X-TEAM)%"}}}},
		Tracing: &config.Tracing{Kind: "opentelemetry", Backend: "outbound|4317||otel.obs", Random: 100, Overall: 100, Tags: []config.TraceTag{
			{Name: "lit", Literal: "100%"}, {Name: "team", Header: "x-team", Default: "none"}, {Name: "other", Header: "x-other", Default: "none"},
			{Name: "env", Env: "TEAM_ENV"}, {Name: "fmt", Format: "%RESPONSE_CODE%"}, {Name: "left-out", Header: "x-other"},
		}},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	rep := telemetry.New(telemetry.Options{})
	finish(rep, run, 201, func(r *telemetry.Record) { r.RequestHeaders = []attrs.Field{{Name: "x-team", Value: "bl\xffue"}} })
	go r.Close() // flushes
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, s := c.NextLog(ctx), c.Next(ctx)
	r.Close()
	if l == nil || l.Body.GetStringValue() != "201" || l.Attributes[0].Key != "team" || l.Attributes[0].Value.GetStringValue() != "bl\uFFFDue" || len(l.TraceId) != 16 {
		t.Errorf("log %v", l)
	}
	tags := testmesh.Tags(s)
	for k, v := range map[string]string{"lit": "100%", "team": "bl\uFFFDue", "other": "none", "env": "50%", "fmt": "201", "istio.mesh_id": "m"} {
		if tags[k] != v {
			t.Errorf("tag %s = %q, want %q", k, tags[k], v)
		}
	}
	if _, there := tags["left-out"]; there {
		t.Error("a tag without a value is there")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 || asked[0] != "outbound|4317||otel.obstrue" {
		t.Errorf("dialed %v", asked)
	}
}

// TestOverHTTP sends spans in the body of a POST.
func TestOverHTTP(t *testing.T) {
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		var req tracecol.ExportTraceServiceRequest
		err := proto.Unmarshal(b, &req)
		got <- fmt.Sprint(q.Method, " ", q.Host, q.URL.Path, " ", q.Header.Get("Api-Key"), " ", q.Header.Get("Content-Type"), " ", len(req.ResourceSpans), err)
	}))
	defer srv.Close()
	r := New(Options{Dial: func(ctx context.Context, _ string, h2 bool) (net.Conn, error) {
		if h2 {
			t.Error("HTTP/2 is asked for")
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}})
	run, _ := r.Compile(&config.Telemetry{Tracing: &config.Tracing{
		Kind: "opentelemetry", Backend: "outbound|4318||otel.obs", Authority: "otel", Path: "/v1/traces", Random: 100, Overall: 100, Headers: []config.LogAttribute{{Name: "api-key", Format: "k"}},
	}})
	finish(telemetry.New(telemetry.Options{}), run, 200, nil)
	r.Close()
	if s := <-got; s != "POST otel/v1/traces k application/x-protobuf 1 <nil>" {
		t.Error(s)
	}
}

type ignore struct{}

func (ignore) Finish(*telemetry.Record) {}

// TestSampling takes the share that the source says, up to its bound.
func TestSampling(t *testing.T) {
	r := New(Options{})
	defer r.Close()
	rep := telemetry.New(telemetry.Options{Tracer: ignore{}, Sampler: telemetry.NewSampler(100)})
	for i, x := range []struct {
		tr      config.Tracing
		tracing bool
		problem bool
	}{
		{config.Tracing{Random: 100, Overall: 0, Kind: "opentelemetry"}, true, false},
		{config.Tracing{Random: 100, Overall: 100, Kind: "zipkin"}, false, true},
		{config.Tracing{Random: 100, Overall: 100}, true, false}, // no provider: as the reporter says
	} {
		run, problems := r.Compile(&config.Telemetry{Tracing: &x.tr})
		p := run.(*telemetry.Plan)
		if rep.Tracing(p) != x.tracing || len(problems) > 0 != x.problem {
			t.Errorf("%d: tracing %v, %v", i, rep.Tracing(p), problems)
		}
		if tr := rep.Place(p, ""); tr.Sampled != (x.tr.Overall > 0) {
			t.Errorf("%d: sampled %v", i, tr.Sampled)
		}
	}
}
