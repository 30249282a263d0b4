package h2

import (
	"bytes"
	"crypto/tls"
	"errors"
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
	if n, err := k.Flush(); n != 7 || err != nil {
		t.Fatalf("%d records: %v", n, err)
	}
	// Seven records, in one write, or two when they do not fit the buffer.
	if n := cc.writes - before; n > 2 {
		t.Errorf("%d writes", n)
	}
	if _, err := k.Flush(); err != nil || k.buf != nil {
		t.Errorf("second flush: %v", err)
	}
	tc.CloseWrite()
	if !bytes.Equal(<-got, msg) {
		t.Error("bytes differ")
	}
	ts.Close()
}

// Of a flush of several records on a connection that breaks, those that it did not
// take whole are unsent.
func TestCorkBroken(t *testing.T) {
	const full = tlsRecord + 5 + 1 + 16 // header, content type, tag of AES-GCM (RFC 8446 section 5.2)
	for _, tt := range []struct {
		name  string
		takes int
		want  int
	}{
		{"nothing", 0, 0},
		{"a part of the first", full - 1, 0},
		{"one", full, tlsRecord},
		{"one and a half", full + full/2, tlsRecord},
		{"two", 2 * full, 2 * tlsRecord},
		{"all but the last byte", 2*full + 99 + 5 + 1 + 16 - 1, 2 * tlsRecord},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := tcpPair(t)
			wire := &breaking{Conn: a}
			tc := tls.Client(NewCork(wire), clientTLS())
			defer tc.Close()
			ts := tls.Server(b, serverTLS())
			defer b.Close()
			shaken := make(chan error, 1)
			go func() { shaken <- ts.Handshake() }()
			if err := errors.Join(tc.Handshake(), <-shaken); err != nil {
				t.Fatal(err)
			}
			c := newConn(tc, Config{})
			wire.breakAfter(tt.takes)
			if n, err := c.writeOut(make([]byte, 2*tlsRecord+99)); n != tt.want || !errors.Is(err, errBroken) {
				t.Errorf("%d bytes: %v, want %d", n, err, tt.want)
			}
		})
	}
}
