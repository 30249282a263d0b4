package buf

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Size classes are powers of two. 512 bytes holds the head of a small response,
// 4 KiB nearly every request head, 16 KiB one HTTP/2 DATA frame (RFC 9113
// section 4.2), 64 KiB the largest head that Envoy's default of 60 KiB lets in,
// 256 KiB a bulk copy (ztunnel's largest copy buffer).
const (
	minShift = 9
	maxShift = 18

	// MinPooled is the smallest capacity handed out.
	MinPooled = 1 << minShift
	// MaxPooled is the largest size that is pooled. Larger ones are allocated
	// and left to the collector.
	MaxPooled = 1 << maxShift

	unpooled = 0xff
)

// Buf is a taken buffer. Its zero value holds nothing and may be released.
type Buf struct {
	// B is the whole capacity of the buffer: len(B) == cap(B). The owner keeps
	// his own marks of what is filled.
	B []byte

	class uint8
	taken bool
}

var (
	pools  [maxShift - minShift + 1]sync.Pool
	poison atomic.Bool
	taken  atomic.Int64 // kept only while poisoning
)

// Take returns a buffer with len(B) >= n. Its content is arbitrary.
func Take(n int) *Buf {
	c := classOf(n)
	if poison.Load() {
		taken.Add(1)
	}
	if c == unpooled {
		return &Buf{B: make([]byte, n), class: unpooled, taken: true}
	}
	if b, _ := pools[c].Get().(*Buf); b != nil {
		b.taken = true
		return b
	}
	return &Buf{B: make([]byte, 1<<(minShift+int(c))), class: c, taken: true}
}

// Release gives b back. A nil or zero b is ignored. Releasing twice is ignored
// too, since the second owner's bytes matter more than one pooled buffer; under
// [SetPoison] it panics.
func (b *Buf) Release() {
	if b == nil || b.B == nil {
		return
	}
	if !b.taken {
		if poison.Load() {
			panic("buf: released twice")
		}
		return
	}
	b.taken = false
	if poison.Load() {
		taken.Add(-1)
		for i := range b.B {
			b.B[i] = Poison
		}
	}
	if b.class != unpooled {
		pools[b.class].Put(b)
	}
}

// Grow moves b's first used bytes to a buffer with len(B) >= n, releases b and
// returns the new one. Views of b end.
func Grow(b *Buf, used, n int) *Buf {
	g := Take(n)
	copy(g.B, b.B[:used])
	b.Release()
	return g
}

// Poison is the byte that released buffers are filled with under [SetPoison].
// It is valid in no HTTP head.
const Poison = 0xdb

// SetPoison switches the checks for tests on or off: Release overwrites the
// bytes, a second Release panics, and [Outstanding] counts. Call it before the
// first Take (in TestMain).
func SetPoison(on bool) { poison.Store(on) }

// Outstanding returns how many buffers were taken and not released since
// [SetPoison] was switched on.
func Outstanding() int64 { return taken.Load() }

func classOf(n int) uint8 {
	if n <= MinPooled {
		return 0
	}
	if n > MaxPooled {
		return unpooled
	}
	return uint8(bits.Len(uint(n-1)) - minShift)
}
