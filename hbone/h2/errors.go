package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// Errors of [Conn.Open] and of writes.
var (
	// ErrClosed says that the connection has ended.
	ErrClosed = errors.New("h2: connection closed")
	// ErrGoingAway says that the connection takes no new streams: either side
	// sent GOAWAY, or the stream ids ran out.
	ErrGoingAway = errors.New("h2: connection is going away")
	// ErrStreamLimit says that the peer's limit of streams is reached.
	ErrStreamLimit = errors.New("h2: too many streams")
	// ErrReleased is what a stream says after its Close.
	ErrReleased = errors.New("h2: stream released")
	// ErrWriteEnded is a write behind END_STREAM.
	ErrWriteEnded = errors.New("h2: write after end of stream")
	// ErrHeadOrder is a head or DATA written out of turn: DATA before the
	// head, a second final head, trailers without End.
	ErrHeadOrder = errors.New("h2: head written out of order")
)

// A StreamError says why a stream ended before its time.
type StreamError struct {
	Code http2.ErrCode
	// Remote says that the peer reset the stream; else this side did.
	Remote bool
	// Unprocessed says that the peer promised not to have acted on the stream
	// (REFUSED_STREAM, or its id is above that of a GOAWAY): it may be opened
	// again elsewhere, whatever its method.
	Unprocessed bool
	// Reason is a detail for logs; may be empty.
	Reason string
}

func (e *StreamError) Error() string {
	who := "reset"
	if e.Remote {
		who = "reset by peer"
	}
	s := fmt.Sprintf("h2: stream %s: %v", who, e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// A ConnError says why the connection was ended with GOAWAY.
type ConnError struct {
	Code   http2.ErrCode
	Remote bool // the peer sent the GOAWAY
	Reason string
}

func (e *ConnError) Error() string {
	who := "connection error"
	if e.Remote {
		who = "connection ended by peer"
	}
	s := fmt.Sprintf("h2: %s: %v", who, e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// belowError is a [ConnError] of the HTTP/2 connection below this one, where this one
// runs in a tunnel: here it is the end of the network, and nothing to say GOAWAY for.
type belowError string

func (e belowError) Error() string { return string(e) }

// below makes an error of the network of one.
func below(err error) error {
	var ce *ConnError
	if errors.As(err, &ce) {
		return belowError(err.Error())
	}
	return err
}
