package routing

// Selected reports whether a request with this rand (uniform over 64 bits) is copied.
func (m *Mirror) Selected(rand uint64) bool {
	return m.Denominator == 0 || rand%uint64(m.Denominator) < uint64(m.Numerator)
}

// AppendMirrors appends the mirrors that copy a request of the backend's share. Each
// mirror draws on its own: its number is mixed into rand, so two mirrors of 10 % do not
// copy the same tenth.
func (b *CompiledBackend) AppendMirrors(dst []*Mirror, rand uint64) []*Mirror {
	for i := range b.Mirrors {
		if b.Mirrors[i].Selected(mix(rand + uint64(i))) {
			dst = append(dst, &b.Mirrors[i])
		}
	}
	return dst
}

// mix is the output function of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
