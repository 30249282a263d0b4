package h2

import "sync"

// Write buffers come in three sizes, so that a lone control frame does not take
// the memory of a full flush.
const (
	smallBuf = 2 << 10
	midBuf   = 18 << 10             // one 16 KiB frame and some heads
	largeBuf = maxBuffered + 36<<10 // the cap, one more frame, and heads
)

var (
	smallBufs = sync.Pool{New: func() any { return new([smallBuf]byte) }}
	midBufs   = sync.Pool{New: func() any { return new([midBuf]byte) }}
	largeBufs = sync.Pool{New: func() any { return new([largeBuf]byte) }}
)

// getBuf returns an empty slice with room for n bytes.
func getBuf(n int) []byte {
	switch {
	case n <= smallBuf:
		return smallBufs.Get().(*[smallBuf]byte)[:0]
	case n <= midBuf:
		return midBufs.Get().(*[midBuf]byte)[:0]
	case n <= largeBuf:
		return largeBufs.Get().(*[largeBuf]byte)[:0]
	}
	return make([]byte, 0, n)
}

// putBuf takes back what getBuf gave. A slice of another size is dropped.
func putBuf(b []byte) {
	switch cap(b) {
	case smallBuf:
		smallBufs.Put((*[smallBuf]byte)(b[:smallBuf]))
	case midBuf:
		midBufs.Put((*[midBuf]byte)(b[:midBuf]))
	case largeBuf:
		largeBufs.Put((*[largeBuf]byte)(b[:largeBuf]))
	}
}

// growBuf returns b with room for n more bytes, in a larger buffer if needed.
func growBuf(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	want := len(b) + n
	if want > largeBuf {
		want = max(want, 2*cap(b))
	}
	nb := append(getBuf(want), b...)
	putBuf(b)
	return nb
}

// A chunk holds received DATA. The reader fills buf[w:] and the consumer takes
// buf[r:w]; a stream's tail chunk is topped up before another is taken, so tiny
// DATA frames cannot pin more memory than the window they use.
type chunk struct {
	next *chunk
	r, w int
	buf  []byte
}

const (
	smallChunk = 2 << 10
	largeChunk = 16 << 10
)

var (
	smallChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, smallChunk)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, largeChunk)} }}
)

// getChunk returns an empty chunk that suits n bytes.
func getChunk(n int) *chunk {
	if n <= smallChunk {
		return smallChunks.Get().(*chunk)
	}
	return largeChunks.Get().(*chunk)
}

func putChunk(c *chunk) {
	c.next, c.r, c.w = nil, 0, 0
	if len(c.buf) == smallChunk {
		smallChunks.Put(c)
	} else {
		largeChunks.Put(c)
	}
}
