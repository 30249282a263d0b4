package telemetry

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// shards spread one series over cache lines: a tunnel always adds to the same
// one, so cores do not fight over a counter. Eight is past the point where two
// busy cores collide often and keeps a series under 5 KiB.
const shards = 8

// buckets are Envoy's default histogram bounds, which Istio keeps for
// milliseconds and bytes alike (Envoy: Stats::HistogramSettingsImpl).
var buckets = [...]float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

type histogram struct {
	counts [len(buckets) + 1]atomic.Uint64
	sum    atomic.Uint64 // in thousandths of the unit, so that it stays an integer
}

func (h *histogram) add(v float64) {
	i := 0
	for i < len(buckets) && v > buckets[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(uint64(v * 1000))
}

// shard is one slice of an HTTP series.
type shard struct {
	requests                          atomic.Uint64
	requestMessages, responseMessages atomic.Uint64
	duration, received, sent          histogram
	_                                 [64]byte
}

// tcpShard is one slice of a TCP series.
type tcpShard struct {
	opened, closed, received, sent atomic.Uint64
	_                              [32]byte
}

// pairKey names everything about a series but its outcome.
type pairKey struct {
	source, dest *Peer
	service      *Service
	protocol     Protocol
	mutual       bool
}

// changedKey names the series of a destination whose source changes metrics.
type changedKey struct {
	pairKey
	metrics *Metrics
}

// outcome is the rest of the labels.
type outcome struct {
	code  uint16
	grpc  int16
	flags Flags
}

// series is one label combination.
type series struct {
	pairKey
	outcome
	http [shards]shard
	tcp  *[shards]tcpShard

	metrics *Metrics // what changes its labels; nil: nothing
	values  string   // of the labels of its own
}

// pair holds the series of one source and destination, a handful of outcomes.
type pair struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*series]
}

func (p *pair) get(k pairKey, o outcome) *series { return p.find(k, o, nil, "") }

// find returns the series of an outcome. values is kept.
func (p *pair) find(k pairKey, o outcome, m *Metrics, values string) *series {
	if l := p.list.Load(); l != nil {
		for _, s := range *l {
			if s.outcome == o {
				return s
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*series
	if l := p.list.Load(); l != nil {
		for _, s := range *l {
			if s.outcome == o {
				return s
			}
		}
		old = *l
	}
	s := &series{pairKey: k, outcome: o, metrics: m, values: values}
	if k.protocol == TCP {
		s.tcp = new([shards]tcpShard)
	}
	list := append(append(make([]*series, 0, len(old)+1), old...), s)
	p.list.Store(&list)
	return s
}

// registry finds pairs. Reads take no lock beyond an RWMutex read; it is split
// so that tunnels on different cores rarely meet on one.
type registry struct {
	parts [shards]struct {
		mu    sync.RWMutex
		pairs map[pairKey]*pair
		_     [32]byte
	}
	n     atomic.Int64
	limit int64

	mu      sync.RWMutex
	changed map[changedKey]map[string]*pair // guarded by mu: by the values of their own labels

	over [3]pair // by Protocol: where further combinations go, as "unknown", once limit is reached
}

func newRegistry(limit int64) *registry {
	r := &registry{limit: limit, changed: make(map[changedKey]map[string]*pair)}
	for i := range r.parts {
		r.parts[i].pairs = make(map[pairKey]*pair)
	}
	return r
}

// get returns the pair and the key it is counted under: the one asked for, or,
// past the limit, one without peers.
func (r *registry) get(k pairKey, at uint32) (*pair, pairKey) {
	part := &r.parts[at%shards]
	part.mu.RLock()
	p := part.pairs[k]
	part.mu.RUnlock()
	if p != nil {
		return p, k
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	if p = part.pairs[k]; p != nil {
		return p, k
	}
	if r.n.Load() >= r.limit {
		return &r.over[k.protocol], pairKey{protocol: k.protocol}
	}
	r.n.Add(1)
	p = new(pair)
	part.pairs[k] = p
	return p, k
}

// changedSeries is get for a destination whose source changes metrics. values is
// borrowed. Past the limit the values of own labels are not told apart.
func (r *registry) changedSeries(k pairKey, m *Metrics, values []byte, o outcome) *series {
	key := changedKey{k, m}
	r.mu.RLock()
	p := r.changed[key][string(values)]
	r.mu.RUnlock()
	if p != nil {
		// All series of the pair have the same values: any one has the text.
		if l := p.list.Load(); l != nil {
			for _, s := range *l {
				if s.outcome == o {
					return s
				}
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n.Load() >= r.limit && r.changed[key][string(values)] == nil {
		key, values = changedKey{pairKey{protocol: k.protocol}, m}, nil
	}
	of := r.changed[key]
	if of == nil {
		of = make(map[string]*pair)
		r.changed[key] = of
	}
	text := string(values)
	if p = of[text]; p == nil {
		p = new(pair)
		of[text] = p
		r.n.Add(1)
	}
	return p.find(key.pairKey, o, m, text)
}

// each visits every series.
func (r *registry) each(f func(*series)) {
	visit := func(p *pair) {
		if l := p.list.Load(); l != nil {
			for _, s := range *l {
				f(s)
			}
		}
	}
	for i := range r.parts {
		part := &r.parts[i]
		part.mu.RLock()
		pairs := make([]*pair, 0, len(part.pairs))
		for _, p := range part.pairs {
			pairs = append(pairs, p)
		}
		part.mu.RUnlock()
		for _, p := range pairs {
			visit(p)
		}
	}
	for i := range r.over {
		visit(&r.over[i])
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, of := range r.changed {
		for _, p := range of {
			visit(p)
		}
	}
}

func milliseconds(d time.Duration) float64 {
	return math.Max(0, float64(d)/float64(time.Millisecond))
}
