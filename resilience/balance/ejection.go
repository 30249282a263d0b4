package balance

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Ejection says whether outlier detection took a host out. It reads like an
// atomic.Bool; a change also tells the sets that hold the host, whose load
// distribution depends on it. The zero value is "not ejected".
type Ejection struct {
	on atomic.Bool

	mu sync.Mutex
	// guarded by mu: change counters of the set lineages that hold the host,
	// nearly always one (a host belongs to one backend).
	watch []*atomic.Uint64
}

// Load reports whether the host is ejected.
func (e *Ejection) Load() bool { return e.on.Load() }

// Store ejects the host or takes it back.
func (e *Ejection) Store(on bool) { e.Swap(on) }

// Swap is Store that returns the former value.
func (e *Ejection) Swap(on bool) (old bool) {
	old = e.on.Swap(on)
	if old != on {
		e.mu.Lock()
		for _, c := range e.watch {
			c.Add(1)
		}
		e.mu.Unlock()
	}
	return old
}

// subscribe adds a lineage's change counter.
func (e *Ejection) subscribe(c *atomic.Uint64) {
	e.mu.Lock()
	if !slices.Contains(e.watch, c) {
		e.watch = append(e.watch, c)
	}
	e.mu.Unlock()
}

// unsubscribe drops it: the host left the lineage.
func (e *Ejection) unsubscribe(c *atomic.Uint64) {
	e.mu.Lock()
	if i := slices.Index(e.watch, c); i >= 0 {
		e.watch = slices.Delete(e.watch, i, i+1)
	}
	e.mu.Unlock()
}
