package routing

import "sort"

// linearBackends is up to how many backends a scan beats a binary search.
const linearBackends = 8

// Pick chooses a backend by weight. rand is uniform over 64 bits; the choice is
// rand modulo the sum of weights, as Envoy's, so equal rand gives an equal choice.
//
// It returns nil if there is no backend or all weights are 0: the answer is 500. A
// backend that is Invalid is returned for its share: the answer is its Status.
func (c *Compiled) Pick(rand uint64) *CompiledBackend {
	n := len(c.bounds)
	if n == 0 || c.bounds[n-1] == 0 {
		return nil
	}
	p := rand % c.bounds[n-1]
	if n <= linearBackends {
		for i, b := range c.bounds {
			if p < b {
				return &c.Backends[i]
			}
		}
	}
	return &c.Backends[sort.Search(n, func(i int) bool { return p < c.bounds[i] })]
}
