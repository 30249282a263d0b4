package hbone

import (
	"crypto/x509"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

// ErrAnswered is returned by Accept and Refuse of a tunnel that is answered.
var ErrAnswered = errors.New("hbone: tunnel is already answered")

// link is what the tunnels of one connection share. Fixed once it is up.
type link struct {
	peer      attrs.Principal
	chain     []*x509.Certificate // the peer's, leaf first
	own       *identity.SVID      // what we showed, or an older one
	peerAddr  netip.AddrPort
	localAddr netip.AddrPort
}

// States of a tunnel's answer.
const (
	unanswered uint32 = iota
	accepted
	refused
)

// Tunnel is one CONNECT stream: a byte stream between two workloads. Whoever
// holds it calls Close in the end, also after Reset; the tunnels that a server
// hands to its [Handler] are closed when that returns.
type Tunnel struct {
	// Fixed before the tunnel is handed out.
	st        *h2.Stream
	link      *link
	head      *h2.Head // CONNECT on the server, its answer on the client
	authority string
	host      string
	addr      netip.AddrPort
	port      uint16
	server    *Server   // nil on the client
	conn      *poolConn // nil on the server

	state  atomic.Uint32
	closed atomic.Bool // its slot is given back

	moved int64 // guarded by conn.pool.mu: bytes at the last sample
}

// Peer is the authenticated identity of the other end.
func (t *Tunnel) Peer() attrs.Principal { return t.link.peer }

// PeerAddr is the other end of the HBONE connection. As seen by a server it is
// the client pod's address, which ztunnel spoofs.
func (t *Tunnel) PeerAddr() netip.AddrPort { return t.link.peerAddr }

// LocalAddr is our end of the HBONE connection.
func (t *Tunnel) LocalAddr() netip.AddrPort { return t.link.localAddr }

// Authority is the CONNECT authority as sent.
func (t *Tunnel) Authority() string { return t.authority }

// Dest is the parsed authority: addr is valid, or host is set. The port is set
// in either case.
func (t *Tunnel) Dest() (addr netip.AddrPort, host string, port uint16) {
	return t.addr, t.host, t.port
}

// Header returns the first field called name (lower case) of the CONNECT, or on
// the client of its answer; empty if there is none. Never a ground for a
// decision: only the certificate is authenticated.
func (t *Tunnel) Header(name string) string {
	for i := range t.head.Fields {
		if t.head.Fields[i].Name == name {
			return t.head.Fields[i].Value
		}
	}
	return ""
}

// Accept answers 200.
func (t *Tunnel) Accept() error {
	if !t.state.CompareAndSwap(unanswered, accepted) {
		return ErrAnswered
	}
	return t.st.WriteHead(&h2.Head{Status: 200}, 0)
}

// Refuse answers with status (400, 403, 404 or 503) and ends the stream. It is
// logged and counted.
func (t *Tunnel) Refuse(status int) error { return t.RefuseReason(status, "") }

// RefuseReason is Refuse with a reason for the log; the peer does not see it.
func (t *Tunnel) RefuseReason(status int, reason string) error {
	if !t.state.CompareAndSwap(unanswered, refused) {
		return ErrAnswered
	}
	t.server.refused(t, status, reason)
	return t.st.WriteHead(&h2.Head{Status: status}, h2.End)
}

// Draining is closed when the connection below takes no more tunnels: shutdown,
// age, changed roots, the peer's GOAWAY, or its end.
func (t *Tunnel) Draining() <-chan struct{} { return t.st.Conn().Draining() }

// Read implements io.Reader; io.EOF is the peer's half close.
func (t *Tunnel) Read(p []byte) (int, error) { return t.st.Read(p) }

// WriteTo implements io.WriterTo without copying: w is lent received chunks.
func (t *Tunnel) WriteTo(w io.Writer) (int64, error) { return t.st.WriteTo(w) }

// Write implements io.Writer.
func (t *Tunnel) Write(p []byte) (int, error) { return t.st.Write(p) }

// WriteMore implements [Conn].
func (t *Tunnel) WriteMore(p []byte) (int, error) { return t.st.WriteData(p, h2.More) }

// CloseWrite sends our half close (END_STREAM).
func (t *Tunnel) CloseWrite() error { return t.st.CloseWrite() }

// Reset aborts both ways, as a TCP RST does (CONNECT_ERROR, RFC 9113 section
// 8.5).
func (t *Tunnel) Reset() {
	t.st.Reset(http2.ErrCodeConnect)
	t.giveBack()
}

// Close ends the tunnel. A side still open is reset with CANCEL, which ztunnel
// takes for a clean end.
func (t *Tunnel) Close() error {
	err := t.st.Close()
	t.giveBack()
	return err
}

func (t *Tunnel) giveBack() {
	if t.conn != nil && t.closed.CompareAndSwap(false, true) {
		t.conn.ended(t)
	}
}

// SetDeadline implements [Conn].
func (t *Tunnel) SetDeadline(d time.Time) error { return t.st.SetDeadline(d) }

// SetReadDeadline implements [Conn].
func (t *Tunnel) SetReadDeadline(d time.Time) error { return t.st.SetReadDeadline(d) }

// SetWriteDeadline implements [Conn].
func (t *Tunnel) SetWriteDeadline(d time.Time) error { return t.st.SetWriteDeadline(d) }

// BytesReceived counts payload bytes from the peer.
func (t *Tunnel) BytesReceived() int64 { return t.st.BytesReceived() }

// BytesSent counts payload bytes to the peer.
func (t *Tunnel) BytesSent() int64 { return t.st.BytesSent() }

// Unsent counts the payload bytes written last that never left, once the
// connection below broke; 0 before. They may be written elsewhere.
func (t *Tunnel) Unsent() int64 { return t.st.Unsent() }

// String names the tunnel in logs.
func (t *Tunnel) String() string {
	return t.link.peer.URI + " -> " + strconv.Quote(t.authority)
}
