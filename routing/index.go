package routing

import "strings"

// index finds the candidates whose path can match: exact paths by hash, everything
// else at its literal prefix in a radix tree.
type index struct {
	exact  map[string]*bucket
	plain  *node // prefixes as written
	folded *node // prefixes that ignore ASCII case, lower case in the tree
}

// node is one radix tree node: buckets on the way down are those whose prefix the
// path has.
type node struct {
	label  string
	heads  string // first bytes of children's labels, in their order
	kids   []*node
	list   []int32 // candidates in order, while building
	bucket *bucket
}

func (n *node) child(c byte, fold bool) *node {
	if fold {
		c = lower(c)
	}
	if i := strings.IndexByte(n.heads, c); i >= 0 {
		return n.kids[i]
	}
	return nil
}

// at returns the node of key, made where it is missing.
func (n *node) at(key string) *node {
	for key != "" {
		i := strings.IndexByte(n.heads, key[0])
		if i < 0 {
			kid := &node{label: key}
			n.heads += key[:1]
			n.kids = append(n.kids, kid)
			return kid
		}
		kid := n.kids[i]
		common := 0
		for common < len(key) && common < len(kid.label) && key[common] == kid.label[common] {
			common++
		}
		if common < len(kid.label) {
			upper := &node{label: kid.label[:common], heads: kid.label[common : common+1], kids: []*node{kid}}
			kid.label = kid.label[common:]
			n.kids[i] = upper
			kid = upper
		}
		n, key = kid, key[common:]
	}
	return n
}

// seal turns the lists into buckets.
func (n *node) seal(all []candidate) {
	if len(n.list) > 0 {
		n.bucket = newBucket(all, n.list)
		n.list = nil
	}
	for _, k := range n.kids {
		k.seal(all)
	}
}

func buildIndex(all []candidate) index {
	var ix index
	exact := map[string][]int32{}
	for i := range all {
		p := &all[i].path
		switch {
		case p.op == pathExact && !p.fold:
			exact[p.key] = append(exact[p.key], int32(i))
		case p.fold:
			if ix.folded == nil {
				ix.folded = &node{}
			}
			n := ix.folded.at(lowerASCII(p.key))
			n.list = append(n.list, int32(i))
		default:
			if ix.plain == nil {
				ix.plain = &node{}
			}
			n := ix.plain.at(p.key)
			n.list = append(n.list, int32(i))
		}
	}
	if len(exact) > 0 {
		ix.exact = make(map[string]*bucket, len(exact))
		for k, list := range exact {
			ix.exact[k] = newBucket(all, list)
		}
	}
	if ix.plain != nil {
		ix.plain.seal(all)
	}
	if ix.folded != nil {
		ix.folded.seal(all)
	}
	return ix
}
