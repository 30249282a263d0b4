package routing

// bucket holds the candidates of one path, in order. Where there are many they are
// grouped by a value that each asks for exactly, so that a request looks only at
// those that want its own.
type bucket struct {
	first   int32   // least candidate in it
	plain   []int32 // ungrouped
	groups  []group // asked one by one
	headers map[string]*group
	queries map[string]*group
}

// groupKind is what candidates are grouped by.
type groupKind uint8

const (
	byHeader groupKind = iota
	byQuery
	byAuthority
	byMethod
)

// group maps a value to the candidates that ask for it.
type group struct {
	kind   groupKind
	name   string
	number int // among the groups looked up by request, for seen
	first  int32
	values map[string][]int32
}

// groupFrom is the size from which grouping pays, and groupsAsked how many names of
// one kind are asked one by one before the request's own are looked up instead.
// groupsMax bounds the names of one path: candidates with further ones are tried in turn.
const (
	groupFrom   = 8
	groupsAsked = 4
	groupsMax   = 1024
)

// seen marks the groups a request has been through, so that a header or parameter
// repeated thousands of times costs one lookup each and nothing more.
type seen [groupsMax / 64]uint64

// mark reports whether i was marked before.
func (s *seen) mark(i int) bool {
	old := s[i/64]&(1<<(i%64)) != 0
	s[i/64] |= 1 << (i % 64)
	return old
}

type groupKey struct {
	kind groupKind
	name string
}

func newBucket(all []candidate, list []int32) *bucket {
	b := &bucket{first: list[0]}
	if len(list) < groupFrom {
		b.plain = list
		return b
	}
	// Values per thing asked for: the one with the most splits best.
	counts := map[groupKey]map[string]int{}
	for _, i := range list {
		all[i].exacts(func(k groupKey, v string) {
			if counts[k] == nil {
				counts[k] = map[string]int{}
			}
			counts[k][v]++
		})
	}
	made := map[groupKey]*group{}
	var order []*group
	for _, i := range list {
		var best groupKey
		var want string
		most := 0
		all[i].exacts(func(k groupKey, v string) {
			if n := len(counts[k]); n > most {
				best, want, most = k, v, n
			}
		})
		if most == 0 {
			b.plain = append(b.plain, i)
			continue
		}
		g := made[best]
		if g == nil {
			if len(order) == groupsMax {
				b.plain = append(b.plain, i)
				continue
			}
			g = &group{kind: best.kind, name: best.name, number: len(order), first: i, values: map[string][]int32{}}
			made[best] = g
			order = append(order, g)
		}
		g.values[want] = append(g.values[want], i)
	}
	var count [byMethod + 1]int
	for _, g := range order {
		count[g.kind]++
	}
	for _, g := range order {
		switch {
		case g.kind == byHeader && count[byHeader] > groupsAsked:
			if b.headers == nil {
				b.headers = map[string]*group{}
			}
			b.headers[g.name] = g
		case g.kind == byQuery && count[byQuery] > groupsAsked:
			if b.queries == nil {
				b.queries = map[string]*group{}
			}
			b.queries[g.name] = g
		default:
			b.groups = append(b.groups, *g)
		}
	}
	return b
}

// exacts calls f for everything the candidate asks for exactly.
func (k *candidate) exacts(f func(groupKey, string)) {
	for i := range k.headers {
		v := &k.headers[i]
		if !v.exact() {
			continue
		}
		switch v.part {
		case partHeader:
			f(groupKey{byHeader, v.name}, v.text.lit)
		case partAuthority:
			f(groupKey{kind: byAuthority}, v.text.lit)
		case partMethod:
			f(groupKey{kind: byMethod}, v.text.lit)
		}
	}
	for i := range k.query {
		if v := &k.query[i]; v.exact() {
			f(groupKey{byQuery, v.name}, v.text.lit)
		}
	}
	if k.author != nil && k.author.exact() {
		f(groupKey{kind: byAuthority}, k.author.text.lit)
	}
	if k.method != "" {
		f(groupKey{kind: byMethod}, k.method)
	}
}

// exact reports whether the condition holds for one value only.
func (v *value) exact() bool {
	return !v.present && !v.invert && v.text.op == opExact && !v.text.fold
}
