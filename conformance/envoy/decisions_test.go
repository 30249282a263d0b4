package envoy

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const seed = 1

// minCases are the least questions of each kind: a run that asked fewer has lost a
// part of its corpus.
var minCases = map[string]int{
	"route": 3800, "rbac": 2800, "policies": 700, "source-ip": 250, "claims": 600, "tcp": 400, "template": 4500,
	"normalize": 336, "header": 340, "settings": 150, "malformed": 109, "sample": 2200, "sample-direct": 300, "jwt": 460, "custom": 800, "retry": 3400, "order": 350, "overflow": 20,
}

// parts of the decisions. Each runs its own sides; `-run TestDecisions/NAME` asks one.
var parts = []struct {
	name string
	run  func(*testing.T) *Run
}{
	{"worlds", askWorlds},
	{"samples", askSamples},
	{"authorizers", askAuthorizers},
	{"retries", askRetries},
	{"order", askOrder},
	{"overflow", askOverflow},
	{"settings", askSettings},
}

// TestDecisions asks everything and accepts listed differences only.
func TestDecisions(t *testing.T) {
	known, err := LoadKnown("differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := NewRun(nil, nil)
	ran := 0
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			r := p.run(t)
			ran++
			all.Differences = append(all.Differences, r.Differences...)
			maps.Copy(all.Decisions, r.Decisions)
			for k, n := range r.Cases {
				all.Cases[k] += n
			}
			_, unlisted := Sort(r.Differences, known)
			report(t, unlisted)
			for _, name := range sortedKeys(r.Decisions) {
				if d := r.Decisions[name]; d.Yes < each || d.No < each {
					t.Errorf("%s decided %d times yes and %d times no, want %d each", name, d.Yes, d.No, each)
				}
			}
		})
	}
	if testing.Verbose() {
		all.PrintRules(os.Stdout)
	}
	all.Print(os.Stdout)
	counts, _ := Sort(all.Differences, known)
	fmt.Printf("%d differences; listed ones:\n", len(all.Differences))
	PrintKnown(os.Stdout, counts, known)
	if ran < len(parts) {
		return // one part says nothing about the whole
	}
	for kind, least := range minCases {
		if all.Cases[kind] < least {
			t.Errorf("%d questions of kind %s, want at least %d", all.Cases[kind], kind, least)
		}
	}
	doc, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range known {
		if counts[k.Name] == 0 {
			t.Errorf("differences.yaml: %q was not met; drop it", k.Name)
		}
		if !strings.Contains(string(doc), "`"+k.Name+"`") {
			t.Errorf("docs/compatibility.md does not explain `%s` of differences.yaml", k.Name)
		}
	}
}

// report fails for differences that are not listed, some of each kind.
func report(t testing.TB, unlisted []Difference) {
	t.Helper()
	by := map[string][]Difference{}
	for _, d := range unlisted {
		k := d.Side + " " + d.Question.Kind + " " + d.Field
		by[k] = append(by[k], d)
	}
	for _, k := range sortedKeys(by) {
		var b strings.Builder
		for _, d := range by[k][:min(12, len(by[k]))] {
			fmt.Fprintf(&b, "\n  %v", d)
		}
		t.Errorf("%d unlisted differences: %s%s", len(by[k]), k, b.String())
	}
}

// closing ends something with the test.
func closing[C interface{ Close() }](t testing.TB) func(C, error) C {
	return func(c C, err error) C {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
}

func base(t testing.TB) *Resources {
	t.Helper()
	r, err := Load("testdata/base")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newGenerator(t testing.TB) *Generator {
	t.Helper()
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return NewGenerator(seed, keys)
}

// startLab runs the pods of a world.
func startLab(t testing.TB, w *World) *Lab {
	t.Helper()
	l := closing[*Lab](t)(NewLab(t.TempDir(), w.Namespace))
	if err := l.AddWorld(w); err != nil {
		t.Fatal(err)
	}
	return l
}

// start runs all sides of a generated world.
func start(t testing.TB, w *World) *Run {
	t.Helper()
	l := startLab(t, w)
	side := closing[*Side](t)
	oracle := side(l.Envoy(context.Background(), w.OracleResources(base(t))))
	istiod := side(l.Istiod(w.Resources(base(t)), w.Namespace))
	sides := map[string]*Side{}
	for _, s := range w.Subjects {
		if sides[s.Norm] == nil {
			sides[s.Norm] = side(l.Kube(w, s.Norm))
		}
	}
	return NewRun(oracle, func(s *Subject) []*Side {
		if s.onlyIstiod() {
			return []*Side{istiod}
		}
		return []*Side{istiod, sides[s.Norm]}
	})
}

// askWorlds asks generated services about their rules, and the fixed corpora.
func askWorlds(t *testing.T) *Run {
	g := newGenerator(t)
	for range 24 {
		g.Routes(4)
	}
	for range 70 {
		g.Policy()
	}
	for range 12 {
		g.Policies()
	}
	for range 6 {
		g.SourceIP()
	}
	for range 16 {
		g.Claims()
	}
	for range 12 {
		g.Connections()
	}
	corpus, err := g.Corpus("testdata")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, g.World())
	if err := r.World(g); err != nil {
		t.Fatal(err)
	}
	if err := r.AskAll(corpus, g.World()); err != nil {
		t.Fatal(err)
	}
	return r
}

// askSamples asks what istiod really sent.
func askSamples(t *testing.T) *Run {
	g := newGenerator(t)
	all := NewRun(nil, nil)
	for _, name := range Samples {
		t.Run(name, func(t *testing.T) {
			r := askSample(t, g, name)
			for k, n := range r.Cases {
				all.Cases[k] += n
			}
			all.Differences = append(all.Differences, r.Differences...)
		})
	}
	return all
}

func askSample(t *testing.T, g *Generator, name string) *Run {
	t.Helper()
	res, err := LoadSample("testdata", name, g.keys)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := closing[*Lab](t)(NewLab(dir, "shop"))
	r := NewRun(nil, nil)
	for i, p := range SamplePods {
		plain := []uint16{}
		if i == len(SamplePods)-1 {
			plain = append(plain, backendPort)
		}
		if err := l.AddPod(p[0], "shop", p[1], p[2], plain...); err != nil {
			t.Fatal(err)
		}
		r.pods[""] = append(r.pods[""], p[0]) // balancers and weights decide between them
	}
	r.Oracle = closing[*Side](t)(l.Envoy(context.Background(), res))
	ours := closing[*Side](t)(l.Istiod(res, "shop"))
	r.Others = func(*Subject) []*Side { return []*Side{ours} }
	for i, q := range g.SampleQuestions(name, 400) {
		if i%100 == 99 {
			r.Forget(nil)
		}
		if _, err := r.Ask(q, nil); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// askAuthorizers asks services with external authorizers of every kind and state.
func askAuthorizers(t *testing.T) *Run {
	g := newGenerator(t)
	var qs []*Question
	for _, s := range g.Custom() {
		qs = append(qs, g.CustomQuestions(s)...)
	}
	r := start(t, g.World())
	if err := r.Parallel(qs, g.World()); err != nil {
		t.Fatal(err)
	}
	return r
}

// askOrder asks a service whose policies, tokens, faults and routes all want to answer.
func askOrder(t *testing.T) *Run {
	g := newGenerator(t)
	s := g.Order()
	r := start(t, g.World())
	if err := r.Parallel(g.OrderQuestions(s), g.World()); err != nil {
		t.Fatal(err)
	}
	return r
}

// askSettings asks services with what only Istio can say: header values that depend on
// the request, and settings of the connection manager.
func askSettings(t *testing.T) *Run {
	g := newGenerator(t)
	qs := append(g.FormatQuestions(g.Formats()), g.SettingsQuestions()...)
	r := start(t, g.World())
	if err := r.AskAll(qs, g.World()); err != nil {
		t.Fatal(err)
	}
	return r
}

// askOverflow asks services whose limits are reached.
func askOverflow(t *testing.T) *Run {
	g := newGenerator(t)
	qs := g.Overflow()
	r := start(t, g.World())
	if err := r.Parallel(qs, g.World()); err != nil {
		t.Fatal(err)
	}
	return r
}

// askRetries asks services whose pods fail in every way, try by try.
func askRetries(t *testing.T) *Run {
	g := newGenerator(t)
	g.Retries(false)
	g.Retries(true)
	var qs []*Question
	for _, s := range g.World().Subjects {
		qs = append(qs, g.RetryQuestions(s)...)
	}
	r := start(t, g.World())
	if err := r.Parallel(qs, g.World()); err != nil {
		t.Fatal(err)
	}
	return r
}
