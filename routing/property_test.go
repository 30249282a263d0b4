package routing

import (
	"regexp"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/internal/attrs"
)

// naive finds the winner from the definitions alone: no reduction, no index.
func naive(rules []Rule, o Order, r *attrs.Request) (rule, match int) {
	var all []Candidate
	for i := range rules {
		if len(rules[i].Matches) == 0 {
			all = append(all, Candidate{i, -1})
		}
		for j := range rules[i].Matches {
			all = append(all, Candidate{i, j})
		}
	}
	if o == ByPrecedence {
		rank := func(c Candidate) [5]int {
			if c.Match < 0 {
				return [5]int{}
			}
			m := rules[c.Rule].Matches[c.Match]
			kind := map[PathKind]int{PathExact: 3, PathPrefix: 2, PathRawPrefix: 2, PathRegex: 1, PathTemplate: 1}[m.Path.Kind]
			length := len(m.Path.Value)
			if m.Path.Kind == PathPrefix {
				length = max(1, len(strings.TrimSuffix(m.Path.Value, "/"))) // "" is "/"
			}
			method := 0
			if m.Method != "" {
				method = 1
			}
			return [5]int{kind, length, method, len(m.Headers), len(m.Query)}
		}
		sort.SliceStable(all, func(a, b int) bool {
			x, y := rank(all[a]), rank(all[b])
			for i := range x {
				if x[i] != y[i] {
					return x[i] > y[i]
				}
			}
			ra, rb := rules[all[a].Rule], rules[all[b].Rule]
			if ra.Created != rb.Created {
				return ra.Created < rb.Created
			}
			return ra.Route < rb.Route
		})
	}
	for _, c := range all {
		if c.Match < 0 || naiveMatch(&rules[c.Rule].Matches[c.Match], r) {
			return c.Rule, c.Match
		}
	}
	return -1, -1
}

func naiveMatch(m *Match, r *attrs.Request) bool {
	p, v := r.Path, m.Path.Value
	if m.Path.IgnoreCase && m.Path.Kind != PathRegex {
		p, v = strings.ToLower(p), strings.ToLower(v)
	}
	switch m.Path.Kind {
	case PathExact:
		if p != v {
			return false
		}
	case PathPrefix:
		v = strings.TrimSuffix(v, "/")
		if p != v && !strings.HasPrefix(p, v+"/") {
			return false
		}
	case PathRawPrefix:
		if !strings.HasPrefix(p, v) {
			return false
		}
	case PathRegex:
		if !regexp.MustCompile("^(?:" + v + ")$").MatchString(p) {
			return false
		}
	}
	if m.Method != "" && m.Method != r.Method {
		return false
	}
	for _, h := range m.Headers {
		there, hit := false, false
		positive := h
		positive.Invert = false
		for _, f := range r.Headers {
			if f.Name == h.Name {
				there, hit = true, hit || naiveValue(positive, f.Value, true)
			}
		}
		if !there {
			hit = naiveValue(h, "", false) != h.Invert
		}
		if hit == h.Invert {
			return false
		}
	}
	for _, q := range m.Query {
		got, ok := "", false
		for _, pair := range strings.Split(r.Query, "&") {
			k, v, _ := strings.Cut(pair, "=")
			if pair != "" && k == q.Name {
				got, ok = v, true
				break
			}
		}
		if !naiveValue(q, got, ok) {
			return false
		}
	}
	return true
}

func naiveValue(m ValueMatch, s string, ok bool) bool {
	if m.Kind == ValuePresent {
		return ok != m.Invert
	}
	if !ok && !m.Invert {
		return false
	}
	v := m.Value
	if m.Kind != ValueRegex && m.IgnoreCase {
		s, v = strings.ToLower(s), strings.ToLower(v)
	}
	var hit bool
	switch m.Kind {
	case ValueExact:
		hit = s == v
	case ValuePrefix:
		hit = strings.HasPrefix(s, v)
	case ValueSuffix:
		hit = strings.HasSuffix(s, v)
	case ValueContains:
		hit = strings.Contains(s, v)
	case ValueRegex:
		if m.IgnoreCase {
			v = "(?i:" + v + ")"
		}
		hit = regexp.MustCompile("^(?:" + v + ")$").MatchString(s)
	}
	return hit != m.Invert
}

var (
	drawPath  = rapid.StringMatching(`(/(a|b|ab|A|x)){0,4}/?`)
	drawRegex = rapid.SampledFrom([]string{".*", ".+", "/a", "/a/.*", "/a/.+", "(/a)/b", "/(a|b)", "^/a.*$", ".*b", ".*/b/.*", ".+b.*", ".+.+", "/a/[ab]+", "(?i)/A.*", "a|", "", "/a(/.*)?", "(?s).*x", "/ab?", ".*.*"})
	drawValue = rapid.SampledFrom([]string{"", "a", "b", "ab", "A", "ba", "a,b", "aba"})
	drawName  = rapid.SampledFrom([]string{"h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"})
)

func drawCondition(t *rapid.T) ValueMatch {
	v := ValueMatch{
		Name: drawName.Draw(t, "name"), Value: drawValue.Draw(t, "value"),
		Invert: rapid.IntRange(0, 5).Draw(t, "invert") == 0, IgnoreCase: rapid.IntRange(0, 3).Draw(t, "fold") == 0,
	}
	// Mostly exact, so that buckets group.
	if rapid.IntRange(0, 2).Draw(t, "other") == 0 {
		v.Kind = ValueKind(rapid.IntRange(0, int(ValuePresent)).Draw(t, "kind"))
	}
	if v.Kind == ValueRegex {
		v.Value = rapid.SampledFrom([]string{"a", "a.*", ".*b", ".*a.*", ".+", "[ab]+", "", ".*", "a|b", ".+a"}).Draw(t, "regex")
	}
	return v
}

func drawConditions(t *rapid.T) []ValueMatch {
	out := rapid.SliceOfNDistinct(rapid.Custom(drawCondition), 0, 2, func(v ValueMatch) string { return v.Name }).Draw(t, "conditions")
	return out
}

func drawMatch(t *rapid.T) Match {
	m := Match{Path: PathMatch{Kind: PathKind(rapid.IntRange(0, int(PathRegex)).Draw(t, "kind"))}}
	switch m.Path.Kind {
	case PathAny:
	case PathRegex:
		m.Path.Value = drawRegex.Draw(t, "regex")
	default:
		m.Path.Value = drawPath.Draw(t, "path")
		m.Path.IgnoreCase = rapid.IntRange(0, 4).Draw(t, "fold") == 0
	}
	// A few paths, often one: that is where candidates pile up.
	if rapid.Bool().Draw(t, "shared") {
		m.Path = PathMatch{Kind: PathPrefix, Value: "/a"}
	}
	m.Method = rapid.SampledFrom([]string{"", "", "GET", "PUT"}).Draw(t, "method")
	m.Headers, m.Query = drawConditions(t), drawConditions(t)
	return m
}

func drawRequest(t *rapid.T) *attrs.Request {
	r := &attrs.Request{Method: rapid.SampledFrom([]string{"GET", "PUT", "POST"}).Draw(t, "method"), Path: drawPath.Draw(t, "path")}
	if rapid.Bool().Draw(t, "under a") {
		r.Path = "/a" + r.Path
	}
	for range rapid.IntRange(0, 6).Draw(t, "headers") {
		r.Headers = append(r.Headers, attrs.Field{Name: drawName.Draw(t, "name"), Value: drawValue.Draw(t, "value")})
	}
	var pairs []string
	for range rapid.IntRange(0, 6).Draw(t, "pairs") {
		pairs = append(pairs, drawName.Draw(t, "param")+rapid.SampledFrom([]string{"", "=", "=a", "=b", "=ab", "&"}).Draw(t, "value"))
	}
	r.Query, r.HasQuery = strings.Join(pairs, "&"), len(pairs) > 0
	return r
}

func TestMatchEqualsNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "rules")
		rules := make([]Rule, n)
		for i := range rules {
			rules[i] = Rule{
				Route: rapid.SampledFrom([]string{"a/a", "a/b", "b/a"}).Draw(t, "route"), Index: i,
				Created: rapid.Int64Range(0, 1).Draw(t, "created"),
				Matches: rapid.SliceOfN(rapid.Custom(drawMatch), 0, 3).Draw(t, "matches"),
			}
			if len(rules[i].Matches) == 0 && i < n-1 {
				rules[i].Matches = []Match{drawMatch(t)}
			}
		}
		tables := map[Order]*Table{}
		for _, o := range []Order{ByPrecedence, AsListed} {
			tab, errs := Compile(rules, o)
			if len(errs) > 0 {
				t.Fatal(errs[0])
			}
			tables[o] = tab
		}
		for range 8 {
			r := drawRequest(t)
			for o, tab := range tables {
				rule, match := naive(rules, o, r)
				got, ok := tab.Match(r)
				if ok != (rule >= 0) || ok && (got.Rule.Rule != &rules[rule] || got.Match != match) {
					t.Fatalf("order %d, %s %s?%s %v: got %v match %d, want rule %d match %d\n%s",
						o, r.Method, r.Path, r.Query, r.Headers, ok, got.Match, rule, match, tab.Dump(nil))
				}
				if got.Prefix > len(r.Path) {
					t.Fatalf("prefix %d is longer than %q", got.Prefix, r.Path)
				}
				checkExplained(t, tab, r, got, ok)
			}
		}
	})
}

// checkExplained holds Explain to the winner of Match.
func checkExplained(t *rapid.T, tab *Table, r *attrs.Request, got Result, ok bool) {
	won := 0
	for i, c := range tab.Explain(r) {
		switch c.Outcome {
		case Won:
			won++
			if k := &tab.candidates[i]; !ok || k.rule != got.Rule || k.match != got.Match {
				t.Fatalf("explanation names another winner: %+v", c)
			}
		case Shadowed:
			if won == 0 {
				t.Fatalf("shadowed before a winner: %+v", c)
			}
		case Lost:
			if c.Field == "" || c.Why == "" {
				t.Fatalf("lost without a reason: %+v", c)
			}
		}
	}
	if (won == 1) != ok {
		t.Fatalf("explanation has %d winners, match %v", won, ok)
	}
}
