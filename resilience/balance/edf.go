package balance

import (
	"math"
	"sync"
)

// edf is an earliest-deadline-first queue, which turns weights into turns: an
// endpoint's next deadline lies 1/weight ahead. As in Envoy the weight is taken
// anew at each turn, so requests in flight and warm-up act on it. A step costs
// O(log n).
type edf struct {
	mu sync.Mutex
	// guarded by mu
	heap  []turn
	order uint64
}

// turn is an endpoint's place in the queue.
type turn struct {
	deadline float64
	order    uint64 // first come, first served among equal deadlines
	index    uint32
}

// newEDF puts every endpoint at a random point of its first period, so that the
// proxies of a mesh do not start with the same endpoint.
func newEDF(eps []*Endpoint, p *Policy, now int64, random func() uint64) *edf {
	q := &edf{heap: make([]turn, len(eps))}
	for i, e := range eps {
		unit := float64(random()>>11) / (1 << 53)
		q.heap[i] = turn{deadline: unit / currentWeight(e, p, now), order: q.order, index: uint32(i)}
		q.order++
	}
	for i := len(q.heap)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
	return q
}

// next returns the index of the endpoint whose turn it is.
func (q *edf) next(eps []*Endpoint, p *Policy, now int64) uint32 {
	q.mu.Lock()
	t := &q.heap[0]
	index := t.index
	t.deadline += 1 / currentWeight(eps[index], p, now)
	t.order = q.order
	q.order++
	q.down(0)
	q.mu.Unlock()
	return index
}

func (q *edf) down(i int) {
	h := q.heap
	t := h[i]
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].before(&h[c]) {
			c++
		}
		if !h[c].before(&t) {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = t
}

func (t *turn) before(o *turn) bool {
	if t.deadline != o.deadline {
		return t.deadline < o.deadline
	}
	return t.order < o.order
}

// currentWeight is an endpoint's weight under load and warm-up: Envoy's
// weight / (active+1)^bias for least request, times the slow start factor. now
// is 0 when no warm-up runs.
func currentWeight(e *Endpoint, p *Policy, now int64) float64 {
	w := float64(e.weight())
	if p.Kind == LeastRequest {
		if active := max(0, e.Host.Active.Load()); active > 0 {
			if p.ActiveBias == 1 {
				w /= float64(active + 1)
			} else {
				w /= math.Pow(float64(active+1), p.ActiveBias)
			}
		}
	}
	if now != 0 {
		w *= p.Warmup.factor(now - e.Host.since.Load())
	}
	return w
}

// factor is the share of its weight that an endpoint of some age gets.
func (w *Warmup) factor(age int64) float64 {
	if w.Duration <= 0 || age >= int64(w.Duration) {
		return 1
	}
	f := float64(max(age, 1e6)) / float64(w.Duration) // Envoy counts at least one millisecond
	if w.Aggression != 1 {
		f = math.Pow(f, 1/w.Aggression)
	}
	return min(1, max(f, w.MinPercent/100))
}
