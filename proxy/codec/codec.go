package codec

import (
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// Version of HTTP that a head came in.
type Version uint8

const (
	HTTP10 Version = 10
	HTTP11 Version = 11
	HTTP2  Version = 20
)

// Body lengths that are no byte count.
const (
	LengthUnknown int64 = -1 // chunked, close-delimited or HTTP/2 without content-length
	LengthNone    int64 = 0
)

// RequestHead is a request line and its fields. Hop-by-hop fields (connection,
// keep-alive, proxy-connection, te other than trailers, transfer-encoding,
// upgrade, and those that Connection names) are already removed; what they said
// stands in the fields below. Host is Authority and not among Fields.
type RequestHead struct {
	Method    string
	Scheme    string // "http" unless the peer said otherwise
	Authority string
	Target    string // path and query as sent; "*" for OPTIONS *
	Fields    []attrs.Field
	Length    int64 // of the body: count, LengthNone or LengthUnknown
	Version   Version
	Close     bool   // the client will close
	Expect    bool   // expect: 100-continue (kept out of Fields)
	Upgrade   string // "websocket" when an upgrade is asked for, else empty
	Trailers  bool   // te: trailers
}

// ResponseHead is a status and its fields, cleaned like a RequestHead.
type ResponseHead struct {
	Status  int
	Fields  []attrs.Field
	Length  int64 // LengthNone also for HEAD, 204, 304 (then content-length stays among Fields)
	Version Version
	Close   bool   // the connection ends behind it
	Upgrade string // with status 101
}

// Flags of a write.
type Flags uint8

const (
	End  Flags = 1 << iota // the message ends behind this
	More                   // another write follows at once: do not flush yet
)

// Server is one request being answered.
type Server interface {
	Head() *RequestHead
	Read(p []byte) (int, error) // request body; io.EOF at its end
	Trailers() []attrs.Field    // of the request, after io.EOF
	WriteHead(h *ResponseHead, f Flags) error
	WriteBody(p []byte, f Flags) error
	WriteTrailers(t []attrs.Field) error // ends the message
	// Abort ends the exchange in the middle: RST_STREAM, or the connection closes.
	Abort(err error)
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Received() int64 // body bytes so far, as on the wire
	Sent() int64
}

// Client is one request being sent to a backend.
type Client interface {
	WriteHead(h *RequestHead, f Flags) error
	WriteBody(p []byte, f Flags) error
	WriteTrailers(t []attrs.Field) error
	ReadHead() (*ResponseHead, error) // every 1xx, then the final one
	Read(p []byte) (int, error)
	Trailers() []attrs.Field
	Abort(err error) // the exchange is given up; its connection or stream is not reused
	// Release returns the connection to its pool if it can serve again.
	Release()
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Sent() int64 // bytes written, heads included: 0 means the backend saw no whole head
}

// Raw is a byte stream left when an upgrade succeeded. Both Server and Client of
// HTTP/1 have Hijack() Raw; HTTP/2 has none (its upgrades are refused).
type Raw interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	CloseWrite() error
	Close() error
	SetDeadline(t time.Time) error
}
