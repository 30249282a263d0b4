package hbone

import (
	"errors"
	"syscall"
)

// WaitReadable blocks until Read would return at once; it fails as Read would.
func (t *Tunnel) WaitReadable() error { return t.st.WaitReadable() }

// Readable reports whether Read would return at once, with data, the end or an
// error, whatever the read deadline says.
func (t *Tunnel) Readable() bool { return t.st.Readable() }

// SyscallConn gives the socket of a TCP connection, by which an idle one is
// checked. TLS has none: its socket is readable for its own records.
func (p *Plain) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := p.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
