package codec

import (
	"errors"
	"fmt"
	"os"
)

// Kind says how an exchange failed, in the terms that response flags and retries
// are decided by.
type Kind uint8

const (
	// Refused: the peer saw nothing of the request that it will act on (HTTP/2
	// REFUSED_STREAM, a stream above the last one of a GOAWAY, no free stream, a
	// connection that was closed before the head went out). Safe to retry for
	// any method.
	Refused Kind = iota + 1
	// Reset: the stream was reset with Error.Code; Error.Remote says by whom.
	Reset
	// Protocol: the peer's bytes break the protocol.
	Protocol
	// ConnClosed: the connection ended before any byte of the response. On a
	// reused connection the usual reason is that the peer had given it up.
	ConnClosed
	// Truncated: the connection ended in the middle of a message.
	Truncated
	// Timeout: a deadline passed. The exchange can only be aborted.
	Timeout
	// Aborted: our own side gave the exchange up (Abort, or the connection was
	// closed under it).
	Aborted
)

var kindNames = [...]string{"unknown", "refused", "reset", "protocol error", "connection closed", "truncated", "timeout", "aborted"}

// String returns words for logs.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[0]
}

// Error is how both codecs report a failed exchange, from every method of
// [Server] and [Client].
type Error struct {
	Kind   Kind
	Remote bool   // the peer did it
	Code   uint32 // HTTP/2 error code (RFC 9113 section 7) of a Reset or Refused
	Status int    // Protocol on the server side: the status to answer; else 0
	Err    error  // the cause; may be nil
}

// Error describes the failure in one line.
func (e *Error) Error() string {
	side := "local"
	if e.Remote {
		side = "remote"
	}
	if e.Err == nil {
		return fmt.Sprintf("%s (%s, code %d)", e.Kind, side, e.Code)
	}
	return fmt.Sprintf("%s (%s, code %d): %v", e.Kind, side, e.Code, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether a deadline passed, as net.Error does.
func (e *Error) Timeout() bool { return e.Kind == Timeout }

// Is matches the sentinels of this package by kind, and os.ErrDeadlineExceeded.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrRefused:
		return e.Kind == Refused
	case ErrTimeout, os.ErrDeadlineExceeded:
		return e.Kind == Timeout
	case ErrProtocol:
		return e.Kind == Protocol
	case ErrConnClosed:
		return e.Kind == ConnClosed
	}
	return false
}

// Sentinels for errors.Is; what is returned is always an [Error].
var (
	ErrRefused    = errors.New("codec: refused, nothing was processed")
	ErrTimeout    = errors.New("codec: deadline passed")
	ErrProtocol   = errors.New("codec: protocol error")
	ErrConnClosed = errors.New("codec: connection closed before a response")
)

// KindOf returns the kind of err, or 0 when it is no [Error].
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}

// Hijacker is a [Server] or [Client] of HTTP/1, whose connection becomes a [Raw]
// stream behind a 101. Hijack is called after the head with status 101 was
// written (server) or read (client); the exchange ends with it.
type Hijacker interface {
	Hijack() Raw
}

// Reasons to Abort with. An HTTP/2 codec sends the code beside each; any other
// error is CANCEL. HTTP/1 closes the connection for all of them.
var (
	AbortCancel   = errors.New("codec: cancelled")               // CANCEL
	AbortInternal = errors.New("codec: internal error")          // INTERNAL_ERROR
	AbortRefused  = errors.New("codec: refused before any work") // REFUSED_STREAM
	AbortNoError  = errors.New("codec: answered early")          // NO_ERROR, after a complete response
)
