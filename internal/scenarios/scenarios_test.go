package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
)

// minimum is how many questions were asked when this was written, both ways
// counted; fewer means that some were lost.
const minimum = 200

func TestScenarios(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(fixtures, "[0-9][0-9]-*")) // the rest are cut-outs and seeds
	if err != nil {
		t.Fatal(err)
	}
	corpus["04-jwt"] = jwtScenario()
	listed, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	asked, ran := 0, 0
	for _, d := range dirs {
		name := filepath.Base(d)
		s, ok := corpus[name]
		if !ok {
			t.Errorf("nothing is asked of %s", name)
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) { asked += s.run(t, name, string(listed)) })
	}
	if ran < 10 || asked < minimum {
		t.Errorf("%d scenarios and %d questions, want 10 and %d at least", ran, asked, minimum)
	}
}

// run asks everything of both ways in, and says how many questions that were.
func (s *scenario) run(t *testing.T, name, listed string) (asked int) {
	m := newWorld(t, s.special)
	if s.prepare != nil {
		s.prepare(m)
	}
	first := make([]answer, len(s.questions))
	ways := []struct {
		name  string
		model func(string) *config.Model
	}{{"istiod", m.fromIstiod}, {"objects", m.fromObjects}}
	if s.istiodOnly != "" {
		ways = ways[:1]
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			model := way.model(name)
			for _, p := range m.w.Serve(model) {
				if p.Severity == config.Error && !strings.Contains(p.Message, "nosuch") { // which is meant to be missing
					t.Errorf("%s %s/%s %s: %s", p.Kind, p.Namespace, p.Name, p.Field, p.Message)
				}
			}
			defer m.http.CloseIdleConnections()
			for i := range s.questions {
				x := s.questions[i]
				w := x.want
				if way.name == "objects" && x.objects != nil {
					w = *x.objects
					if x.listed == "" || !strings.Contains(listed, x.listed) {
						t.Errorf("docs/compatibility.md does not list %q", x.listed)
					}
				}
				a := x.ask
				if strings.HasPrefix(a.to, "*") {
					a.to = addressOf(t, model, a.to)
				}
				got := m.ask(a)
				asked++
				w.hold(t, &a, got)
				if way.name == "istiod" {
					first[i] = got
				} else if name == "05-destinationrule" && len(a.headers) > 0 && got.app != first[i].app {
					t.Errorf("%s %s %v: %s, through istiod %s", a.to, a.path, a.headers, got.app, first[i].app) // hashed alike
				}
			}
		})
	}
	return asked
}

// addressOf is where a host is reached whose address was chosen for it.
func addressOf(t *testing.T, m *config.Model, host string) string {
	for _, d := range m.Destinations {
		if d.Service.Host == host && len(d.Addrs) > 0 {
			return d.Addrs[0].Addr().String() + ":80"
		}
	}
	t.Fatalf("%s has no address", host)
	return ""
}

// hold compares an answer with what is wanted.
func (w *want) hold(t *testing.T, a *ask, got answer) {
	t.Helper()
	bad := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s %s%s host %q as %q %q: "+format, append([]any{a.method, a.to, a.path, a.host, a.as, a.headers}, args...)...)
	}
	if got.status != w.status {
		bad("%d %.80q %s, want %d", got.status, got.body, got.app, w.status)
		return
	}
	if w.apps == "" && got.app != "" || w.apps != "" && !oneOf(got.app, w.apps) {
		bad("answered by %q, want %q", got.app, w.apps)
		return
	}
	if w.body != "" && !strings.Contains(got.body, w.body) {
		bad("body %q", got.body)
	}
	if w.apps != "" {
		path, host := w.path, w.host
		if path == "" {
			path = a.path
		}
		if host == "" {
			if host = a.host; host == "" {
				host = "web.shop.svc.cluster.local"
			}
		}
		if got.seen.Path != path || got.seen.Host != host {
			bad("the application saw %s of %s, want %s of %s", got.seen.Path, got.seen.Host, path, host)
		}
	}
	for i := 0; i < len(w.seen); i += 2 {
		if v := got.seen.Headers[w.seen[i]]; v != w.seen[i+1] {
			bad("the application saw %s: %q, want %q", w.seen[i], v, w.seen[i+1])
		}
	}
	for i := 0; i < len(w.headers); i += 2 {
		if v := strings.Join(got.headers.Values(w.headers[i]), ","); strings.ReplaceAll(v, ", ", ",") != w.headers[i+1] {
			bad("%s: %q, want %q", w.headers[i], v, w.headers[i+1])
		}
	}
	if w.check != nil {
		if err := w.check(got); err != nil {
			bad("%v", err)
		}
	}
}
