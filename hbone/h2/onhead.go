package h2

import (
	"encoding/binary"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/internal/attrs"
)

// payload returns the n bytes of a frame's payload: a view of the read buffer if
// they are all there, else a copy that done gives back.
func (c *Conn) payload(n int) (p, own []byte, err error) {
	if p = c.rd.take(n); p != nil {
		return p, nil, nil
	}
	own = getBuf(n)[:n]
	if err = c.rd.full(own); err != nil {
		putBuf(own)
		return nil, nil, err
	}
	return own, own, nil
}

// maxHeadersExtra is what a HEADERS frame may hold besides its fragment: the pad
// length, a priority and padding (RFC 9113 section 6.2).
const maxHeadersExtra = 1 + 5 + 255

func (c *Conn) onHeaders(fh http2.FrameHeader) error {
	if fh.StreamID == 0 {
		return connErr(http2.ErrCodeProtocol, "HEADERS on stream 0")
	}
	if int(fh.Length) > c.maxBlock+maxHeadersExtra {
		return connErr(http2.ErrCodeEnhanceYourCalm, "header block too large")
	}
	p, own, err := c.payload(int(fh.Length))
	if err != nil {
		return err
	}
	defer putBuf(own)
	pad := 0
	if fh.Flags.Has(http2.FlagHeadersPadded) {
		if len(p) < 1 {
			return connErr(http2.ErrCodeFrameSize, "HEADERS too short")
		}
		pad, p = int(p[0]), p[1:]
	}
	c.beginHead(fh.StreamID, fh.Flags.Has(http2.FlagHeadersEndStream))
	if fh.Flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return connErr(http2.ErrCodeFrameSize, "HEADERS too short")
		}
		c.asm.selfDep = binary.BigEndian.Uint32(p)&maxStreamID == fh.StreamID
		p = p[5:]
	}
	if pad > len(p) {
		return connErr(http2.ErrCodeProtocol, "padding longer than the frame")
	}
	return c.onFragment(p[:len(p)-pad], fh.Flags.Has(http2.FlagHeadersEndHeaders))
}

// onContinuation takes more of a head; the framer has checked that it is due.
func (c *Conn) onContinuation(fh http2.FrameHeader) error {
	a := &c.asm
	a.frames++
	if a.frames > maxContinuations+c.maxBlock/minMaxFrame {
		return connErr(http2.ErrCodeEnhanceYourCalm, "too many CONTINUATION frames")
	}
	if a.bytes+int(fh.Length) > c.maxBlock {
		return connErr(http2.ErrCodeEnhanceYourCalm, "header block too large")
	}
	p, own, err := c.payload(int(fh.Length))
	if err != nil {
		return err
	}
	defer putBuf(own)
	return c.onFragment(p, fh.Flags.Has(http2.FlagContinuationEndHeaders))
}

func (c *Conn) onFragment(p []byte, last bool) error {
	a := &c.asm
	a.bytes += len(p)
	if a.bytes > c.maxBlock {
		return connErr(http2.ErrCodeEnhanceYourCalm, "header block too large")
	}
	if len(p) == 0 && !last {
		if err := c.glitch("empty header frames"); err != nil {
			return err
		}
	}
	if _, err := c.dec.Write(p); err != nil {
		return connErr(http2.ErrCodeCompression, err.Error())
	}
	if !last {
		return nil
	}
	if err := c.dec.Close(); err != nil {
		return connErr(http2.ErrCodeCompression, err.Error())
	}
	return c.onHead()
}

// onHead handles a head that is complete and decoded.
func (c *Conn) onHead() error {
	a := &c.asm
	c.mu.Lock()
	s := c.streams[a.id]
	if s == nil {
		defer c.mu.Unlock()
		return c.headWithoutStream()
	}
	c.mu.Unlock()

	s.mu.Lock()
	eof, final := s.eof, s.gotHead
	s.mu.Unlock()
	switch {
	case eof:
		return c.streamErr(a.id, http2.ErrCodeStreamClosed, "HEADERS after the end of stream")
	case a.selfDep:
		return c.streamErr(a.id, http2.ErrCodeProtocol, "stream depends on itself")
	case final:
		return c.onTrailers(s)
	}
	if a.tooLarge {
		return c.streamErr(a.id, http2.ErrCodeEnhanceYourCalm, "response head too large")
	}
	if why := a.checkResponse(); why != "" {
		return c.streamErr(a.id, http2.ErrCodeProtocol, why)
	}
	return c.onResponse(s)
}

// headWithoutStream handles a head for a stream that is not open: a new one, or
// one that has ended. c.mu is held.
func (c *Conn) headWithoutStream() error {
	a := &c.asm
	id := a.id
	if !c.server {
		if id&1 == 0 || id >= c.nextID {
			return connErr(http2.ErrCodeProtocol, "HEADERS on an idle stream")
		}
		return c.late(id, http2.FrameHeaders)
	}
	if id&1 == 0 {
		return connErr(http2.ErrCodeProtocol, "client opened an even stream")
	}
	if id <= c.maxPeerID {
		return c.late(id, http2.FrameHeaders)
	}
	if c.finalGoing {
		return nil // RFC 9113 section 6.8: above the last stream, ignored
	}
	c.maxPeerID = id
	if c.state != stateOpen {
		return nil
	}
	refuse := func(code http2.ErrCode) error {
		c.localResets.add(id)
		c.appendReset(id, code)
		return c.glitch("refused streams")
	}
	// Handlers outlive streams that the peer reset; bounding both bounds the work
	// that a peer can have under way (CVE-2023-44487).
	if uint32(len(c.streams)) >= c.cfg.MaxConcurrentStreams ||
		uint32(c.handlers) >= 2*c.cfg.MaxConcurrentStreams {
		return refuse(http2.ErrCodeRefusedStream)
	}
	if a.selfDep {
		return refuse(http2.ErrCodeProtocol)
	}
	if a.tooLarge {
		// RFC 6585 section 5.
		return c.refuseWith(431, "head too large")
	}
	if why := a.checkRequest(); why != "" {
		if !c.cfg.Connect {
			return refuse(http2.ErrCodeProtocol)
		}
		// RFC 9113 section 8.1.1: an answer may come before the reset.
		c.answerHead(400, why)
		return refuse(http2.ErrCodeProtocol)
	}
	if c.cfg.Connect && a.head.Method != "CONNECT" {
		return c.refuseWith(400, "not a CONNECT") // as ztunnel answers what is none
	}
	s := c.newStream(id)
	c.takeHead(&s.head)
	s.hasHead = true
	s.gotHead = true
	s.tunnel = a.head.Method == "CONNECT"
	if !s.tunnel {
		s.length = a.length
	}
	if a.end {
		if s.length > 0 {
			delete(c.streams, id)
			return refuse(http2.ErrCodeProtocol)
		}
		s.eof, s.peerEnded = true, true
	}
	c.handlers++
	go c.runHandler(s)
	return nil
}

// refuseWith answers a request without troubling the handler. c.mu is held.
func (c *Conn) refuseWith(status int, why string) error {
	a := &c.asm
	c.answerHead(status, why)
	if a.end {
		c.peerEnds.add(a.id)
	} else {
		// RFC 9113 section 8.1: the answer is complete, the rest is not wanted.
		c.localResets.add(a.id)
		c.appendReset(a.id, http2.ErrCodeNo)
	}
	return c.glitch("refused heads")
}

// answerHead answers the head at hand, with nothing behind it. c.mu is held.
func (c *Conn) answerHead(status int, why string) {
	c.appendHead(c.asm.id, &Head{Status: status, Fields: []attrs.Field{{Name: "content-length", Value: "0"}}}, true)
	if c.cfg.Refused != nil {
		c.cfg.Refused(status, why)
	}
}

// late judges a frame on a stream that has ended. c.mu is held.
func (c *Conn) late(id uint32, t http2.FrameType) error {
	switch {
	case c.localResets.has(id):
		return nil // it was under way when we reset the stream
	case c.peerEnds.has(id):
		return connErr(http2.ErrCodeStreamClosed, "frame on a closed stream")
	case c.localResets.full || !c.server:
		// Too long ago to know.
		c.localResets.add(id)
		c.appendReset(id, http2.ErrCodeStreamClosed)
		return c.glitch("frames on closed streams")
	case t == http2.FrameHeaders:
		return connErr(http2.ErrCodeProtocol, "stream id not above the last")
	}
	return connErr(http2.ErrCodeStreamClosed, "frame on a closed stream")
}

// onTrailers handles the second head of a message.
func (c *Conn) onTrailers(s *Stream) error {
	a := &c.asm
	if a.tooLarge {
		return c.streamErr(a.id, http2.ErrCodeEnhanceYourCalm, "trailers too large")
	}
	why := a.checkTrailers()
	if why == "" && s.tunnel {
		why = "trailers in a tunnel" // RFC 9113 section 8.5: only DATA
	}
	if why != "" {
		return c.streamErr(a.id, http2.ErrCodeProtocol, why)
	}
	t := new(Head)
	c.takeHead(t)
	s.mu.Lock()
	s.trailers = t
	s.mu.Unlock()
	return c.endRecv(s)
}

// onResponse handles a response head: interim or final.
func (c *Conn) onResponse(s *Stream) error {
	a := &c.asm
	s.mu.Lock()
	if s.rerr != nil {
		s.mu.Unlock()
		return nil
	}
	h := &s.head
	if s.hasHead {
		h = new(Head)
		s.moreHeads = append(s.moreHeads, h)
		if len(s.moreHeads) > maxPendingHeads {
			s.mu.Unlock()
			return c.streamErr(a.id, http2.ErrCodeEnhanceYourCalm, "interim responses pile up")
		}
	}
	c.takeHead(h)
	s.hasHead = true
	if h.Status >= 200 {
		s.gotHead = true
		switch {
		case s.noBody || h.Status == 204 || h.Status == 304:
			s.length = 0
		case s.tunnel && h.Status < 300:
		default:
			s.tunnel = false // a refused CONNECT is an ordinary response
			s.length = a.length
		}
	}
	s.rcond.Broadcast()
	s.mu.Unlock()
	if a.end {
		return c.endRecv(s)
	}
	return nil
}

// runHandler serves one peer-opened stream on its goroutine.
func (c *Conn) runHandler(s *Stream) {
	defer func() {
		s.endHandler()
		c.mu.Lock()
		c.handlers--
		c.mu.Unlock()
	}()
	c.handler.ServeStream(s)
}
