package balance

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// table is a hash table over the healthy endpoints of a priority. Ejections do
// not rebuild it: a lookup passes over who cannot serve, which gives a ring
// exactly the neighbours it would have without them.
type table = *hashTable

type hashTable struct {
	// fixed after newTable
	eps    []*Endpoint
	points []uint64 // ring: sorted hashes; nil: Maglev
	slots  []uint32 // endpoint by ring point or Maglev slot
}

// newTable builds the table of the policy's kind.
func newTable(p *Policy, eps []*Endpoint) table {
	t := &hashTable{eps: eps}
	if len(eps) == 0 {
		return t
	}
	weights := normalWeights(eps, p.LocalityWeighted)
	if p.Kind == RingHash {
		t.buildRing(weights, p.RingMin, p.RingMax)
	} else {
		t.buildMaglev(weights, nextPrime(p.TableSize))
	}
	return t
}

// with is the table for equal endpoints behind other pointers.
func (t *hashTable) with(eps []*Endpoint) table {
	return &hashTable{eps: eps, points: t.points, slots: t.slots}
}

// normalWeights returns each endpoint's share, 1 in all: by its weight, within
// its locality's if those count.
func normalWeights(eps []*Endpoint, byLocality bool) []float64 {
	out := make([]float64, len(eps))
	if byLocality {
		members := make(map[Locality]float64)
		sum := 0.0
		for _, e := range eps {
			if _, ok := members[e.Locality]; !ok {
				sum += float64(e.Locality.Weight)
			}
			members[e.Locality] += float64(e.weight())
		}
		if sum > 0 {
			for i, e := range eps {
				out[i] = float64(e.Locality.Weight) / sum * float64(e.weight()) / members[e.Locality]
			}
			return out
		}
	}
	sum := 0.0
	for _, e := range eps {
		sum += float64(e.weight())
	}
	for i, e := range eps {
		out[i] = float64(e.weight()) / sum
	}
	return out
}

// buildRing is ketama as Envoy does it: the lightest endpoint gets a whole number
// of points, so that the ring has at least ringMin; the point i of an endpoint is
// xxHash64 of "key_i".
func (t *hashTable) buildRing(weights []float64, ringMin, ringMax uint64) {
	least := 1.0
	for _, w := range weights {
		if w > 0 {
			least = min(least, w)
		}
	}
	scale := min(math.Ceil(least*float64(ringMin))/least, float64(ringMax))
	type point struct {
		hash  uint64
		index uint32
	}
	ring := make([]point, 0, int(math.Ceil(scale)))
	var buf []byte
	have, want := 0.0, 0.0
	for i, e := range t.eps {
		want += scale * weights[i]
		buf = append(append(buf[:0], e.hashKey()...), '_')
		stem := len(buf)
		for n := int64(0); have < want; n++ {
			buf = strconv.AppendInt(buf[:stem], n, 10)
			ring = append(ring, point{xxhash.Sum64(buf), uint32(i)})
			have++
		}
	}
	// By index where hashes are equal, the order they were made in: a stable sort of
	// the largest ring, 8 Mi points, takes half a minute.
	slices.SortFunc(ring, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.index, b.index))
	})
	t.points, t.slots = make([]uint64, len(ring)), make([]uint32, len(ring))
	for i, p := range ring {
		t.points[i], t.slots[i] = p.hash, p.index
	}
}

// buildMaglev fills the table as in the paper (Eisenbud et al., NSDI 2016, listing
// 1) with Envoy's weights: endpoints take turns in the order of their keys, a
// lighter one sits rounds out.
func (t *hashTable) buildMaglev(weights []float64, size uint64) {
	type row struct {
		key          string
		index        uint32
		offset, skip uint64
		next         uint64
		weight, due  float64
	}
	rows := make([]row, 0, len(t.eps))
	heaviest := 0.0
	for i, e := range t.eps {
		if weights[i] == 0 {
			continue
		}
		k := e.hashKey()
		d := xxhash.NewWithSeed(1)
		d.WriteString(k)
		rows = append(rows, row{
			key: k, index: uint32(i), weight: weights[i],
			offset: xxhash.Sum64String(k) % size,
			skip:   d.Sum64()%(size-1) + 1,
		})
		heaviest = max(heaviest, weights[i])
	}
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.key, b.key) })
	const free = math.MaxUint32
	t.slots = make([]uint32, size)
	for i := range t.slots {
		t.slots[i] = free
	}
	for round, filled := 1.0, uint64(0); filled < size; round++ {
		for i := range rows {
			r := &rows[i]
			if round*r.weight < r.due {
				continue
			}
			r.due += heaviest
			at := (r.offset + r.skip*r.next) % size
			for t.slots[at] != free {
				r.next++
				at = (r.offset + r.skip*r.next) % size
			}
			t.slots[at] = r.index
			r.next++
			if filled++; filled == size {
				break
			}
		}
	}
}

const (
	// ringWalk bounds the steps along a ring, and maglevTries the rehashes, before
	// all endpoints are looked through: both are only used up when nearly all of
	// them are out.
	ringWalk    = 1024
	maglevTries = 32
)

// lookup returns the acceptable endpoint that h leads to, else a usable one, else
// nil.
func (t *hashTable) lookup(h uint64, c *choice) *Endpoint {
	if len(t.slots) == 0 {
		return nil
	}
	var again *Endpoint
	tries := maglevTries
	at := 0
	if t.points != nil {
		tries = min(ringWalk, len(t.points))
		at = t.search(h)
	}
	for i := range tries {
		var e *Endpoint
		if t.points != nil {
			e = t.eps[t.slots[at]]
			if at++; at == len(t.slots) {
				at = 0
			}
		} else {
			e = t.eps[t.slots[rehash(h, i)%uint64(len(t.slots))]]
		}
		if c.accepts(e) {
			return e
		}
		if again == nil && c.usable(e) {
			again = e
		}
		if len(t.eps) == 1 {
			return again
		}
	}
	from := int(h % uint64(len(t.eps)))
	for i := range t.eps {
		e := t.eps[(from+i)%len(t.eps)]
		if c.accepts(e) {
			return e
		}
		if again == nil && c.usable(e) {
			again = e
		}
	}
	return again
}

// search returns the first ring point at or behind h.
func (t *hashTable) search(h uint64) int {
	lo, hi := 0, len(t.points)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if t.points[mid] < h {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(t.points) {
		return 0
	}
	return lo
}

// rehash is h itself at first, then a fresh hash for each further try (the
// splitmix64 finalizer), so that an absent endpoint's keys spread over all.
func rehash(h uint64, try int) uint64 {
	if try == 0 {
		return h
	}
	h += uint64(try) * 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// nextPrime returns the least prime from n on; a table of another size would have
// slots that an endpoint's permutation never reaches.
func nextPrime(n uint64) uint64 {
	for n = max(n, 2); ; n++ {
		prime := true
		for d := uint64(2); d*d <= n; d++ {
			if n%d == 0 {
				prime = false
				break
			}
		}
		if prime {
			return n
		}
	}
}
