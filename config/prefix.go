package config

import (
	"net/netip"
	"slices"
)

// prefixTable finds the longest prefix that holds an address and has the port.
// There are few distinct lengths, so one map probe for each of them is cheaper
// than a trie.
type prefixTable struct {
	lens4, lens6 []int // longest first
	m            map[prefixPort]*Chain
}

type prefixPort struct {
	p    netip.Prefix
	port uint16 // 0: any
}

// add returns the chain that already has the prefix and port, or nil.
func (t *prefixTable) add(p netip.Prefix, port uint16, c *Chain) *Chain {
	p = p.Masked()
	k := prefixPort{p, port}
	if old := t.m[k]; old != nil {
		return old
	}
	if t.m == nil {
		t.m = make(map[prefixPort]*Chain)
	}
	t.m[k] = c
	lens := &t.lens6
	if p.Addr().Is4() {
		lens = &t.lens4
	}
	if !slices.Contains(*lens, p.Bits()) {
		*lens = append(*lens, p.Bits())
		slices.SortFunc(*lens, func(a, b int) int { return b - a })
	}
	return nil
}

func (t *prefixTable) lookup(ip netip.Addr, port uint16) *Chain {
	lens := t.lens6
	if ip.Is4() {
		lens = t.lens4
	}
	for _, n := range lens {
		p, err := ip.Prefix(n)
		if err != nil {
			continue
		}
		if c := t.m[prefixPort{p, port}]; c != nil {
			return c
		}
		if c := t.m[prefixPort{p, 0}]; c != nil {
			return c
		}
	}
	return nil
}
