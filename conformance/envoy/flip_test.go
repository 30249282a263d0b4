package envoy

import (
	"context"
	"slices"
	"testing"
)

// TestOracleNoticesAFlippedRule shows that a run can fail: one rule decides the
// other way at the oracle, and the differences must name its service.
func TestOracleNoticesAFlippedRule(t *testing.T) {
	g := newGenerator(t)
	for range 3 {
		g.Policy()
	}
	g.Routes(3)
	w := g.World()
	l := startLab(t, w)
	ours := closing[*Side](t)(l.Istiod(w.Resources(base(t)), w.Namespace))
	flipped := w.Subjects[1]
	p := &flipped.Policies[0]
	was := p.Action
	p.Action = map[string]string{"ALLOW": "DENY", "DENY": "ALLOW"}[was]
	other := w.OracleResources(base(t))
	p.Action = was
	oracle := closing[*Side](t)(l.Envoy(context.Background(), other))
	known, err := LoadKnown("differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := NewRun(oracle, func(*Subject) []*Side { return []*Side{ours} })
	for _, s := range w.Subjects {
		r.weights(s)
		for i := range s.rules() {
			for k := range 2 * each {
				if _, err := r.Ask(g.Decisive(s, i, k%2 == 0), s); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range s.Routes {
			for k := range 2 * each {
				if _, err := r.Ask(g.RouteQuestion(s, &s.Routes[i], k%2 == 0), s); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.Forget(s)
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
