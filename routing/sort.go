package routing

import (
	"cmp"
	"slices"
	"strings"
)

// Candidate is one match of one rule. A rule without matches is one candidate with
// Match -1, which matches everything.
type Candidate struct {
	Rule  int // index into the rules
	Match int // index into that rule's Matches, or -1
}

// Sort returns all candidates of rules by Gateway API precedence: path kind (exact,
// prefix, regular expression, none), longer path, a method, more headers, more query
// parameters, older route, route name, rule and match order. It is stable.
//
// Ranking regular expressions after prefixes is Istio's choice; the API leaves it open.
func Sort(rules []Rule) []Candidate {
	type ranked struct {
		Candidate
		kind, length, method, headers, query int
	}
	list := listed(rules)
	keys := make([]ranked, len(list))
	for i, k := range list {
		r := ranked{Candidate: k}
		if k.Match >= 0 {
			m := &rules[k.Rule].Matches[k.Match]
			r.kind, r.length = pathRank(m.Path)
			r.method = b2i(m.Method != "")
			r.headers = countNames(m.Headers, true) + len(m.Claims)
			r.query = countNames(m.Query, false)
		}
		keys[i] = r
	}
	slices.SortStableFunc(keys, func(a, b ranked) int {
		ra, rb := &rules[a.Rule], &rules[b.Rule]
		return cmp.Or(
			-cmp.Compare(a.kind, b.kind),
			-cmp.Compare(a.length, b.length),
			-cmp.Compare(a.method, b.method),
			-cmp.Compare(a.headers, b.headers),
			-cmp.Compare(a.query, b.query),
			cmp.Compare(ra.Created, rb.Created),
			cmp.Compare(ra.Route, rb.Route),
			// Routes of two kinds may share a name; a fixed order keeps tables stable.
			cmp.Compare(ra.Kind, rb.Kind),
			cmp.Compare(ra.Index, rb.Index),
			cmp.Compare(a.Match, b.Match),
		)
	})
	for i := range keys {
		list[i] = keys[i].Candidate
	}
	return list
}

// listed returns all candidates in the order written.
func listed(rules []Rule) []Candidate {
	out := make([]Candidate, 0, len(rules))
	for i := range rules {
		if len(rules[i].Matches) == 0 {
			out = append(out, Candidate{Rule: i, Match: -1})
		}
		for j := range rules[i].Matches {
			out = append(out, Candidate{Rule: i, Match: j})
		}
	}
	return out
}

// pathRank returns the rank of the kind, higher first, and the length that counts.
func pathRank(p PathMatch) (rank, length int) {
	switch p.Kind {
	case PathExact:
		return 3, len(p.Value)
	case PathPrefix:
		// The trailing slash does not change what matches, so it does not count.
		return 2, max(1, len(strings.TrimSuffix(p.Value, "/")))
	case PathRawPrefix:
		return 2, len(p.Value)
	case PathRegex, PathTemplate:
		return 1, len(p.Value)
	}
	return 0, 0
}

// countNames counts the conditions that count: the first of each name.
func countNames(vs []ValueMatch, fold bool) int {
	n := 0
	for i := range vs {
		if !repeated(vs, i, fold) {
			n++
		}
	}
	return n
}

// repeated reports whether an earlier condition has the name of the i-th.
func repeated(vs []ValueMatch, i int, fold bool) bool {
	for j := range i {
		if vs[j].Name == vs[i].Name || fold && strings.EqualFold(vs[j].Name, vs[i].Name) {
			return true
		}
	}
	return false
}
