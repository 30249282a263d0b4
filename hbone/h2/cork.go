package h2

import (
	"encoding/binary"
	"net"
	"sync"
)

// A Cork gathers the records that a tls.Conn above it writes. crypto/tls writes
// each record (at most 16 KiB) with a system call of its own; the engine holds
// the cork for a flush of several records and lets them go with one.
//
//	tc := tls.Server(h2.NewCork(nc), cfg)
//	conn := h2.NewServer(tc, h2cfg, handler)
//
// Outside of a hold it writes through, so handshakes and alerts are not delayed.
// It keeps no buffer while it does.
type Cork struct {
	net.Conn

	mu      sync.Mutex
	held    bool
	buf     []byte
	records int // of the hold, as far as they left whole
}

// NewCork returns a Cork on nc, not held.
func NewCork(nc net.Conn) *Cork { return &Cork{Conn: nc} }

// Hold makes Write gather until Flush.
func (k *Cork) Hold() {
	k.mu.Lock()
	k.held, k.records = true, 0
	k.mu.Unlock()
}

// Write writes p, or keeps a copy of it during a hold.
func (k *Cork) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.held {
		return k.Conn.Write(p)
	}
	if len(k.buf) > 0 && len(k.buf)+len(p) > largeBuf {
		if err := k.out(); err != nil {
			return 0, err
		}
	}
	k.buf = append(growBuf(k.buf, max(len(p), midBuf+1)), p...)
	return len(p), nil
}

// Flush ends a hold and writes what it gathered. records is how many of the TLS
// records of the hold the connection took whole.
func (k *Cork) Flush() (records int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = false
	if len(k.buf) > 0 {
		err = k.out()
	}
	return k.records, err
}

func (k *Cork) out() error {
	n, err := k.Conn.Write(k.buf)
	k.records += wholeRecords(k.buf[:n])
	putBuf(k.buf)
	k.buf = nil
	return err
}

// wholeRecords counts the TLS records in b, by the lengths in their headers (RFC
// 8446 section 5.1).
func wholeRecords(b []byte) (n int) {
	const header = 5
	for len(b) >= header {
		size := header + int(binary.BigEndian.Uint16(b[3:]))
		if len(b) < size {
			break
		}
		b = b[size:]
		n++
	}
	return n
}

// CloseWrite closes the writing side of the connection below, if it can.
func (k *Cork) CloseWrite() error {
	if cw, ok := k.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// Corked returns k, also for a type that embeds it.
func (k *Cork) Corked() *Cork { return k }

// corkOf returns the Cork that nc (a tls.Conn) runs on.
func corkOf(nc net.Conn) *Cork {
	if u, ok := nc.(interface{ NetConn() net.Conn }); ok {
		if k, ok := u.NetConn().(interface{ Corked() *Cork }); ok {
			return k.Corked()
		}
	}
	return nil
}
