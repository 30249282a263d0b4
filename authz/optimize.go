package authz

import "strings"

// minSet is the number of exact values from which a hash lookup beats comparing
// one by one (measured: the two meet at about four).
const minSet = 4

// optimize returns an expression that holds for the same inputs and costs less:
// constants folded, nested And and Or flattened, alternatives of one attribute
// put in one set. Names for Explain are lost.
func optimize(e *Expr) *Expr {
	if e == nil {
		return exprFalse
	}
	switch e.op {
	case opNot:
		k := optimize(e.kids[0])
		switch k.op {
		case opTrue:
			return exprFalse
		case opFalse:
			return exprTrue
		case opNot:
			return k.kids[0]
		}
		return Not(k)
	case opAnd:
		return fold(e, exprTrue, exprFalse, And)
	case opOr:
		o := fold(e, exprFalse, exprTrue, Or)
		if o.op == opOr {
			o.kids = gather(o.kids)
			if len(o.kids) == 1 {
				return o.kids[0]
			}
		}
		return o
	}
	return e
}

// fold optimizes the parts of an And or Or: unit disappears, zero wins.
func fold(e, unit, zero *Expr, f func(...*Expr) *Expr) *Expr {
	var kids []*Expr
	for _, k := range e.kids {
		k = optimize(k)
		switch {
		case k.op == zero.op:
			return zero
		case k.op == unit.op:
		case k.op == e.op:
			kids = append(kids, k.kids...)
		default:
			kids = append(kids, k)
		}
	}
	if len(kids) == 0 {
		return unit
	}
	return one(f, kids)
}

// gather merges alternatives of one attribute.
func gather(kids []*Expr) []*Expr {
	var out []*Expr
	ips := map[op]*ipSet{}
	exact := map[op][]*Expr{}
	for _, k := range kids {
		switch k.op {
		case opDestIP, opSourceIP, opRemoteIP:
			if ips[k.op] == nil {
				ips[k.op] = &ipSet{}
			}
			ips[k.op].ranges = append(ips[k.op].ranges, k.ips.ranges...)
			continue
		case opPrincipal, opPath, opHost:
			if _, ok := k.exactValue(); ok {
				exact[k.op] = append(exact[k.op], k)
				continue
			}
		}
		out = append(out, k)
	}
	for _, o := range []op{opDestIP, opSourceIP, opRemoteIP} {
		if s := ips[o]; s != nil {
			out = append(out, &Expr{op: o, ips: mergeRanges(s.ranges)})
		}
	}
	for _, o := range []op{opPrincipal, opPath, opHost} {
		es := exact[o]
		if len(es) < minSet {
			out = append(out, es...)
			continue
		}
		set := make(map[string]struct{}, len(es))
		for _, k := range es {
			v, _ := k.exactValue()
			set[v] = struct{}{}
		}
		out = append(out, &Expr{op: o + 1, set: set}) // opXSet follows opX
	}
	return out
}

// exactValue returns the one value that a leaf accepts, as its set form stores
// it. Empty values stay out: they would match a missing attribute.
func (e *Expr) exactValue() (string, bool) {
	if e.str.kind != MatchExact || e.str.value == "" {
		return "", false
	}
	if e.op == opHost {
		v := e.str.value
		return v, e.str.fold && len(v) <= maxHost
	}
	return e.str.value, !e.str.fold
}

// key is a fact about a request that a rule needs in order to hold.
type key struct {
	kind keyKind
	val  string
}

type keyKind uint8

const (
	keyPrincipal keyKind = iota // peer URI
	keyNamespace                // text between "/ns/" and the next slash of the peer URI
	keyPath                     // whole path
	keyDir                      // path up to and including one of its first slashes
	keyHost                     // authority in lower case
	numKeyKinds
)

// maxDirs is how many leading directories of a path are looked up.
const maxDirs = 3

// leafKeys returns the keys of which one must be present for a leaf to hold; ok
// is false if the leaf can hold without any.
func (e *Expr) leafKeys() (ks []key, ok bool) {
	switch e.op {
	case opFalse:
		return nil, true
	case opPrincipal:
		if v, ok := e.exactValue(); ok {
			return []key{{keyPrincipal, v}}, true
		}
	case opPrincipalSet:
		return setKeys(keyPrincipal, e.set), true
	case opNamespace, opServiceAccount:
		if e.name != "" && !strings.Contains(e.name, "/") {
			return []key{{keyNamespace, e.name}}, true
		}
	case opHost:
		if v, ok := e.exactValue(); ok {
			return []key{{keyHost, v}}, true
		}
	case opHostSet:
		return setKeys(keyHost, e.set), true
	case opPath:
		if v, ok := e.exactValue(); ok {
			return []key{{keyPath, v}}, true
		}
		if e.str.kind == MatchPrefix && !e.str.fold {
			return dirKey(e.str.value)
		}
	case opPathSet:
		return setKeys(keyPath, e.set), true
	case opTemplate:
		return dirKey(e.tmpl.Prefix())
	}
	return nil, false
}

func setKeys(kind keyKind, set map[string]struct{}) []key {
	ks := make([]key, 0, len(set))
	for v := range set {
		ks = append(ks, key{kind, v})
	}
	return ks
}

// dirKey returns the deepest whole directory of a literal prefix.
func dirKey(prefix string) ([]key, bool) {
	if prefix == "" || prefix[0] != '/' {
		return nil, false
	}
	end := 0
	for i, n := 1, 0; i < len(prefix) && n < maxDirs; i++ {
		if prefix[i] == '/' {
			end = i
			n++
		}
	}
	if end == 0 {
		return nil, false // every path starts with "/"
	}
	return []key{{keyDir, prefix[:end+1]}}, true
}
