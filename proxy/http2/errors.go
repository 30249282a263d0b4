package http2

import (
	"errors"
	"io"
	"os"

	xhttp2 "golang.org/x/net/http2"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/proxy/codec"
)

var (
	errUpgrade = errors.New("http2: an upgrade cannot pass HTTP/2")
	errOrder   = errors.New("http2: written out of order")
	errField   = errors.New("http2: field cannot be sent")
	errHead    = errors.New("http2: malformed head")
)

// mapError turns what the engine says into a codec.Error. begun tells whether
// any of the peer's message had come.
func mapError(err error, begun bool) error {
	var se *h2.StreamError
	var ce *h2.ConnError
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &codec.Error{Kind: codec.Timeout, Err: err}
	case errors.As(err, &se):
		return streamError(se)
	case errors.Is(err, h2.ErrReleased):
		return &codec.Error{Kind: codec.Aborted, Err: err}
	case errors.Is(err, h2.ErrHeadOrder), errors.Is(err, h2.ErrWriteEnded):
		return &codec.Error{Kind: codec.Protocol, Err: err}
	case errors.As(err, &ce) && !ce.Remote && ce.Code != xhttp2.ErrCodeNo:
		// This side ended the connection for what the peer sent.
		return &codec.Error{Kind: codec.Protocol, Remote: true, Code: uint32(ce.Code), Err: err}
	}
	k := codec.ConnClosed
	if begun {
		k = codec.Truncated
	}
	return &codec.Error{Kind: k, Remote: true, Err: err}
}

func streamError(se *h2.StreamError) error {
	e := &codec.Error{Kind: codec.Reset, Remote: se.Remote, Code: uint32(se.Code), Err: se}
	switch {
	case se.Unprocessed:
		e.Kind = codec.Refused
	case se.Remote:
	case se.Code == xhttp2.ErrCodeCancel, se.Code == xhttp2.ErrCodeNo, se.Code == xhttp2.ErrCodeInternal, se.Code == xhttp2.ErrCodeRefusedStream:
		e.Kind = codec.Aborted
	default:
		// The engine resets a stream of its own accord only for what came on it.
		e.Kind, e.Remote = codec.Protocol, true
	}
	return e
}

// openError is for a head that could not be sent: the peer saw nothing.
func openError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &codec.Error{Kind: codec.Timeout, Err: err}
	}
	return &codec.Error{Kind: codec.Refused, Err: err}
}

func localError(err error) error { return &codec.Error{Kind: codec.Protocol, Err: err} }

// abortCode maps the reason of an Abort to what RST_STREAM says.
func abortCode(err error) xhttp2.ErrCode {
	switch {
	case errors.Is(err, codec.AbortNoError):
		return xhttp2.ErrCodeNo
	case errors.Is(err, codec.AbortInternal):
		return xhttp2.ErrCodeInternal
	case errors.Is(err, codec.AbortRefused):
		return xhttp2.ErrCodeRefusedStream
	}
	return xhttp2.ErrCodeCancel
}

func flags(f codec.Flags) (out h2.Flags) {
	if f&codec.End != 0 {
		out |= h2.End
	}
	if f&codec.More != 0 {
		out |= h2.More
	}
	return out
}
