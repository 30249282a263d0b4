package http1

import (
	"errors"
	"os"

	"waypoint.dev/waypoint/proxy/codec"
)

func bad(reason string) *ProtocolError { return &ProtocolError{400, reason} }

// All refusals, allocated once.
var (
	errLine        = &ProtocolError{414, "request line too long"}
	errHead        = &ProtocolError{431, "head too large"}
	errFields      = &ProtocolError{431, "too many fields"}
	errHeadTimeout = &ProtocolError{408, "head not complete in time"}
	errOldVersion  = &ProtocolError{426, "HTTP/1.0 not enabled"}
	errVersion     = &ProtocolError{505, "version not supported"}
	errCoding      = &ProtocolError{501, "transfer coding not supported"}

	errBareLF      = bad("bare LF")
	errCutHead     = bad("connection ended inside a head")
	errFirst       = bad("no request")
	errRequestLine = bad("malformed request line")
	errStatusLine  = bad("malformed status line")
	errMethod      = bad("invalid method")
	errTarget      = bad("invalid request target")
	errName        = bad("invalid field name")
	errValue       = bad("invalid field value")
	errHostMissing = bad("no host")
	errHostTwice   = bad("host repeated")
	errHost        = bad("invalid host")
	errLength      = bad("invalid content-length")
	errLengthTwice = bad("content-length repeated")
	errBoth        = bad("content-length and transfer-encoding")
	errTE          = bad("invalid transfer-encoding")
	errTE10        = bad("transfer-encoding in HTTP/1.0")
	errConnection  = bad("invalid connection field")
	// A client that has a proxy drop these has it pass on a request whose host or
	// origin others do not see (Envoy: Http::Utility::sanitizeConnectionHeader).
	errNeeded          = bad("connection names a field that it may not")
	errChunkSize       = bad("invalid chunk size")
	errChunkExt        = bad("invalid or oversized chunk extension")
	errChunkEnd        = bad("chunk not ended by CRLF")
	errSwitch          = bad("101 that was not asked for")
	errHeadOrder       = errors.New("http1: written out of order")
	errLocalLength     = errors.New("http1: body does not match its content-length")
	errLocalField      = errors.New("http1: field cannot be serialized")
	errClosed          = errors.New("http1: connection closed")
	errHeadOrderRemote = bad("too many interim responses")
)

// ioError turns an error of the connection into a codec.Error of kind k, or of
// Timeout, or leaves one alone that already is.
func ioError(err error, k codec.Kind) error {
	var e *codec.Error
	if errors.As(err, &e) {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &codec.Error{Kind: codec.Timeout, Err: err}
	}
	return &codec.Error{Kind: k, Remote: k != codec.Aborted, Err: err}
}

func protocolError(e *ProtocolError) error {
	return &codec.Error{Kind: codec.Protocol, Remote: true, Status: e.Status, Err: e}
}
