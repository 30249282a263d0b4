package proxy

import "encoding/binary"

// messageCount counts the messages of a gRPC body as it passes: each is five
// bytes, a flag and a length, and that many more (gRPC over HTTP/2,
// "Length-Prefixed-Message").
type messageCount struct {
	n    int64
	left int64   // bytes of the current message still to come
	head [5]byte // of a prefix that is incomplete
	got  int     // bytes of head
}

func (c *messageCount) add(p []byte) {
	for len(p) > 0 {
		if c.left > 0 {
			m := min(c.left, int64(len(p)))
			c.left -= m
			p = p[m:]
			continue
		}
		m := copy(c.head[c.got:], p)
		c.got += m
		p = p[m:]
		if c.got == len(c.head) {
			c.got = 0
			c.n++
			c.left = int64(binary.BigEndian.Uint32(c.head[1:]))
		}
	}
}
