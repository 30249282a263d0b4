package h2

import (
	"encoding/binary"
	"runtime"
	"time"

	"golang.org/x/net/http2"
)

// Frames are appended to wbuf under c.mu. Whoever wants them out calls flush,
// which leaves them to a flush under way, or kick, which never blocks.

func appendFrameHeader(b []byte, n int, t http2.FrameType, f http2.Flags, id uint32) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(f),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// grow makes room for n more bytes in wbuf. An empty one starts as large as the last
// flush was, so that frames that gather are not copied from size to size. c.mu is
// held.
func (c *Conn) grow(n int) {
	if c.wbuf == nil {
		n = max(n, min(c.flushSize, largeBuf))
	}
	c.wbuf = growBuf(c.wbuf, n)
}

// appendControl appends a small frame. It closes the connection when too many
// wait for a peer that does not read. c.mu is held.
func (c *Conn) appendControl(t http2.FrameType, f http2.Flags, id uint32, payload ...byte) {
	if c.state == stateClosed {
		return
	}
	// WINDOW_UPDATE answers DATA that was consumed, of which an unread connection
	// gets no more than its windows.
	if t != http2.FrameWindowUpdate {
		c.control++
	}
	if c.control > maxControl {
		c.closeLocked(&ConnError{Code: http2.ErrCodeEnhanceYourCalm, Reason: "control frames pile up unread"})
		return
	}
	c.grow(frameHeaderLen + len(payload))
	c.wbuf = appendFrameHeader(c.wbuf, len(payload), t, f, id)
	c.wbuf = append(c.wbuf, payload...)
}

func be32(v uint32) (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], v)
	return b
}

func (c *Conn) appendSettings(list []http2.Setting) {
	c.grow(frameHeaderLen + 6*len(list))
	c.wbuf = appendFrameHeader(c.wbuf, 6*len(list), http2.FrameSettings, 0, 0)
	for _, s := range list {
		c.wbuf = binary.BigEndian.AppendUint16(c.wbuf, uint16(s.ID))
		c.wbuf = binary.BigEndian.AppendUint32(c.wbuf, s.Val)
	}
}

func (c *Conn) appendWindowUpdate(id, n uint32) {
	b := be32(n)
	c.appendControl(http2.FrameWindowUpdate, 0, id, b[:]...)
}

func (c *Conn) appendReset(id uint32, code http2.ErrCode) {
	b := be32(uint32(code))
	c.appendControl(http2.FrameRSTStream, 0, id, b[:]...)
}

func (c *Conn) appendPing(ack bool, data [8]byte) {
	var f http2.Flags
	if ack {
		f = http2.FlagPingAck
	}
	c.appendControl(http2.FramePing, f, 0, data[:]...)
}

func (c *Conn) appendGoAway(last uint32, code http2.ErrCode, debug string) {
	p := make([]byte, 0, 8+len(debug))
	p = binary.BigEndian.AppendUint32(p, last)
	p = binary.BigEndian.AppendUint32(p, uint32(code))
	c.appendControl(http2.FrameGoAway, 0, 0, append(p, debug...)...)
}

func (c *Conn) appendData(id uint32, p []byte, end bool) {
	var f http2.Flags
	if end {
		f = http2.FlagDataEndStream
	}
	c.grow(frameHeaderLen + len(p))
	c.wbuf = appendFrameHeader(c.wbuf, len(p), http2.FrameData, f, id)
	c.wbuf = append(c.wbuf, p...)
}

// flush writes out what is buffered, unless a flush is under way: that one takes
// it along. c.mu is held, and released while the network is written.
func (c *Conn) flush() {
	if c.flushing || len(c.wbuf) == 0 || c.state == stateClosed {
		return
	}
	c.flushing = true
	c.watchStall()
	for round := 0; len(c.wbuf) > 0 && c.state != stateClosed; round++ {
		if round == maxFlushRounds {
			go c.flushRest()
			return
		}
		if len(c.wbuf) < gatherBelow && len(c.streams) > 1 {
			c.mu.Unlock()
			for range gatherYields {
				runtime.Gosched()
			}
			c.mu.Lock()
			if c.state == stateClosed {
				break
			}
		}
		c.flushOnce()
	}
	c.endFlush()
}

// flushRest carries on for a flusher that has done its share.
func (c *Conn) flushRest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.wbuf) > 0 && c.state != stateClosed {
		c.flushOnce()
	}
	c.endFlush()
}

func (c *Conn) endFlush() {
	c.flushing = false
	c.flushed.Broadcast()
}

func (c *Conn) flushOnce() {
	buf := c.wbuf
	c.wbuf, c.control, c.flushSize = nil, 0, len(buf)
	if c.roomWaiters > 0 {
		c.room.Broadcast()
	}
	c.wakeWaiter() // there is room again: let the next writer fill it meanwhile
	c.taken += int64(len(buf))
	c.mu.Unlock()
	n, err := c.writeOut(buf)
	c.mu.Lock()
	c.flushSeq++
	c.handed += int64(n)
	if err != nil {
		c.noteUnsent(buf, n)
		c.closeLocked(below(err))
	}
	putBuf(buf)
}

// tlsRecord is the most that one TLS record carries (RFC 8446 section 5.1).
const tlsRecord = 16 << 10

// writeOut returns how many bytes may have left: on TLS those of whole records,
// since a part of one means nothing to the peer.
func (c *Conn) writeOut(buf []byte) (int, error) {
	if c.cork == nil || len(buf) <= tlsRecord {
		return c.nc.Write(buf)
	}
	c.cork.Hold()
	_, err := c.nc.Write(buf)
	records, ferr := c.cork.Flush()
	if err == nil {
		err = ferr
	}
	if err == nil {
		return len(buf), nil
	}
	// Every record but the last is full; one that is not counts as if it were.
	return min(len(buf), records*tlsRecord), err
}

// kick has the buffer flushed without blocking the caller. The reader uses it:
// were it to wait for the network, two peers could wait for each other.
func (c *Conn) kick() {
	if c.flushing || len(c.wbuf) == 0 || c.state == stateClosed {
		return
	}
	c.flushing = true
	c.watchStall()
	go c.flushRest()
}

// watchStall arms the check for a flush that makes no progress. One timer per
// busy connection, none for an idle one. c.mu is held.
func (c *Conn) watchStall() {
	if c.stallArmed {
		return
	}
	c.stallArmed = true
	c.stallSeq, c.stallSeen = c.flushSeq, 0
	if c.stall == nil {
		c.stall = time.AfterFunc(c.stallPeriod(), c.checkStall)
	} else {
		c.stall.Reset(c.stallPeriod())
	}
}

// A flush is given up when two checks see it: between one and one and a half
// times the keepalive timeout.
func (c *Conn) stallPeriod() time.Duration { return c.cfg.KeepaliveTimeout / 2 }

func (c *Conn) checkStall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateClosed {
		return
	}
	switch {
	case !c.flushing:
		c.stallArmed = false
		return
	case c.flushSeq != c.stallSeq:
		c.stallSeq, c.stallSeen = c.flushSeq, 0
	default:
		c.stallSeen++
		if c.stallSeen == 2 {
			c.closeLocked(&ConnError{Code: http2.ErrCodeEnhanceYourCalm, Reason: "peer does not read"})
			return
		}
	}
	c.stall.Reset(c.stallPeriod())
}

// A waitList is the queue of streams that wait for the connection: for room in
// the buffer or for its send window. First come, first served, a frame at a time.
type waitList struct{ head, tail *Stream }

func (l *waitList) push(s *Stream) {
	s.queued = true
	s.wprev, s.wnext = l.tail, nil
	if l.tail != nil {
		l.tail.wnext = s
	} else {
		l.head = s
	}
	l.tail = s
}

func (l *waitList) remove(s *Stream) {
	if !s.queued {
		return
	}
	if s.wprev != nil {
		s.wprev.wnext = s.wnext
	} else {
		l.head = s.wnext
	}
	if s.wnext != nil {
		s.wnext.wprev = s.wprev
	} else {
		l.tail = s.wprev
	}
	s.queued, s.wprev, s.wnext = false, nil, nil
}

// wakeWaiter lets the first waiting stream on if the connection has room and
// window for it; that stream lets the next one on. c.mu is held.
func (c *Conn) wakeWaiter() {
	if s := c.waiters.head; s != nil && c.turns == 0 && len(c.wbuf) < maxBuffered && c.sendWin > 0 {
		c.waiters.remove(s)
		s.turn = true
		c.turns++
		s.wcond.Signal()
	}
}
