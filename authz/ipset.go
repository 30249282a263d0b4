package authz

import (
	"net/netip"
	"slices"
)

// ipSet holds address ranges, merged and sorted; 4-in-6 addresses count as IPv4.
type ipSet struct{ ranges []ipRange }

type ipRange struct{ lo, hi netip.Addr }

func newIPSet(ps []netip.Prefix) *ipSet {
	var rs []ipRange
	for _, p := range ps {
		if !p.IsValid() {
			continue
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		p = p.Masked()
		rs = append(rs, ipRange{p.Addr(), lastAddr(p)})
	}
	return mergeRanges(rs)
}

// mergeRanges sorts rs and joins what overlaps.
func mergeRanges(rs []ipRange) *ipSet {
	slices.SortFunc(rs, func(a, b ipRange) int { return a.lo.Compare(b.lo) })
	var out []ipRange
	for _, r := range rs {
		if n := len(out); n > 0 && out[n-1].lo.BitLen() == r.lo.BitLen() && r.lo.Compare(out[n-1].hi) <= 0 {
			if r.hi.Compare(out[n-1].hi) > 0 {
				out[n-1].hi = r.hi
			}
			continue
		}
		out = append(out, r)
	}
	return &ipSet{out}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	from := p.Bits()
	if p.Addr().Is4() {
		from += 96
	}
	for i := from; i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		a = a.Unmap()
	}
	return a
}

// contains reports whether a is in the set; an invalid address never is.
func (s *ipSet) contains(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.Unmap().WithZone("")
	lo, hi := 0, len(s.ranges)
	for lo < hi { // the last range that starts at or before a
		if m := (lo + hi) / 2; s.ranges[m].lo.Compare(a) <= 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == 0 {
		return false
	}
	r := s.ranges[lo-1]
	return r.lo.BitLen() == a.BitLen() && a.Compare(r.hi) <= 0
}
