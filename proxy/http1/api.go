package http1

import (
	"time"
)

// Conn is the byte stream a codec runs on: a tunnel or a plain TCP connection.
//
// Three optional methods are used where a Conn has them: WaitReadable() error
// blocks as Read does (deadline included) until a Read would return at once,
// which lets an idle server connection own no buffer; Readable() bool says the
// same without blocking, which is how an idle client connection learns that its
// peer hung up. A Conn with SyscallConn (TCP) needs neither. A third, Unsent()
// int64, counts the bytes written last that never left a connection that broke.
type Conn interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	CloseWrite() error
	Close() error
	Reset() // aborts both directions
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Defaults of the options.
const (
	DefaultMaxHead    = 60 << 10 // Envoy: max_request_headers_kb
	DefaultMaxHeaders = 100      // Envoy: max_headers_count
	DefaultMaxDrain   = 64 << 10 // unread body that is cheaper to read than a new connection
)

// ServerOptions is fixed for the life of a connection. The zero value of each
// field means the default named beside it.
type ServerOptions struct {
	MaxHead        int           // bytes of request line and fields together (DefaultMaxHead); above: 431
	MaxHeaders     int           // field lines (DefaultMaxHeaders); above: 431
	MaxRequestLine int           // bytes (MaxHead); above: 414
	MaxDrain       int           // bytes of an unread request body read away to keep the connection (DefaultMaxDrain); negative: none
	AllowHTTP10    bool          // else HTTP/1.0 is answered 426, as Envoy does without accept_http_10
	IdleTimeout    time.Duration // between exchanges, until the first byte of a head; 0: none
	HeadTimeout    time.Duration // from the first byte of a head to its last; 0: none. Past it: 408
	Sniffed        []byte        // bytes already read from the Conn; copied
}

// ClientOptions is fixed for the life of a connection.
type ClientOptions struct {
	MaxHead    int // bytes of status line and fields together (DefaultMaxHead)
	MaxHeaders int // field lines (DefaultMaxHeaders)
	// Released is called by Release at the end of every exchange, with whether
	// the connection can serve another one. If not, it is already closed.
	Released func(c *ClientConn, reusable bool)
}

// ProtocolError is a request that cannot be served. The caller answers it with
// WriteError and closes the connection.
type ProtocolError struct {
	Status int    // 400, 408, 414, 426, 431, 501 or 505
	Reason string // a constant, for logs
}

// Error returns the reason.
func (e *ProtocolError) Error() string { return "http1: " + e.Reason }
