package h2

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// A Stream is one exchange or tunnel. One goroutine may read it while another
// writes. Whoever opened it, or the Handler it was given to, ends with Close.
type Stream struct {
	// Fixed at its start.
	c      *Conn
	id     uint32
	noBody bool // answer to HEAD

	received atomic.Int64 // DATA bytes
	sent     atomic.Int64

	// Guarded by c.mu: the sending side.
	sendWin      int64
	headEnd      int64 // of a request: where its head ends in the connection's output
	headSent     bool
	sendEnded    bool
	peerEnded    bool  // END_STREAM came
	tunnel       bool  // CONNECT: no trailers, no content-length
	werr         error // why nothing can be sent any more
	wd           deadline
	wcond        sync.Cond
	queued       bool // in c.waiters
	turn         bool // taken from c.waiters to send next
	wprev, wnext *Stream
	onReset      func() // see OnReset
	onEnd        func() // see OnEnd

	mu sync.Mutex // guards the receiving side; taken after c.mu

	rcond       sync.Cond
	rd          deadline
	first, tail *chunk
	filling     bool // the reader is writing to tail
	lent        bool // WriteTo has lent out first
	eof         bool
	gotHead     bool // the request, or the final response
	hasHead     bool // head was filled
	headRead    bool // ReadHead returned it
	released    bool
	rerr        error
	length      int64 // content-length; -1: any
	window      int64 // receive window
	avail       int64 // what the peer may still send
	unacked     int64 // consumed, not yet granted again
	granted     int64 // when that was last done, as Conn.now
	head        Head
	moreHeads   []*Head
	trailers    *Head
}

// ID returns the stream's number.
func (s *Stream) ID() uint32 { return s.id }

// Conn returns the connection it is on.
func (s *Stream) Conn() *Conn { return s.c }

// BytesReceived counts the payload of DATA received.
func (s *Stream) BytesReceived() int64 { return s.received.Load() }

// BytesSent counts the payload of DATA sent or buffered to be sent.
func (s *Stream) BytesSent() int64 { return s.sent.Load() }

// Head returns the request head on a server, and on a client the first response
// head received, or nil.
func (s *Stream) Head() *Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasHead {
		return nil
	}
	return &s.head
}

// Trailers returns the peer's trailers once Read has said io.EOF; nil if none.
func (s *Stream) Trailers() *Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.eof {
		return nil
	}
	return s.trailers
}

// Err returns a *[StreamError] if the stream was reset by either side, the
// connection's error if that ended it, else nil. A peer that sent its message
// whole and then RST_STREAM with NO_ERROR (RFC 9113 section 8.1) made no error,
// though further writes fail.
func (s *Stream) Err() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if errors.Is(s.werr, ErrReleased) {
		return nil
	}
	var se *StreamError
	if s.peerEnded && errors.As(s.werr, &se) && se.Remote && se.Code == http2.ErrCodeNo {
		return nil
	}
	return s.werr
}

// fail ends both directions with err; what was received stays readable. c.mu is
// held; the stream is no longer among c.streams.
func (s *Stream) fail(err error) {
	if s.werr == nil {
		s.werr = err
	}
	s.tellReset(err)
	s.c.waiters.remove(s)
	s.wcond.Broadcast()
	s.mu.Lock()
	if !s.eof && s.rerr == nil {
		s.rerr = err
	}
	s.rcond.Broadcast()
	s.mu.Unlock()
}

// resetLocked sends RST_STREAM and fails the stream, dropping what it received.
// c.mu is held; the caller has it flushed.
func (s *Stream) resetLocked(err *StreamError) {
	c := s.c
	if c.streams[s.id] != s {
		return
	}
	c.appendReset(s.id, err.Code)
	c.forget(s, true)
	s.fail(err)
	s.mu.Lock()
	if s.rerr == nil {
		s.rerr = err
	}
	n := s.dropChunks()
	s.mu.Unlock()
	if inc := c.creditConn(n); inc > 0 {
		c.appendWindowUpdate(0, inc)
	}
}

// Reset ends the stream at once with RST_STREAM, unless it has ended both ways.
func (s *Stream) Reset(code http2.ErrCode) {
	c := s.c
	c.mu.Lock()
	s.resetLocked(&StreamError{Code: code})
	c.kick()
	c.mu.Unlock()
}

// Close releases the stream. If it is still open in a direction it is reset
// first: with CANCEL, or NO_ERROR by a server whose response is complete. What
// was received and not read is dropped. Closing again does nothing.
func (s *Stream) Close() error {
	code := http2.ErrCodeCancel
	s.release(code)
	return nil
}

// endHandler is Close for a handler that returned.
func (s *Stream) endHandler() { s.release(http2.ErrCodeInternal) }

func (s *Stream) release(code http2.ErrCode) {
	c := s.c
	c.mu.Lock()
	if c.streams[s.id] == s {
		if c.server && s.sendEnded {
			code = http2.ErrCodeNo
		}
		s.resetLocked(&StreamError{Code: code})
		c.kick()
	}
	if s.werr == nil {
		s.werr = ErrReleased
	}
	s.wcond.Broadcast()
	s.wd.stop()
	c.mu.Unlock()

	s.mu.Lock()
	s.released = true
	s.rd.stop()
	s.rcond.Broadcast()
	n := s.dropChunks()
	s.mu.Unlock()
	c.regrant(n, true)
}

// regrant gives the connection's window n bytes back that nobody will read.
func (c *Conn) regrant(n int, flush bool) {
	if n == 0 {
		return
	}
	if inc := c.creditConn(n); inc > 0 {
		c.mu.Lock()
		c.appendWindowUpdate(0, inc)
		if flush {
			c.kick()
		}
		c.mu.Unlock()
	}
}

// dropChunks gives the received bytes back to the pools and returns how many
// they were. While the reader or a borrower uses a chunk it does nothing: they
// call again. s.mu is held.
func (s *Stream) dropChunks() (n int) {
	if s.filling || s.lent {
		return 0
	}
	for k := s.first; k != nil; {
		next := k.next
		n += k.w - k.r
		putChunk(k)
		k = next
	}
	s.first, s.tail = nil, nil
	return n
}

// ReadHead waits for the next response head: any interim ones (1xx), then the
// final one. After that it returns io.EOF.
func (s *Stream) ReadHead() (*Head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.released:
			return nil, ErrReleased
		case s.rd.expired:
			return nil, errDeadline
		case s.hasHead && !s.headRead:
			s.headRead = true
			return &s.head, nil
		case len(s.moreHeads) > 0:
			h := s.moreHeads[0]
			s.moreHeads = s.moreHeads[1:]
			return h, nil
		case s.gotHead:
			return nil, io.EOF
		case s.rerr != nil:
			return nil, s.rerr
		}
		s.waitRead()
	}
}

// waitRead waits for the reader or the read deadline. s.mu is held.
func (s *Stream) waitRead() {
	if !s.rd.wait(s) {
		return
	}
	s.rcond.Wait()
	s.rd.waiting--
}

// waitData waits until there is DATA; it returns io.EOF at the end of the
// peer's message. s.mu is held.
func (s *Stream) waitData() error {
	for {
		switch {
		case s.released:
			return ErrReleased
		case s.rd.expired:
			return errDeadline
		case s.first != nil && s.first.r < s.first.w:
			return nil
		case s.eof:
			return io.EOF
		case s.rerr != nil:
			return s.rerr
		}
		s.waitRead()
	}
}

// trim gives consumed chunks back. s.mu is held.
func (s *Stream) trim() {
	for k := s.first; k != nil && k.r == k.w; k = s.first {
		if k == s.tail {
			if !s.filling {
				s.first, s.tail = nil, nil
				putChunk(k)
			}
			return
		}
		s.first = k.next
		putChunk(k)
	}
}

// Read reads DATA. It returns io.EOF at the end of the peer's message, and what
// was received before a reset comes before its error.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	if err := s.waitData(); err != nil {
		s.mu.Unlock()
		return 0, err
	}
	n := 0
	for k := s.first; n < len(p) && k != nil && k.r < k.w; k = s.first {
		m := copy(p[n:], k.buf[k.r:k.w])
		k.r += m
		n += m
		s.trim()
	}
	inc := s.credit(n)
	s.mu.Unlock()
	s.c.consumed(s, n, inc)
	return n, nil
}

// dataWriter is what WriteTo prefers to write to: it can gather.
type dataWriter interface {
	WriteData(p []byte, f Flags) (int, error)
}

// WriteTo writes received DATA to w until its end, lending w each chunk for the
// length of a Write. If w has a WriteData method (a Stream), chunks that others
// follow are written with More.
func (s *Stream) WriteTo(w io.Writer) (total int64, err error) {
	dw, _ := w.(dataWriter)
	for {
		s.mu.Lock()
		if err := s.waitData(); err != nil {
			s.mu.Unlock()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, err
		}
		k := s.first
		p := k.buf[k.r:k.w]
		var f Flags
		if k.next != nil && k.next.w > 0 {
			f = More
		}
		s.lent = true
		s.mu.Unlock()

		var n int
		if dw != nil {
			n, err = dw.WriteData(p, f)
		} else {
			n, err = w.Write(p)
		}

		s.mu.Lock()
		s.lent = false
		k.r += n
		dropped := 0
		if s.released || s.rerr != nil && s.c.localReset(s.rerr) {
			dropped = s.dropChunks()
		} else {
			s.trim()
		}
		inc := s.credit(n)
		s.mu.Unlock()
		total += int64(n)
		s.c.consumed(s, n+dropped, inc)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}

// localReset says whether err is a reset by this side, after which what was
// received is dropped.
func (c *Conn) localReset(err error) bool {
	var se *StreamError
	return errors.As(err, &se) && !se.Remote
}
