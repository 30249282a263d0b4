package balance

import "math/bits"

// alias is Vose's alias method: a weighted random choice in O(1).
type alias struct {
	// fixed after newAlias
	keep  []uint32 // chance of 2^32 that a slot keeps its own index
	other []uint32 // index otherwise
}

func newAlias(eps []*Endpoint) *alias {
	n := len(eps)
	a := &alias{keep: make([]uint32, n), other: make([]uint32, n)}
	total := uint64(0)
	for _, e := range eps {
		total += uint64(e.weight())
	}
	scaled := make([]float64, n)
	var small, large []int
	for i, e := range eps {
		scaled[i] = float64(e.weight()) * float64(n) / float64(total)
		if scaled[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.keep[s], a.other[s] = uint32(scaled[s]*(1<<32-1)), uint32(l)
		scaled[l] -= 1 - scaled[s]
		if scaled[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range append(small, large...) {
		a.keep[i], a.other[i] = 1<<32-1, uint32(i)
	}
	return a
}

// pick maps 64 random bits to an index: the product's high half is a uniform
// slot, its low half decides between the slot and its alias.
func (a *alias) pick(r uint64) uint32 {
	hi, lo := bits.Mul64(r, uint64(len(a.keep)))
	if uint32(lo>>32) <= a.keep[hi] {
		return uint32(hi)
	}
	return a.other[hi]
}
