package resilience

import (
	"math"
	"sync/atomic"
	"time"
)

// Bucket is a token bucket's size and speed.
type Bucket struct {
	Max  uint32        // tokens it holds, and starts with
	Fill uint32        // tokens added in each Each; 0: 1
	Each time.Duration // fill interval; 0: 1 s
}

// TokenBucket is a local rate limit. It holds one number, the time at which it
// will be full again (the generic cell rate algorithm, ITU-T I.371), so that a
// take is one compare-and-swap and no timer fills it. Make it with NewTokenBucket.
type TokenBucket struct {
	// fixed after NewTokenBucket
	cost  int64 // nanoseconds a token takes to fill
	depth int64 // nanoseconds to fill the whole bucket

	full    atomic.Int64 // nanoseconds since started; past: full
	refused atomic.Uint64
}

// NewTokenBucket returns a full bucket.
func NewTokenBucket(b Bucket) *TokenBucket {
	each, fill := int64(b.Each), int64(b.Fill)
	if each <= 0 {
		each = int64(time.Second)
	}
	if fill == 0 {
		fill = 1
	}
	cost := max(1, each/fill)
	depth := int64(math.MaxInt64 / 4)
	if int64(b.Max) == 0 || cost <= depth/int64(b.Max) {
		depth = cost * int64(b.Max)
	}
	t := &TokenBucket{cost: cost, depth: depth}
	t.full.Store(math.MinInt64)
	return t
}

// Take takes a token; it reports false when there is none: the answer is 429,
// flag RL, body "local_rate_limited".
func (t *TokenBucket) Take() bool {
	now := int64(time.Since(started))
	for {
		old := t.full.Load()
		next := max(old, now) + t.cost
		if next-now > t.depth {
			t.refused.Add(1)
			return false
		}
		if t.full.CompareAndSwap(old, next) {
			return true
		}
	}
}

// put returns a token that was taken for nothing.
func (t *TokenBucket) put() { t.full.Add(-t.cost) }

// Refused counts refusals.
func (t *TokenBucket) Refused() uint64 { return t.refused.Load() }

// Descriptor is a key and value that a request was found to have.
type Descriptor struct{ Key, Value string }

// DescriptorLimit has a bucket of its own for requests with all of Entries.
type DescriptorLimit struct {
	Entries []Descriptor
	Bucket  Bucket
}

// RateLimit is a local rate limit with a bucket for all and some for particular
// requests.
type RateLimit struct {
	Default     *Bucket // nil: none
	Descriptors []DescriptorLimit

	Status int      // of refusals, 400 and above; 0: 429
	Fields []Header // further ones of refusals
}

// Header is a name, in lower case, and its value.
type Header struct{ Name, Value string }

// Limiter runs a RateLimit; make it with NewLimiter. A nil Limiter lets all pass.
type Limiter struct {
	// fixed after NewLimiter
	all     *TokenBucket
	entries [][]Descriptor
	buckets []*TokenBucket
}

// NewLimiter returns a limiter with full buckets.
func NewLimiter(r *RateLimit) *Limiter {
	l := new(Limiter)
	if r.Default != nil {
		l.all = NewTokenBucket(*r.Default)
	}
	for _, d := range r.Descriptors {
		l.entries = append(l.entries, d.Entries)
		l.buckets = append(l.buckets, NewTokenBucket(d.Bucket))
	}
	return l
}

// Allow takes a token for a request with the descriptors has: from each bucket
// whose entries it has, and from the default one. It takes either all or none.
func (l *Limiter) Allow(has []Descriptor) bool {
	if l == nil {
		return true
	}
	for i, b := range l.buckets {
		if covers(has, l.entries[i]) && !b.Take() {
			l.giveBack(has, i)
			return false
		}
	}
	if l.all != nil && !l.all.Take() {
		l.giveBack(has, len(l.buckets))
		return false
	}
	return true
}

func (l *Limiter) giveBack(has []Descriptor, before int) {
	for i := range before {
		if covers(has, l.entries[i]) {
			l.buckets[i].put()
		}
	}
}

func covers(has, want []Descriptor) bool {
next:
	for i := range want {
		for j := range has {
			if has[j] == want[i] {
				continue next
			}
		}
		return false
	}
	return true
}
