package envoy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	seed     = 1
	minCases = 15000 // a run that asked fewer has lost a part of its corpus
)

// start runs all sides of a generated world.
func start(t testing.TB, g *Generator, resources *Resources) *Run {
	t.Helper()
	l, err := NewLab(t.TempDir(), g.World().Namespace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if err := l.AddWorld(g.World()); err != nil {
		t.Fatal(err)
	}
	sides := map[string][]*Side{}
	side := func(s *Side, err error) *Side {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	oracle := side(l.Envoy(context.Background(), g.World().Resources(resources)))
	istiod := side(l.Istiod(g.World().Resources(resources), g.World().Namespace))
	for _, n := range norms {
		sides[n] = []*Side{istiod, side(l.Kube(g.World(), n))}
	}
	return NewRun(oracle, func(s *Subject) []*Side { return sides[s.Norm] })
}

func base(t testing.TB) *Resources {
	t.Helper()
	r, err := Load("testdata/base")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDecisions asks everything and accepts listed differences only.
func TestDecisions(t *testing.T) {
	known, err := LoadKnown("differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGenerator(seed)
	for range 24 {
		g.Routes(4)
	}
	for range 70 {
		g.Policy()
	}
	for range 2 {
		g.SourceIP()
	}
	for range 12 {
		g.Policies()
	}
	corpus, err := g.Corpus("testdata")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, g, base(t))
	if err := r.World(g); err != nil {
		t.Fatal(err)
	}
	if err := r.AskAll(corpus, g.World()); err != nil {
		t.Fatal(err)
	}
	for _, name := range Samples {
		if err := askSample(t, r, g, name); err != nil {
			t.Fatal(err)
		}
	}
	r.Print(os.Stdout)
	for _, name := range sortedKeys(r.Decisions) {
		if d := r.Decisions[name]; (d.Yes < each || d.No < each) && d.Kind != "policies" && d.Kind != "source-ip" { // several rules; never true at Envoy
			t.Errorf("%s decided %d times yes and %d times no, want %d each", name, d.Yes, d.No, each)
		}
	}
	if r.Total() < minCases {
		t.Errorf("%d questions, want at least %d", r.Total(), minCases)
	}
	counts, unlisted := Sort(r.Differences, known)
	fmt.Printf("%d differences; listed ones:\n", len(r.Differences))
	PrintKnown(os.Stdout, counts, known)
	report(t, unlisted)
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

func askSample(t *testing.T, r *Run, g *Generator, name string) error {
	t.Helper()
	res, err := LoadSample("testdata", name)
	if err != nil {
		return err
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	l, err := NewLab(dir, "shop")
	if err != nil {
		return err
	}
	defer l.Close()
	sub := NewRun(nil, nil)
	for i, p := range SamplePods {
		plain := []uint16{}
		if i == len(SamplePods)-1 {
			plain = append(plain, backendPort)
		}
		if err := l.AddPod(p[0], "shop", p[1], p[2], plain...); err != nil {
			return err
		}
		sub.pods[""] = append(sub.pods[""], p[0]) // balancers and weights decide between them
	}
	oracle, err := l.Envoy(context.Background(), res)
	if err != nil {
		return err
	}
	defer oracle.Close()
	ours, err := l.Istiod(res, "shop")
	if err != nil {
		return err
	}
	defer ours.Close()
	sub.Oracle, sub.Others = oracle, func(*Subject) []*Side { return []*Side{ours} }
	for _, q := range g.SampleQuestions(name, 400) {
		if _, err := sub.Ask(q, nil); err != nil {
			return err
		}
	}
	r.Cases["sample"] += sub.Cases["sample"]
	r.Differences = append(r.Differences, sub.Differences...)
	return nil
}

// TestOracleNoticesAFlippedRule shows that a run can fail: one rule decides the
// other way at the oracle, and the differences must name its service.
func TestOracleNoticesAFlippedRule(t *testing.T) {
	g := NewGenerator(seed)
	for range 3 {
		g.Policy()
	}
	g.Routes(3)
	l, err := NewLab(t.TempDir(), g.World().Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.AddWorld(g.World()); err != nil {
		t.Fatal(err)
	}
	ours, err := l.Istiod(g.World().Resources(base(t)), g.World().Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	flipped := g.World().Subjects[1]
	p := &flipped.Policies[0]
	was := p.Action
	p.Action = map[string]string{"ALLOW": "DENY", "DENY": "ALLOW"}[was]
	oracle, err := l.Envoy(context.Background(), g.World().Resources(base(t)))
	p.Action = was
	if err != nil {
		t.Fatal(err)
	}
	defer oracle.Close()
	known, err := LoadKnown("differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := NewRun(oracle, func(*Subject) []*Side { return []*Side{ours} })
	if err := r.World(g); err != nil {
		t.Fatal(err)
	}
	_, unlisted := Sort(r.Differences, known)
	var of []string
	for _, d := range unlisted {
		if !slices.Contains(of, d.Question.Subject) {
			of = append(of, d.Question.Subject)
		}
	}
	if !slices.Equal(of, []string{flipped.Name}) {
		t.Errorf("differences about %v, want them about %s alone", of, flipped.Name)
	}
}
