package h2

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

const (
	// An idle connection waits with the small buffer; a read that fills it says
	// that more is coming and takes a large one from the pool for as long as
	// that lasts.
	smallRead = 2 << 10
	largeRead = 32 << 10
)

var largeReads = sync.Pool{New: func() any { return new([largeRead]byte) }}

// A reader buffers what comes from the network. Owned by the goroutine of Serve.
type reader struct {
	nc     net.Conn
	idle   func() // called before a read that may block
	buf    []byte
	r, w   int
	small  []byte
	large  *[largeRead]byte
	direct bool // last read was large: more is likely
	word   [4]byte
}

// fill reads once into the empty buffer.
func (b *reader) fill() error {
	b.pick()
	b.idle()
	n, err := b.nc.Read(b.buf)
	b.r, b.w = 0, max(n, 0)
	b.direct = n == len(b.buf) || n >= largeRead/4
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return below(err)
}

// pick chooses the buffer for the next read.
func (b *reader) pick() {
	if b.direct {
		if b.large == nil {
			b.large = largeReads.Get().(*[largeRead]byte)
		}
		b.buf = b.large[:]
		return
	}
	if b.small == nil {
		b.small = make([]byte, smallRead)
	}
	b.buf = b.small
	b.drop()
}

// drop gives the large buffer back.
func (b *reader) drop() {
	if b.large != nil {
		largeReads.Put(b.large)
		b.large = nil
	}
}

// Read fills p from the buffer, or from the network if the buffer is empty: a
// payload larger than the buffer goes straight where it belongs.
func (b *reader) Read(p []byte) (int, error) {
	if b.r == b.w {
		if len(p) >= smallRead {
			b.idle()
			n, err := b.nc.Read(p)
			if n > 0 {
				b.direct = false // the next bytes wanted are a frame header
				return n, nil
			}
			if err == nil {
				err = io.ErrNoProgress
			}
			return 0, below(err)
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}

// full fills p.
func (b *reader) full(p []byte) error {
	for len(p) > 0 {
		n, err := b.Read(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// peek returns the next n bytes as a view of the buffer, or nil if they are not
// all there.
func (b *reader) peek(n int) []byte {
	if b.w-b.r < n {
		return nil
	}
	return b.buf[b.r : b.r+n]
}

// take is peek of bytes that are read thereby.
func (b *reader) take(n int) []byte {
	p := b.peek(n)
	b.r += len(p)
	return p
}

// uint32 reads a number. It lands in a field since it would escape otherwise.
func (b *reader) uint32() (uint32, error) {
	err := b.full(b.word[:])
	return binary.BigEndian.Uint32(b.word[:]), err
}

// skip throws n bytes away.
func (b *reader) skip(n int) error {
	for n > 0 {
		if b.r == b.w {
			if err := b.fill(); err != nil {
				return err
			}
		}
		k := min(n, b.w-b.r)
		b.r += k
		n -= k
	}
	return nil
}
