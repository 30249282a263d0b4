package istiod

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden holds the whole model of each fixture.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob("testdata/[01]*-*")
	if err != nil || len(dirs) != 10 {
		t.Fatalf("%d fixtures, want 10: %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			m := load(t, dir).Model()
			got := dump(t, m, compile(t, m))
			file := filepath.Join(dir, "golden.txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got == string(want) {
				return
			}
			g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
			for i := range max(len(g), len(w)) {
				if i >= len(g) || i >= len(w) || g[i] != w[i] {
					t.Fatalf("line %d differs:\ngot  %s\nwant %s", i+1, at(g, i), at(w, i))
				}
			}
		})
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

// dump writes a model in one stable form.
func dump(t *testing.T, m *config.Model, s *config.Snapshot) string {
	t.Helper()
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, d := range m.Destinations {
		p("destination %s workload=%v protocol=%d port=%d addrs=%v hosts=%v", d.Key, d.Workload, d.Protocol, d.Port, d.Addrs, d.Hosts)
		p("  service %+v backend=%q implicit=%v httponly=%v", d.Service, d.Backend, d.Implicit, d.HTTPOnly)
		p("  settings %s", text(t, d.Settings))
		for _, st := range d.Stages {
			p("  stage %d headers=%v spec=%s", st.Kind, st.Headers, text(t, st.Spec))
			for _, x := range st.Policies {
				p("    %d %s/%s provider=%q dry=%v rules=%d", x.Action, x.Namespace, x.Name, x.Provider, x.DryRun, len(x.Rules))
			}
		}
		for _, x := range d.Conn {
			p("  conn %d %s/%s rules=%d", x.Action, x.Namespace, x.Name, len(x.Rules))
		}
		for i := range d.Routes {
			p("  route %s", text(t, &d.Routes[i]))
		}
		for _, r := range d.TCPRoutes {
			p("  tcp %s", text(t, r))
		}
		for i, r := range d.Retries {
			p("  retry %d on=%s %s", i, r.On, text(t, r))
		}
		for i, f := range d.Faults {
			p("  fault %d %s", i, text(t, f))
		}
		for i, h := range d.Hashes {
			p("  hash %d %s", i, text(t, h))
		}
		p("  refs %v", d.Refs)
		if d.Telemetry != nil {
			p("  telemetry %s", text(t, d.Telemetry))
		}
		if c := s.Chain(d.Key); c == nil || c.Broken != d.Broken {
			t.Errorf("%s compiled to %v", d.Key, c)
		}
	}
	for _, k := range sorted(m.Backends) {
		x := m.Backends[k]
		eps, pol := x.Endpoints, x.Balance
		p("backend %s %+v protocol=%d tls=%s proxy=%d missing=%q", x.Key, x.Service, x.Protocol, text(t, x.TLS), x.ProxyProto, x.Missing)
		if x.Dynamic != nil {
			p("  named by requests %+v", *x.Dynamic)
		}
		p("  balance %d port=%d warmup=%+v weighted=%v over=%d panic=%d ring=%d-%d table=%d bias=%v hash=%s",
			pol.Kind, pol.Port, pol.Warmup, pol.LocalityWeighted, pol.Overprovisioning, pol.PanicThreshold, pol.RingMin, pol.RingMax, pol.TableSize, pol.ActiveBias, text(t, pol.Hash))
		p("  settings %s", text(t, x.Settings))
		for _, e := range eps {
			w, _ := e.Workload.(*config.Workload)
			name := ""
			if w != nil {
				name = w.Namespace + "/" + w.Name
			}
			p("  endpoint %s addr=%v tunnel=%v id=%q host=%q authority=%q health=%d weight=%d prio=%d %s workload=%s",
				e.Key, e.Addr, e.Tunnel, e.Identity, e.Hostname, e.Authority, e.Health, e.Weight, e.Priority, locality(e.Locality), name)
		}
	}
	for _, w := range m.Workloads {
		p("workload %s", text(t, w))
	}
	for _, x := range m.Problems {
		p("problem %d %s %s %s: %s (%s)", x.Severity, x.Kind, x.Name, x.Field, x.Message, x.Reason)
	}
	return b.String()
}

func locality(l balance.Locality) string {
	return fmt.Sprintf("%s/%s/%s*%d", l.Region, l.Zone, l.Subzone, l.Weight)
}

// text writes v as JSON without what is zero, so that a new field changes nothing.
func text(t *testing.T, v any) string {
	t.Helper()
	j, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var x any
	if err := json.Unmarshal(j, &x); err != nil {
		t.Fatal(err)
	}
	if j, err = json.Marshal(prune(x)); err != nil {
		t.Fatal(err)
	}
	return string(j)
}

// prune removes zero values from objects; nil stands for an empty one.
func prune(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if e = prune(e); e == nil {
				delete(x, k)
			} else {
				x[k] = e
			}
		}
		if len(x) > 0 {
			return x
		}
		return nil
	case []any:
		for i := range x {
			x[i] = prune(x[i])
		}
		if len(x) > 0 {
			return x
		}
		return nil
	case string:
		if x == "" {
			return nil
		}
	case bool:
		if !x {
			return nil
		}
	case float64:
		if x == 0 {
			return nil
		}
	}
	return v
}
