package http1

import (
	"bytes"
	"errors"
	"os"
	"sync"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/buf"
)

// inputSize holds nearly every head, and little is lost when it does not: a
// larger head doubles the buffer.
const inputSize = 4 << 10

// minRead is the least room that a read behind a borrowed head is given.
const minRead = 1 << 10

// scratch is what an exchange needs beside its bytes. It goes back to a pool
// while a connection is idle.
type scratch struct {
	fields   []attrs.Field
	trailers []attrs.Field
	conns    []string // values of Connection lines
}

var scratches = sync.Pool{New: func() any {
	return &scratch{fields: make([]attrs.Field, 0, 24)}
}}

// input reads a connection. b.B[r:w] is not consumed yet; what stands below pin
// is borrowed by the head or trailers of the exchange and must not move.
type input struct {
	c    Conn
	wait interface{ WaitReadable() error } // nil if c cannot
	b    *buf.Buf                          // nil while idle
	r, w int
	pin  int
	held []*buf.Buf // full buffers with borrowed bytes
	err  error      // of the connection, behind the buffered bytes
}

func (in *input) init(c Conn) {
	in.c = c
	in.wait, _ = c.(interface{ WaitReadable() error })
}

func (in *input) buffered() int { return in.w - in.r }

func (in *input) bytes() []byte {
	if in.b == nil {
		return nil
	}
	return in.b.B[in.r:in.w]
}

// fill reads once more from the connection. Unpinned bytes may move; offsets
// from r stay right.
func (in *input) fill() error {
	if in.err != nil {
		return in.err
	}
	if in.b == nil {
		if in.wait != nil {
			if err := in.wait.WaitReadable(); err != nil {
				return in.fail(err)
			}
		}
		in.b = buf.Take(inputSize)
	}
	in.room()
	n, err := in.c.Read(in.b.B[in.w:])
	in.w += n
	if err != nil {
		in.fail(err)
		if n == 0 {
			return err
		}
	}
	return nil
}

// fail keeps err for later reads. A passed deadline is kept by the connection.
func (in *input) fail(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		in.err = err
	}
	return err
}

// room makes space behind w.
func (in *input) room() {
	if in.r == in.w {
		in.r, in.w = in.pin, in.pin
	}
	// Behind a head that nearly fills its buffer, reads would be tiny.
	if free := len(in.b.B) - in.w; free >= minRead || in.pin == 0 && free > 0 {
		return
	}
	n := in.w - in.r
	switch {
	case in.pin > 0:
		b := buf.Take(max(inputSize, 2*n))
		copy(b.B, in.b.B[in.r:in.w])
		in.held = append(in.held, in.b)
		in.b, in.pin = b, 0
	case in.r > 0:
		copy(in.b.B, in.b.B[in.r:in.w])
	default:
		in.b = buf.Grow(in.b, n, 2*len(in.b.B))
	}
	in.r, in.w = 0, n
}

// take consumes n bytes and pins them until endExchange.
func (in *input) take(n int) []byte {
	p := in.b.B[in.r : in.r+n : in.r+n]
	in.r += n
	in.pin = in.r
	return p
}

// endExchange ends all borrows. With nothing buffered the buffer is released.
func (in *input) endExchange() {
	for i, h := range in.held {
		h.Release()
		in.held[i] = nil
	}
	in.held = in.held[:0]
	in.pin = 0
	if in.r == in.w {
		in.b.Release()
		in.b, in.r, in.w = nil, 0, 0
	}
}

// drop releases everything, unread bytes too.
func (in *input) drop() {
	in.r, in.w = 0, 0
	in.endExchange()
}

// push adds a copy of p behind what is buffered.
func (in *input) push(p []byte) {
	if in.b == nil {
		in.b = buf.Take(max(inputSize, len(p)))
	}
	for len(in.b.B)-in.w < len(p) {
		in.b = buf.Grow(in.b, in.w, 2*len(in.b.B))
	}
	in.w += copy(in.b.B[in.w:], p)
}

// scan finds the end of a head line by line, so that no octet is looked at
// twice however slowly it arrives. All offsets count from input.r.
type scan struct {
	pos   int // scanned so far
	line  int // start of the current line
	lines int
	first int // end of the first line, without CRLF; 0 until it is complete
}

// limits of a head.
type limits struct {
	head, fields, line int
}

// next looks at p, all that is buffered. It returns the length of the head with
// its empty line, or 0 if more is needed. trailer is set for a field section
// without a start line.
func (s *scan) next(p []byte, l *limits, trailer bool) (int, *ProtocolError) {
	for {
		i := bytes.IndexByte(p[s.pos:], '\n')
		if i < 0 {
			s.pos = len(p)
			if s.lines == 0 && !trailer && len(p) > l.line+2 {
				return 0, errLine
			}
			if len(p) > l.head {
				return 0, errHead
			}
			return 0, nil
		}
		i += s.pos
		if i == 0 || p[i-1] != '\r' {
			return 0, errBareLF
		}
		s.pos = i + 1
		if i-1 == s.line {
			if s.pos > l.head {
				return 0, errHead
			}
			return s.pos, nil
		}
		if s.lines++; s.lines == 1 && !trailer {
			if s.first = i - 1; s.first > l.line {
				return 0, errLine
			}
		}
		if fields := s.lines; (trailer && fields > l.fields) || fields > l.fields+1 {
			return 0, errFields
		}
		s.line = i + 1
	}
}
