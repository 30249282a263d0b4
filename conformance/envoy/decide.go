package envoy

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
)

// each is how often every rule must decide each way, and tries how many questions
// aimed at one rule are asked at most to get there.
const (
	each  = 20
	tries = 240
)

// Run asks questions of all sides and keeps count.
type Run struct {
	Oracle *Side
	Others func(*Subject) []*Side // nil subject: sides that take any question

	Cases       map[string]int // questions by kind
	Differences []Difference
	Decisions   map[string]*Decision // by rule
	pods        map[string][]string  // by rule: where a weight decides
}

// Decision counts how a rule decided, by the oracle's answers.
type Decision struct {
	Kind    string
	Yes, No int
}

// NewRun starts counting.
func NewRun(oracle *Side, others func(*Subject) []*Side) *Run {
	return &Run{Oracle: oracle, Others: others, Cases: map[string]int{}, Decisions: map[string]*Decision{}, pods: map[string][]string{}}
}

// Ask asks all sides at once and returns the oracle's answer.
func (r *Run) Ask(q *Question, s *Subject) (Answer, error) {
	sides := append([]*Side{r.Oracle}, r.Others(s)...)
	answers, errs := make([]Answer, len(sides)), make([]error, len(sides))
	var wg sync.WaitGroup
	for i, side := range sides {
		wg.Go(func() { answers[i], errs[i] = side.Asker.Ask(q) })
	}
	wg.Wait()
	r.Cases[q.Kind]++
	for i := range sides {
		if errs[i] != nil {
			return answers[0], errs[i]
		}
		if i > 0 {
			r.Differences = append(r.Differences, Compare(q, sides[i].Name, answers[0], answers[i], r.pods[ruleOf(answers[0], q)])...)
		}
	}
	return answers[0], nil
}

// ruleOf is the route rule that answered.
func ruleOf(a Answer, q *Question) string {
	for _, h := range a.Headers {
		if len(h) > 8 && h[:8] == "x-rule: " {
			return h[8:]
		}
	}
	return q.Rule
}

func (r *Run) decision(kind, rule string) *Decision {
	d := r.Decisions[rule]
	if d == nil {
		d = &Decision{Kind: kind}
		r.Decisions[rule] = d
	}
	return d
}

// World asks about every rule of every subject until each has decided often
// enough both ways.
func (r *Run) World(g *Generator) error {
	for _, s := range g.World().Subjects {
		for i := range s.Routes {
			rule := &s.Routes[i]
			for _, b := range rule.Backends {
				if len(rule.Backends) > 1 {
					r.pods[rule.Name] = append(r.pods[rule.Name], b.Name)
				}
			}
		}
		for i := range s.Routes {
			rule := &s.Routes[i]
			if err := r.until(s, rule.Name, func(meet bool) *Question { return g.RouteQuestion(s, rule, meet) },
				func(a Answer) bool { return ruleOf(a, &Question{}) == rule.Name }); err != nil {
				return err
			}
		}
		var rules []*PolicyRule
		action := ""
		for i := range s.Policies {
			for j := range s.Policies[i].Rules {
				rules = append(rules, &s.Policies[i].Rules[j])
				action = s.Policies[i].Action
			}
		}
		if len(rules) == 0 || s.Kind == "normalize" || s.Kind == "malformed" {
			continue // the corpus asks about these
		}
		n := 0
		if err := r.until(s, s.Name, func(meet bool) *Question {
			n++
			return g.PolicyQuestion(s, rules[n%len(rules)], meet)
		}, func(a Answer) bool { return (a.Status == 403) == (len(rules) == 1 && action == "DENY") }); err != nil {
			return err
		}
	}
	return nil
}

// AskAll asks questions about subjects of w.
func (r *Run) AskAll(qs []*Question, w *World) error {
	byName := map[string]*Subject{}
	for _, s := range w.Subjects {
		byName[s.Name] = s
	}
	last := ""
	for _, q := range qs {
		s := byName[q.Subject]
		if q.Subject != last && last != "" {
			r.Forget(byName[last])
		}
		last = q.Subject
		if _, err := r.Ask(q, s); err != nil {
			return err
		}
	}
	return nil
}

// until asks questions that shall meet and miss a rule, until it decided each way often enough.
func (r *Run) until(s *Subject, rule string, ask func(meet bool) *Question, yes func(Answer) bool) error {
	d := r.decision(s.Kind, rule)
	for range tries {
		if d.Yes >= each && d.No >= each {
			r.Forget(s)
			return nil
		}
		q := ask(d.Yes < each && (d.Yes <= d.No || d.No >= each))
		q.Rule = rule
		a, err := r.Ask(q, s)
		if err != nil {
			return err
		}
		if yes(a) {
			d.Yes++
		} else {
			d.No++
		}
	}
	r.Forget(s)
	return nil
}

// Forget ends the tunnels to a subject; a connection takes a hundred.
func (r *Run) Forget(s *Subject) {
	for _, side := range append([]*Side{r.Oracle}, r.Others(s)...) {
		side.Asker.Forget()
	}
}

// Total is the number of questions.
func (r *Run) Total() (n int) {
	for _, c := range r.Cases {
		n += c
	}
	return n
}

// Print writes what was asked and how often rules decided.
func (r *Run) Print(w io.Writer) {
	fmt.Fprintf(w, "%d questions:", r.Total())
	for _, k := range sortedKeys(r.Cases) {
		fmt.Fprintf(w, " %s %d", k, r.Cases[k])
	}
	fmt.Fprintf(w, "\ndecisions of %d rules; how many decided so often, yes / no:\n", len(r.Decisions))
	steps := []int{0, 1, each, 2 * each, 4 * each}
	for _, kind := range sortedKeys(r.kinds()) {
		yes, no := make([]int, len(steps)), make([]int, len(steps))
		for _, d := range r.Decisions {
			if d.Kind == kind {
				for i := len(steps) - 1; i >= 0; i-- {
					if d.Yes >= steps[i] {
						yes[i]++
						break
					}
				}
				for i := len(steps) - 1; i >= 0; i-- {
					if d.No >= steps[i] {
						no[i]++
						break
					}
				}
			}
		}
		fmt.Fprintf(w, "  %-10s", kind)
		for i, s := range steps {
			to := "+"
			if i+1 < len(steps) {
				to = fmt.Sprint("-", steps[i+1]-1)
			}
			fmt.Fprintf(w, "  %d%s: %d/%d", s, to, yes[i], no[i])
		}
		fmt.Fprintln(w)
	}
}

func (r *Run) kinds() map[string]bool {
	m := map[string]bool{}
	for _, d := range r.Decisions {
		m[d.Kind] = true
	}
	return m
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
