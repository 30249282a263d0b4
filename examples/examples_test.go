package examples

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/stages"
)

// question is one line of an expected.jsonl, which is not read as a manifest.
type question struct {
	Method   string            `json:"method"` // GET
	URL      string            `json:"url"`
	SNI      string            `json:"sni"`
	Headers  map[string]string `json:"headers"`
	Status   int               `json:"status"`
	Route    string            `json:"route"`
	Rule     string            `json:"rule"`
	Backends []string          `json:"backends"` // names of services
	NotAsked []string          `json:"notAsked"` // what explain leaves out
	Action   string            `json:"action"`   // empty: any
	Location string            `json:"location"`
	Upstream string            `json:"upstream"` // host and path, empty: any
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("*/expected.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	client, err := identity.Parse("spiffe://cluster.local/ns/clients/sa/curl")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		dir := filepath.Dir(f)
		t.Run(dir, func(t *testing.T) {
			objs, err := kube.LoadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			m := kube.NewBuilder(kube.Options{}).Build(objs)
			store := new(config.Store)
			run := stages.New(stages.Options{Store: store})
			defer run.Close()
			snap, compiled := config.Compile(m, nil, config.Env{State: proxy.BackendState, Stage: run.Compile})
			for _, p := range append(m.Problems, compiled...) {
				if p.Severity == config.Error {
					t.Error(kube.ProblemLine(p))
				}
			}
			if b, err := os.ReadFile(filepath.Join(dir, "README.md")); err != nil || !strings.Contains(string(b), "examples/"+dir) {
				t.Errorf("the README does not say how to run it: %v", err)
			}
			store.Swap(snap)
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(b) {
				var q question
				if err := json.Unmarshal(line, &q); err != nil {
					t.Fatal(err)
				}
				ask := proxy.Question{Method: q.Method, URL: q.URL, SNI: q.SNI, From: client}
				for k, v := range q.Headers {
					ask.Headers = append(ask.Headers, attrs.Field{Name: k, Value: v})
				}
				e, err := proxy.Explain(store, ask)
				if err != nil {
					t.Fatal(err)
				}
				var backends []string
				for _, b := range e.Backends {
					backends = append(backends, b.Backend[:strings.IndexByte(b.Backend, '.')])
				}
				if e.Status != q.Status || e.Route != q.Route || e.Rule != q.Rule || strings.Join(backends, " ") != strings.Join(q.Backends, " ") || !slices.Equal(e.NotAsked, q.NotAsked) {
					t.Errorf("%s: %d by %q %q to %v, not asked %q", q.URL, e.Status, e.Route, e.Rule, backends, e.NotAsked)
				}
				if q.Action != "" && e.Action != q.Action || e.Location != q.Location || q.Upstream != "" && e.Host+e.Upstream != q.Upstream {
					t.Errorf("%s: %s, Location %q, upstream %s%s", q.URL, e.Action, e.Location, e.Host, e.Upstream)
				}
			}
		})
	}
}
