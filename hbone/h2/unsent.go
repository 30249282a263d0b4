package h2

import (
	"bytes"

	"golang.org/x/net/http2"
)

// A connection that breaks takes bytes with it that were written to its streams
// and never left: those that waited for a flush, and the records that the socket
// did not take. Whoever wrote them may write them elsewhere. The account is made
// when a connection breaks and costs nothing before.

// unsenter is a connection that can tell how many of the bytes written to it last
// never left: a tunnel, on which HTTP/2 runs once more.
type unsenter interface{ Unsent() int64 }

var clientPreface = []byte(http2.ClientPreface)

// noteUnsent adds up the DATA of whole frames in buf from offset on. c.mu is held.
func (c *Conn) noteUnsent(buf []byte, from int) {
	off := 0
	if bytes.HasPrefix(buf, clientPreface) {
		off = len(clientPreface)
	}
	for off+frameHeaderLen <= len(buf) {
		h := buf[off:]
		n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		if off >= from && http2.FrameType(h[3]) == http2.FrameData {
			id := uint32(h[5])<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])
			if c.unsent == nil {
				c.unsent = make(map[uint32]int64)
			}
			c.unsent[id] += int64(n)
		}
		off += frameHeaderLen + n
	}
}

// settled waits until it is known what became of the last bytes, and reports
// whether the connection broke. c.mu is held.
func (c *Conn) settled() bool {
	if c.state == stateOpen || c.state == stateEnding && c.err == nil {
		return false
	}
	for c.flushing || c.state == stateEnding && len(c.wbuf) > 0 {
		c.flushed.Wait()
	}
	return true
}

// Unsent returns how many of the DATA bytes written last have never left, on a
// connection that broke; 0 on one that lives. What it does not count may have left.
func (s *Stream) Unsent() int64 {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.settled() {
		return 0
	}
	return c.unsent[s.id]
}

// HeadUnsent reports whether the connection broke before the head of a request that
// was opened on it had left whole: nothing can have acted on a part of one.
func (s *Stream) HeadUnsent() bool {
	c := s.c
	c.mu.Lock()
	if !c.settled() {
		c.mu.Unlock()
		return false
	}
	handed := c.handed
	c.mu.Unlock()
	if u, ok := c.nc.(unsenter); ok {
		handed -= u.Unsent()
	}
	return s.headEnd > handed
}
