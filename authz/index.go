package authz

import (
	"slices"
	"strings"
)

// compiled is one rule ready to run.
type compiled struct {
	expr    *Expr
	policy  string // "namespace/name"
	rule    string
	details string
}

// group is the rules of one action, in the order of their names, which is the
// order in which Envoy tries them: of several matches both report the same.
type group struct {
	present bool // a policy of this action is attached, even one without rules
	rules   []compiled

	// The index. Each rule stands under every key of a set of which it needs at
	// least one, or in rest. Lists are ascending.
	indexed bool
	byKey   [numKeyKinds]map[string][]int32
	rest    []int32
}

// linearMax is the number of rules up to which trying all costs less than the
// lookups (a handful of map reads, about 100 ns).
const linearMax = 8

func (g *group) build() {
	slices.SortStableFunc(g.rules, func(a, b compiled) int { return strings.Compare(a.rule, b.rule) })
	for i := range g.rules {
		g.rules[i].expr = optimize(g.rules[i].expr)
	}
	if len(g.rules) <= linearMax {
		return
	}
	g.indexed = true
	counts := map[key]int{}
	for i := range g.rules {
		countKeys(g.rules[i].expr, counts)
	}
	for i := range g.byKey {
		g.byKey[i] = map[string][]int32{}
	}
	for i := range g.rules {
		ks, _, ok := bestKeys(g.rules[i].expr, counts)
		if !ok {
			g.rest = append(g.rest, int32(i))
			continue
		}
		for _, k := range ks {
			m := g.byKey[k.kind]
			if l := m[k.val]; len(l) == 0 || l[len(l)-1] != int32(i) {
				m[k.val] = append(l, int32(i))
			}
		}
	}
}

func countKeys(e *Expr, counts map[key]int) {
	if e.op == opAnd || e.op == opOr {
		for _, k := range e.kids {
			countKeys(k, counts)
		}
		return
	}
	ks, _ := e.leafKeys()
	for _, k := range ks {
		counts[k]++
	}
}

// bestKeys returns a set of keys of which one is present whenever e holds, the
// set that the fewest rules share; ok is false if there is none.
func bestKeys(e *Expr, counts map[key]int) (best []key, cost int, ok bool) {
	switch e.op {
	case opAnd:
		for _, k := range e.kids {
			if ks, c, found := bestKeys(k, counts); found && (!ok || c < cost) {
				best, cost, ok = ks, c, true
			}
		}
		return best, cost, ok
	case opOr:
		for _, k := range e.kids {
			ks, c, found := bestKeys(k, counts)
			if !found {
				return nil, 0, false
			}
			best = append(best, ks...)
			cost += c
		}
		return best, cost, true
	}
	best, ok = e.leafKeys()
	for _, k := range best {
		cost += counts[k]
	}
	return best, cost, ok
}

// maxNamespaces is how often "/ns/" may stand in a peer URI before the index is
// passed over; a real identity has it once.
const maxNamespaces = 4

// maxLists is the number of lists that one lookup can yield.
const maxLists = 1 + 1 + maxNamespaces + 1 + maxDirs + 1

// find returns the first rule that holds, nil if none does.
func (g *group) find(in input) *compiled {
	if !g.indexed {
		return g.scan(in)
	}
	var lists [maxLists][]int32
	n, ok := g.lookup(in, &lists)
	if !ok {
		return g.scan(in)
	}
	// Merge the ascending lists, so that the first rule by name is found first.
	for {
		min := int32(-1)
		for _, l := range lists[:n] {
			if len(l) > 0 && (min < 0 || l[0] < min) {
				min = l[0]
			}
		}
		if min < 0 {
			return nil
		}
		if g.rules[min].expr.eval(in) {
			return &g.rules[min]
		}
		for i, l := range lists[:n] {
			if len(l) > 0 && l[0] == min {
				lists[i] = l[1:]
			}
		}
	}
}

func (g *group) scan(in input) *compiled {
	for i := range g.rules {
		if g.rules[i].expr.eval(in) {
			return &g.rules[i]
		}
	}
	return nil
}

// lookup collects the lists of rules that may hold.
func (g *group) lookup(in input, lists *[maxLists][]int32) (n int, ok bool) {
	add := func(l []int32) {
		if len(l) > 0 {
			lists[n] = l
			n++
		}
	}
	add(g.rest)
	if uri := in.c.Peer.URI; uri != "" {
		add(g.byKey[keyPrincipal][uri])
		if m := g.byKey[keyNamespace]; len(m) > 0 {
			for found := 0; ; {
				i := strings.Index(uri, "/ns/")
				if i < 0 {
					break
				}
				uri = uri[i+len("/ns"):] // the slash may start the next one
				ns, _, whole := strings.Cut(uri[1:], "/")
				if !whole {
					break
				}
				if found++; found > maxNamespaces {
					return 0, false
				}
				add(m[ns])
			}
		}
	}
	if in.r == nil {
		return n, true
	}
	path := in.r.Path
	add(g.byKey[keyPath][path])
	if m := g.byKey[keyDir]; len(m) > 0 {
		for i, dirs := 1, 0; i < len(path) && dirs < maxDirs; i++ {
			if path[i] == '/' {
				dirs++
				add(m[path[:i+1]])
			}
		}
	}
	if m := g.byKey[keyHost]; len(m) > 0 {
		var buf [maxHost]byte
		if host, fits := lowerHost(buf[:0], in.r.Authority); fits {
			add(m[string(host)])
		}
	}
	return n, true
}
