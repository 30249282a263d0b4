package h2

import (
	"golang.org/x/net/http2"
)

// onData reads a DATA frame's payload into the chunks of its stream.
func (c *Conn) onData(fh http2.FrameHeader) error {
	id, n := fh.StreamID, int(fh.Length)
	if id == 0 {
		return connErr(http2.ErrCodeProtocol, "DATA on stream 0")
	}
	end := fh.Flags.Has(http2.FlagDataEndStream)
	c.dataSeen = true
	if c.recvAvail.Add(-int64(n)) < 0 {
		return connErr(http2.ErrCodeFlowControl, "connection window exceeded")
	}
	data, pad := n, 0
	if fh.Flags.Has(http2.FlagDataPadded) {
		if n == 0 {
			return connErr(http2.ErrCodeFrameSize, "DATA too short")
		}
		var p [1]byte
		if err := c.rd.full(p[:]); err != nil {
			return err
		}
		data = n - 1
		if pad = int(p[0]); pad > data {
			return connErr(http2.ErrCodeProtocol, "padding longer than the frame")
		}
		data -= pad
	}
	if data == 0 && !end {
		if err := c.glitch("empty DATA frames"); err != nil {
			return err
		}
	}
	c.mu.Lock()
	s := c.streams[id]
	if s == nil {
		err := c.dataWithoutStream(id)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		return c.discard(data+pad, n)
	}
	c.mu.Unlock()

	taken, code, why := s.admit(&c.rd, n, data, end)
	if code != http2.ErrCodeNo {
		if err := c.discard(data+pad, n); err != nil {
			return err
		}
		return c.streamErr(id, code, why)
	}
	if taken < data {
		more, err := s.fillFrom(&c.rd, data-taken)
		if err != nil {
			return err
		}
		taken += more
	}
	if over := n - taken; over > 0 { // padding, and what a released stream left
		if err := c.discard(data+pad-taken, over); err != nil {
			return err
		}
		c.creditStream(s, over)
	}
	if end {
		return c.endRecv(s)
	}
	c.extendConn()
	return nil
}

// dataWithoutStream judges DATA on a stream that is not open. c.mu is held.
func (c *Conn) dataWithoutStream(id uint32) error {
	idle := id >= c.nextID
	if c.server {
		idle = id > c.maxPeerID
		if idle && c.finalGoing {
			return nil
		}
	}
	if idle || id&1 == 0 {
		return connErr(http2.ErrCodeProtocol, "DATA on an idle stream")
	}
	return c.late(id, http2.FrameData)
}

// discard reads k bytes away and grants the connection n bytes again: what no
// stream can consume must not use up the window of the others.
func (c *Conn) discard(k, n int) error {
	if err := c.rd.skip(k); err != nil {
		return err
	}
	if inc := c.creditConn(n); inc > 0 {
		c.mu.Lock()
		c.appendWindowUpdate(0, inc)
		c.mu.Unlock()
	}
	return nil
}

// admit accounts for a DATA frame of n bytes, data of them payload, and says
// what is wrong with it. Payload that is in the read buffer and fits into the tail
// chunk, as that of small frames does, is taken along: a second turn at the lock,
// which may wait for the consumer, is for what the network still holds.
func (s *Stream) admit(rd *reader, n, data int, end bool) (taken int, code http2.ErrCode, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.eof:
		return 0, http2.ErrCodeStreamClosed, "DATA after the end of stream"
	case !s.gotHead:
		return 0, http2.ErrCodeProtocol, "DATA before the head"
	}
	s.avail -= int64(n)
	if s.avail < 0 {
		return 0, http2.ErrCodeFlowControl, "stream window exceeded"
	}
	got := s.received.Add(int64(data))
	if s.length >= 0 && (got > s.length || end && got < s.length) {
		return 0, http2.ErrCodeProtocol, "DATA does not match content-length"
	}
	if data == 0 || s.released || s.rerr != nil {
		return 0, http2.ErrCodeNo, ""
	}
	p := rd.peek(data)
	if p == nil {
		return 0, http2.ErrCodeNo, ""
	}
	if t := s.tailFor(data); len(t.buf)-t.w >= data {
		t.w += copy(t.buf[t.w:], p)
		rd.r += data
		taken = data
		s.rcond.Signal()
	}
	return taken, http2.ErrCodeNo, ""
}

// tailFor returns a tail chunk with room, for n bytes if it is a new one. s.mu is
// held.
func (s *Stream) tailFor(n int) *chunk {
	t := s.tail
	if t == nil || t.w == len(t.buf) {
		t = getChunk(n)
		if s.tail == nil {
			s.first = t
		} else {
			s.tail.next = t
		}
		s.tail = t
	}
	return t
}

// fillFrom reads n bytes of payload into s and returns how many it kept: all,
// or fewer if nobody will read them any more.
func (s *Stream) fillFrom(rd *reader, n int) (kept int, err error) {
	for kept < n {
		s.mu.Lock()
		if s.released || s.rerr != nil {
			s.mu.Unlock()
			return kept, nil
		}
		t := s.tailFor(n - kept)
		s.filling = true // the consumer must leave the tail alone
		w := t.w
		s.mu.Unlock()

		k := min(n-kept, len(t.buf)-w)
		err = rd.full(t.buf[w : w+k])

		s.mu.Lock()
		s.filling = false
		if err == nil {
			t.w = w + k
			kept += k
		}
		dropped := 0
		if s.released || s.rerr != nil && s.c.localReset(s.rerr) {
			dropped = s.dropChunks()
		}
		s.rcond.Signal()
		s.mu.Unlock()
		s.c.regrant(dropped, false)
		if err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// endRecv marks the peer's side of s as ended.
func (c *Conn) endRecv(s *Stream) error {
	s.mu.Lock()
	short := s.length >= 0 && s.received.Load() != s.length
	if short {
		s.mu.Unlock()
		return c.streamErr(s.id, http2.ErrCodeProtocol, "body shorter than content-length")
	}
	s.eof = true
	s.rcond.Broadcast()
	s.mu.Unlock()
	c.mu.Lock()
	s.peerEnded = true
	s.tellEnd()
	if s.sendEnded {
		c.forget(s, false)
	}
	c.mu.Unlock()
	return nil
}
