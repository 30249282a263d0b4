package routing

import (
	"math"

	"waypoint.dev/waypoint/internal/attrs"
)

// Result is the candidate that won a request.
type Result struct {
	Rule   *Compiled
	Match  int // index into Rule.Rule.Matches, -1 if the rule has none
	Prefix int // bytes of the path that the match covers, for prefix rewrites
}

// Match finds the first candidate that holds. It does not allocate, and its cost
// depends on the path's length and on the candidates that share its path prefix and
// exact header, query and method values, not on the size of the table.
func (t *Table) Match(r *attrs.Request) (Result, bool) {
	if t == nil {
		return Result{}, false
	}
	s := search{table: t, r: r, best: math.MaxInt32}
	s.run()
	if s.best == math.MaxInt32 {
		return Result{}, false
	}
	k := &t.candidates[s.best]
	return Result{Rule: k.rule, Match: k.match, Prefix: s.prefix}, true
}

// search is one walk through the index, on the stack.
type search struct {
	table  *Table
	r      *attrs.Request
	best   int32 // least candidate found
	prefix int
}

// nodesHeld is how many trie nodes on the way down are kept to be visited deepest
// first, where Gateway API precedence has the winner; more are visited early.
const nodesHeld = 32

func (s *search) run() {
	ix := &s.table.index
	if b := ix.exact[s.r.Path]; b != nil {
		s.bucket(b)
	}
	if ix.plain != nil {
		s.walk(ix.plain, false)
	}
	if ix.folded != nil {
		s.walk(ix.folded, true)
	}
}

func (s *search) walk(n *node, fold bool) {
	var held [nodesHeld]*bucket
	count := 0
	rest := s.r.Path
	for {
		if n.bucket != nil && n.bucket.first < s.best {
			if count == nodesHeld {
				s.bucket(n.bucket)
			} else {
				held[count] = n.bucket
				count++
			}
		}
		if rest == "" {
			break
		}
		next := n.child(rest[0], fold)
		if next == nil || !hasPrefix(rest, next.label, fold) {
			break
		}
		rest = rest[len(next.label):]
		n = next
	}
	for i := count - 1; i >= 0; i-- {
		s.bucket(held[i])
	}
}

// bucket looks for a better candidate among those of one path.
func (s *search) bucket(b *bucket) {
	if b.first >= s.best {
		return
	}
	s.scan(b.plain)
	for i := range b.groups {
		if b.groups[i].first < s.best {
			s.group(&b.groups[i])
		}
	}
	if b.headers != nil {
		s.headerGroups(b)
	}
	if b.queries != nil {
		s.queryGroups(b)
	}
}

// scan takes the first of list that holds, if it beats the best.
func (s *search) scan(list []int32) {
	for _, i := range list {
		if i >= s.best {
			return
		}
		if n, ok := s.table.candidates[i].matches(s.r); ok {
			s.best, s.prefix = i, n
			return
		}
	}
}

// group scans the candidates that ask for the value the request has.
func (s *search) group(g *group) {
	switch g.kind {
	case byMethod:
		s.scan(g.values[s.r.Method])
	case byAuthority:
		s.scan(g.values[s.r.Authority])
	case byQuery:
		if v, ok := s.r.QueryParam(g.name); ok {
			s.scan(g.values[v])
		}
	case byHeader:
		at, more := firstField(s.r.Headers, g.name)
		if at < 0 {
			return
		}
		s.scan(g.values[s.r.Headers[at].Value])
		for i := at + 1; more && i < len(s.r.Headers); i++ {
			if s.r.Headers[i].Name == g.name {
				s.scan(g.values[s.r.Headers[i].Value])
			}
		}
	}
}

// headerGroups looks at the request's headers, where they are fewer than the names
// that rules ask for.
func (s *search) headerGroups(b *bucket) {
	var done seen
	for i := range s.r.Headers {
		g := b.headers[s.r.Headers[i].Name]
		if g != nil && g.first < s.best && !done.mark(g.number) {
			s.group(g)
		}
	}
}

// queryGroups does the same with query parameters.
func (s *search) queryGroups(b *bucket) {
	var done seen
	for q := s.r.Query; q != ""; {
		var pair string
		pair, q = cutByte(q, '&')
		name, _ := cutByte(pair, '=')
		g := b.queries[name]
		if g != nil && g.first < s.best && !done.mark(g.number) {
			s.group(g)
		}
	}
}

func cutByte(s string, sep byte) (before, after string) {
	for i := range len(s) {
		if s[i] == sep {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
