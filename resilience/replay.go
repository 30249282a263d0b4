package resilience

// ReplayBytes is the process-wide budget for request bodies kept for a retry.
const ReplayBytes = 64 << 20

// ReplayBudget bounds the memory of kept request bodies. A request that gets none
// runs without replay: once its body flows it is not retried. The zero value has
// no bound.
type ReplayBudget struct{ gate gate }

// NewReplayBudget returns a budget of so many bytes, ReplayBytes in production.
func NewReplayBudget(bytes int64) *ReplayBudget {
	b := new(ReplayBudget)
	b.gate.max.Store(max(1, bytes))
	return b
}

// Acquire takes n bytes, or none and reports false.
func (b *ReplayBudget) Acquire(n int) bool { return b.gate.takeN(int64(n)) }

// Release gives n bytes back.
func (b *ReplayBudget) Release(n int) { b.gate.used.Add(-int64(n)) }

// Used is what is taken now; Refused counts refusals.
func (b *ReplayBudget) Used() int64     { return b.gate.used.Load() }
func (b *ReplayBudget) Refused() uint64 { return b.gate.refused.Load() }
