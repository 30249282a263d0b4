package envoy

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
)

// each is how often every rule must decide each way, and limit how many questions
// aimed at one rule are asked at most to get there.
const (
	each  = 20
	limit = 600
)

// Run asks questions of all sides and keeps count.
type Run struct {
	Oracle *Side
	Others func(*Subject) []*Side // nil subject: sides that take any question

	Decisions map[string]*Decision // by rule
	pods      map[string][]string  // by rule: where a weight decides

	mu          sync.Mutex
	Cases       map[string]int // guarded by mu: questions by kind
	Differences []Difference   // guarded by mu
}

// Decision counts how a rule decided, by the oracle's answers: questions whose
// outcome would be another if this rule alone had said otherwise.
type Decision struct {
	Kind    string
	Yes, No int // it matched, it did not
}

// NewRun starts counting.
func NewRun(oracle *Side, others func(*Subject) []*Side) *Run {
	return &Run{Oracle: oracle, Others: others, Cases: map[string]int{}, Decisions: map[string]*Decision{}, pods: map[string][]string{}}
}

// Ask asks all sides at once and returns the oracle's answer.
func (r *Run) Ask(q *Question, s *Subject) (Answer, error) {
	sides := append([]*Side{r.Oracle}, r.Others(s)...)
	askers := make([]*Asker, len(sides))
	for i := range sides {
		askers[i] = sides[i].Asker
	}
	return r.ask(q, sides, askers)
}

func (r *Run) ask(q *Question, sides []*Side, askers []*Asker) (Answer, error) {
	answers, errs := make([]Answer, len(sides)), make([]error, len(sides))
	var wg sync.WaitGroup
	for i, side := range sides {
		wg.Go(func() {
			answers[i], errs[i] = askers[i].Ask(q)
			if q.Audit && errs[i] == nil && side.audits != nil {
				answers[i].audited = side.audits.of(q.ID)
			}
		})
	}
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
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
		var err error
		switch s.Kind {
		case "route":
			err = r.routes(g, s)
		case "rbac", "policies", "source-ip", "claims", "template":
			err = r.policies(g, s)
		case "tcp":
			err = r.connections(g, s)
		}
		if err != nil {
			return err
		}
		r.Forget(s)
	}
	return nil
}

// routes asks about the rules of a route. A rule said no to a request that went to
// a rule behind it, or to none.
func (r *Run) routes(g *Generator, s *Subject) error {
	r.weights(s)
	first := map[string]int{} // place of the first match of each rule
	for i, o := range g.World().ordered(s) {
		if _, ok := first[o.rule.Name]; !ok {
			first[o.rule.Name] = i
		}
	}
	for i := range s.Routes {
		rule := &s.Routes[i]
		if err := r.until(s, rule.Name, func(meet bool) *Question { return g.RouteQuestion(s, rule, meet) }, func(d *Decision, a Answer) {
			switch took := ruleOf(a, &Question{}); {
			case took == rule.Name:
				d.Yes++
			case took == "" && a.Status == 404, took != "" && first[rule.Name] < first[took]:
				d.No++
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// weights notes where a weight decides.
func (r *Run) weights(s *Subject) {
	for i := range s.Routes {
		rule := &s.Routes[i]
		for _, b := range rule.Backends {
			if len(rule.Backends) > 1 {
				r.pods[rule.Name] = append(r.pods[rule.Name], b.Name)
			}
		}
	}
}

// policies asks about the rules of all policies of a subject. The oracle tells
// which matched; a question counts for each rule that it was decided by.
func (r *Run) policies(g *Generator, s *Subject) error {
	rules := s.rules()
	for i := range rules {
		r.decision(s.Kind, rules[i].name)
	}
	for i := range rules {
		var odd error
		if err := r.until(s, rules[i].name, func(meet bool) *Question { return g.Decisive(s, i, meet) }, func(_ *Decision, a Answer) {
			matched, err := a.matched(s)
			if matched == nil {
				odd = cmp.Or(odd, err)
				return
			}
			if v := s.verdict(matched); v.allowed != (a.Seen != nil) && a.Status != 0 {
				odd = fmt.Errorf("%s: the oracle saw %v match and answered %d", s.Name, matched, a.Status)
			}
			for j := range rules {
				switch d := r.Decisions[rules[j].name]; {
				case !s.decides(matched, j):
				case matched[j]:
					d.Yes++
				default:
					d.No++
				}
			}
		}); err != nil || odd != nil {
			return cmp.Or(err, odd)
		}
	}
	return nil
}

// connections asks about the one rule of a subject that is not HTTP, where the
// outcome tells whether it matched.
func (r *Run) connections(g *Generator, s *Subject) error {
	rules := s.rules()
	if len(rules) != 1 {
		return fmt.Errorf("%s has %d rules", s.Name, len(rules))
	}
	return r.until(s, rules[0].name, func(meet bool) *Question { return g.Decisive(s, 0, meet) }, func(d *Decision, a Answer) {
		if (a.Status == tcpServed) == (rules[0].policy.Action == "ALLOW") {
			d.Yes++
		} else {
			d.No++
		}
	})
}

// AskAll asks questions about subjects of w. Malformed ones, which often end in
// silence, are asked side by side.
func (r *Run) AskAll(qs []*Question, w *World) error {
	byName := map[string]*Subject{}
	for _, s := range w.Subjects {
		byName[s.Name] = s
	}
	var raw []*Question
	last := ""
	for _, q := range qs {
		if q.Raw != nil && !q.TCP {
			raw = append(raw, q)
			continue
		}
		s := byName[q.Subject]
		if q.Subject != last && last != "" {
			r.Forget(byName[last])
		}
		last = q.Subject
		if _, err := r.Ask(q, s); err != nil {
			return err
		}
	}
	return r.Parallel(raw, w)
}

// Parallel asks questions about subjects of w from several goroutines, each over
// connections of its own: questions whose answers take their time.
func (r *Run) Parallel(qs []*Question, w *World) error {
	const workers = 24
	subjects := map[string]*Subject{}
	for _, s := range w.Subjects {
		subjects[s.Name] = s
	}
	todo := make(chan *Question)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			forks := map[*Side]*Asker{}
			for q := range todo {
				if errs[i] != nil {
					continue
				}
				sides := append([]*Side{r.Oracle}, r.Others(subjects[q.Subject])...)
				askers := make([]*Asker, len(sides))
				for j, side := range sides {
					if forks[side] == nil {
						forks[side] = side.Asker.Fork()
					}
					askers[j] = forks[side]
					if len(askers[j].tunnels) > 60 { // a connection takes a hundred
						askers[j].Forget()
					}
				}
				_, errs[i] = r.ask(q, sides, askers)
			}
			for _, a := range forks {
				a.Close()
			}
		})
	}
	for _, q := range qs {
		todo <- q
	}
	close(todo)
	wg.Wait()
	return cmp.Or(errs...)
}

// until asks questions that shall meet and miss a rule, until it decided each way often enough.
func (r *Run) until(s *Subject, rule string, ask func(meet bool) *Question, count func(*Decision, Answer)) error {
	d := r.decision(s.Kind, rule)
	for range limit {
		if d.Yes >= each && d.No >= each {
			return nil
		}
		q := ask(d.Yes < each && (d.Yes <= d.No || d.No >= each))
		q.Rule = rule
		a, err := r.Ask(q, s)
		if err != nil {
			return err
		}
		count(d, a)
	}
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
		rules := 0
		for _, d := range r.Decisions {
			if d.Kind == kind {
				rules++
				yes[step(steps, d.Yes)]++
				no[step(steps, d.No)]++
			}
		}
		fmt.Fprintf(w, "  %-10s %3d rules", kind, rules)
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

// step is the last of steps that n reached.
func step(steps []int, n int) int {
	for i := len(steps) - 1; i > 0; i-- {
		if n >= steps[i] {
			return i
		}
	}
	return 0
}

// PrintRules writes every rule with its count.
func (r *Run) PrintRules(w io.Writer) {
	for _, name := range sortedKeys(r.Decisions) {
		fmt.Fprintf(w, "  %-10s %-40s yes %4d  no %4d\n", r.Decisions[name].Kind, name, r.Decisions[name].Yes, r.Decisions[name].No)
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
