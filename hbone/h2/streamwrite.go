package h2

import "errors"

// sendErr says why s cannot send. c.mu is held.
func (s *Stream) sendErr() error {
	switch {
	case s.werr != nil:
		return s.werr
	case s.sendEnded:
		return ErrWriteEnded
	case s.wd.expired:
		return errDeadline
	}
	return nil
}

// WriteHead writes a head. A server writes interim responses (1xx), then the
// final one; either side then writes trailers (neither status nor method) at the
// end of its message, which they end. h is not kept. Heads need no window, so the
// write deadline bounds only the wait for room in the buffer: an answer that came
// as the time ran out is worth more than a reset.
func (s *Stream) WriteHead(h *Head, f Flags) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		full := len(c.wbuf) >= maxBuffered
		if err := s.sendErr(); err != nil && (full || err != errDeadline) {
			return err
		}
		if !full {
			break
		}
		// A relayed chain of interim responses must wait like DATA does.
		if !c.flushing {
			c.flush()
			continue
		}
		if s.wd.wait(s) {
			c.roomWaiters++
			c.room.Wait()
			c.roomWaiters--
			s.wd.waiting--
		}
	}
	trailers := h.Status == 0 && h.Method == ""
	interim := h.Status >= 100 && h.Status < 200
	switch {
	case h.Method != "", trailers != s.headSent, interim && f&End != 0:
		return ErrHeadOrder
	case trailers:
		f |= End
	}
	c.appendHead(s.id, h, f&End != 0)
	if !interim {
		s.headSent = true
	}
	if f&End != 0 {
		s.endSend()
	}
	if f&More == 0 {
		c.flush()
	}
	return nil
}

// endSend notes that END_STREAM was appended. c.mu is held.
func (s *Stream) endSend() {
	s.sendEnded = true
	if s.peerEnded {
		s.c.forget(s, false)
	}
}

// Write writes p as DATA and flushes it. It waits for the peer's windows and for
// room in the connection's buffer; p is not kept.
func (s *Stream) Write(p []byte) (int, error) { return s.WriteData(p, 0) }

// CloseWrite ends our side of the stream. A second call does nothing.
func (s *Stream) CloseWrite() error {
	_, err := s.WriteData(nil, End)
	if errors.Is(err, ErrWriteEnded) {
		err = nil
	}
	return err
}

// WriteData is Write with flags: with More the flush is left to a later write,
// with End the last frame ends our side.
func (s *Stream) WriteData(p []byte, f Flags) (n int, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.sendErr(); err != nil {
		return 0, err
	}
	if !s.headSent {
		return 0, ErrHeadOrder
	}
	turn := false // it is ours among those that waited for the connection
	for n < len(p) {
		switch {
		case s.sendWin <= 0:
			turn, err = s.waitSend(false)
		case c.sendWin <= 0, len(c.wbuf) >= maxBuffered, (c.waiters.head != nil || c.turns > 0) && !turn:
			turn, err = s.waitSend(true)
		default:
			k := int(min(int64(len(p)-n), int64(c.peerMaxFrame), maxDataFrame, s.sendWin, c.sendWin))
			n += k
			last := n == len(p) && f&End != 0
			c.appendData(s.id, p[n-k:n], last)
			s.sendWin -= int64(k)
			c.sendWin -= int64(k)
			c.updates += updatesPerData + int64(k)/bytesPerUpdate
			s.sent.Add(int64(k))
			turn = false
			c.wakeWaiter()
			if last {
				s.endSend()
			}
		}
		if err != nil {
			c.wakeWaiter() // our turn is another's now
			return n, err
		}
	}
	if len(p) == 0 && f&End != 0 {
		c.appendData(s.id, nil, true)
		s.endSend()
	}
	if f&More == 0 || len(c.wbuf) >= maxBuffered/2 {
		c.flush()
	}
	return n, nil
}

// waitSend waits until s may try again to send: for its own window, or in the
// queue for the connection's, which gives it a turn. c.mu is held.
func (s *Stream) waitSend(forConn bool) (turn bool, err error) {
	c := s.c
	if !c.flushing && len(c.wbuf) > 0 {
		c.flush() // what we wait for may depend on what we said
		return false, s.sendErr()
	}
	if forConn {
		c.waiters.push(s)
	}
	c.wakeWaiter()
	if !forConn || s.queued {
		if s.wd.wait(s) {
			s.wcond.Wait()
			s.wd.waiting--
		}
	}
	c.waiters.remove(s)
	if s.turn {
		s.turn, turn = false, true
		c.turns--
	}
	return turn, s.sendErr()
}
