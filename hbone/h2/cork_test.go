package h2

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// countingConn counts writes to the network.
type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

func TestCork(t *testing.T) {
	a, b := tcpPair(t)
	defer b.Close()
	cc := &countingConn{Conn: a}
	k := NewCork(cc)
	tc := tls.Client(k, clientTLS())
	defer tc.Close()
	ts := tls.Server(b, serverTLS())
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(ts)
		got <- b
	}()
	if err := tc.Handshake(); err != nil { // passes through
		t.Fatal(err)
	}
	if corkOf(tc) != k || corkOf(a) != nil {
		t.Error("the cork below TLS is not found")
	}
	msg := make([]byte, 100<<10)
	(&pattern{}).Read(msg)
	before := cc.writes
	k.Hold()
	if _, err := tc.Write(msg); err != nil {
		t.Fatal(err)
	}
	if err := k.Flush(); err != nil {
		t.Fatal(err)
	}
	// Seven records, in one write, or two when they do not fit the buffer.
	if n := cc.writes - before; n > 2 {
		t.Errorf("%d writes", n)
	}
	if err := k.Flush(); err != nil || k.buf != nil {
		t.Errorf("second flush: %v", err)
	}
	tc.CloseWrite()
	if !bytes.Equal(<-got, msg) {
		t.Error("bytes differ")
	}
	ts.Close()
}
